"""A dead letter decided again, or given up, by a person."""

import msgspec

from shared.contracts.dead import DeadLetter, DropDead, ReplayDead
from shared.kernel.errors import NotFound, Rejected, Undecodable
from shared.kernel.messages import Failed, Outcome, Refused
from shared.runtime.dead import DeadLetterBox
from shared.runtime.intake import Intake
from shared.runtime.refusals import Refusals


class Replay:
    """Decides dead letters as the sender they came from: only their own service could have written them."""

    def __init__(self, intake: Intake, dead: DeadLetterBox, refusals: Refusals) -> None:
        self._intake = intake
        self._dead = dead
        self._refusals = refusals

    async def replay(self, query: ReplayDead) -> Outcome:
        """Decide it now. What fails again stays dead, one attempt more."""
        letter = await self._open(query.id)
        try:
            request = self._intake.read(letter.subject, letter.headers, letter.body.encode())
        except Undecodable as error:
            await self._dead.mark(letter, "dead", letter.attempts + 1)
            raise Rejected("still_undecodable", str(error)) from error
        try:
            outcome = await request.handler.handle(
                request.command, request.cause, command_id=request.envelope.id
            )
        except (
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AssertionError,
            msgspec.MsgspecError,
        ) as error:
            await self._dead.mark(letter, "dead", letter.attempts + 1)
            detail = f"{type(error).__name__}: {error}"
            return Failed(command_id=request.envelope.id, dead_letter=letter.id, detail=detail)
        if isinstance(outcome, Refused):
            await self._refusals.record(request, outcome)
        await self._dead.mark(letter, "replayed", letter.attempts + 1)
        return outcome

    async def drop(self, query: DropDead) -> DeadLetter:
        """Give it up."""
        return await self._dead.mark(await self._open(query.id), "dropped")

    async def _open(self, letter_id: str) -> DeadLetter:
        letter = await self._dead.get(letter_id)
        if letter.state != "dead":
            raise NotFound("dead_letter_not_found", f"{letter_id} was {letter.state} already")
        return letter
