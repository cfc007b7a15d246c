"""How the last attempts of each bot ended, and what is to become of its circuit."""

from collections.abc import Collection
from typing import assert_never

from services.orchestrator.decider.bot_state import Up
from services.orchestrator.decider.circuit import Circuit, Closed, HalfOpen, Open
from services.orchestrator.outcomes import Mend, Outcome, Outcomes, Trip, judge, remember
from shared.contracts.words import BotId


class Tally:
    """Of the bots on the board. `verdicts` are on those circuits that are to change."""

    def __init__(self) -> None:
        self.outcomes: dict[BotId, Outcomes] = {}
        self.verdicts: dict[BotId, Trip | Mend] = {}

    def learn(self, bot_id: BotId, news: Outcome) -> bool:
        """An attempt ended; False if that is known."""
        known = self.outcomes.get(bot_id, ())
        now = remember(known, news)
        if now is known:
            return False
        self.outcomes[bot_id] = now
        return True

    def judge(self, bot_id: BotId, circuit: Circuit) -> None:
        """Say anew what is to become of a circuit."""
        verdict = judge(circuit, self.outcomes.get(bot_id, ()))
        if verdict is None:
            self.verdicts.pop(bot_id, None)
        else:
            self.verdicts[bot_id] = verdict

    def forget(self, bot_id: BotId) -> None:
        """The bot is gone, or begins anew."""
        self.outcomes.pop(bot_id, None)
        self.verdicts.pop(bot_id, None)


def room_of(
    bot: Up, tokens: Collection[int], reserved: int, verdict: Trip | Mend | None, *, ours: bool
) -> int:
    """How many more tasks a bot may be given that holds attempts of these tokens."""
    free = bot.spec.slots - len(tokens) - reserved
    match bot.circuit:
        case Closed():
            return free if verdict is None else 0
        case Open():
            return 0
        case HalfOpen():
            # One trial at a time: only its owner gives it one, and only when the last has ended well.
            if not ours or isinstance(verdict, Trip):
                return 0
            trials = sum(token > bot.circuit.since for token in tokens) + reserved
            return min(free, 1 - trials)
        case _:
            assert_never(bot.circuit)
