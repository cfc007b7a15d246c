"""Which bot does a task, and why that one."""

from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime
from heapq import nsmallest
from typing import Final, NamedTuple

from services.orchestrator.board import Board
from services.orchestrator.decider.bot_state import (
    Bot,
    Broken,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
)
from services.orchestrator.decider.circuit import Open
from services.orchestrator.decider.task_state import Waiting
from services.orchestrator.waiting import Place, Wants
from shared.contracts.orchestrator.facts import Candidate, Decision
from shared.contracts.words import BotId, TaskId, TaskType

CANDIDATES_RECORDED_MAX: Final = 5
REQUIREMENTS_REMEMBERED_MAX: Final = 2_000

Score = Callable[[BotId, TaskType], float]
"""What the scheduler thinks of a bot for a type; the higher the better."""

Ready = Callable[[BotId], bool]
"""Whether a bot was heard just now and takes what it is given."""


class Choice(NamedTuple):
    """A task, the bot that is to do it, and why that one."""

    task_id: TaskId
    bot_id: BotId
    decision: Decision


class Capable(NamedTuple):
    """The bots that could do such a task, and how many could not, by reason."""

    bots: frozenset[BotId]
    passed_over: dict[str, int]


def no_opinion(_bot_id: BotId, _kind: TaskType) -> float:
    """The score while no scheduler says otherwise: all are equal."""
    return 0.0


def refusal(bot_id: BotId, bot: Bot, wants: Wants) -> str | None:
    """Why this bot can never do such a task, or cannot now; None if it can."""
    if isinstance(bot, NoBot | Retired):
        return "retired"
    spec = bot.spec
    if wants.bot is not None and wants.bot != bot_id:
        return "another_bot_is_required"
    if wants.engine is not None and wants.engine != spec.engine:
        return "other_engine"
    if wants.pool is not None and wants.pool != spec.pool:
        return "other_pool"
    if spec.types and wants.type not in spec.types:
        return "other_types"
    match bot:
        case Up():
            if bot.silent:
                return "silent"
            return "circuit_open" if isinstance(bot.circuit, Open) else None
        case Starting():
            return "starting"
        case Stopping():
            return "draining"
        case Stopped():
            return "stopped"
        case Restarting():
            return "restarting"
        case Broken():
            return "broken"


class Placement:
    """Chooses for one task, and fills free slots from the lines.

    The best is who has the best score, then the most free slots; names decide a tie, so that the same board
    always
    gives the same choice. The bot of the last failed attempt comes last.
    """

    def __init__(self, board: Board, *, score: Score = no_opinion) -> None:
        self._board = board
        self._score = score
        self._capable: dict[Wants, Capable] = {}
        self._fleet = -1

    def capable(self, wants: Wants) -> Capable:
        """Who could do it, slots and heartbeats aside."""
        if self._fleet != self._board.fleet or len(self._capable) > REQUIREMENTS_REMEMBERED_MAX:
            self._fleet = self._board.fleet
            self._capable.clear()
        found = self._capable.get(wants)
        if found is None:
            found = self._capable[wants] = self._find_capable(wants)
        return found

    def choose(
        self, task_id: TaskId, wants: Wants, ready: Ready, avoid: BotId | None = None
    ) -> Choice | None:
        """The best bot with a free slot, if there is one."""
        capable, board = self.capable(wants), self._board
        candidates: list[Candidate] = []
        busy = quiet = 0
        for bot_id in capable.bots:
            free = board.free(bot_id)
            if free <= 0:
                busy += 1
            elif not ready(bot_id):
                quiet += 1
            else:
                candidates.append(Candidate(bot_id=bot_id, free=free, score=self._score(bot_id, wants.type)))
        if not candidates:
            return None
        best = nsmallest(
            CANDIDATES_RECORDED_MAX,
            candidates,
            key=lambda each: (each.bot_id == avoid, -each.score, -each.free, each.bot_id),
        )
        passed_over = dict(capable.passed_over)
        if busy:
            passed_over["no_free_slot"] = busy
        if quiet:
            passed_over["not_heard"] = quiet
        decision = Decision(candidates=best, candidates_total=len(candidates), passed_over=passed_over)
        return Choice(task_id, best[0].bot_id, decision)

    def at_once(self, task_id: TaskId, wants: Wants, ready: Ready) -> Choice | None:
        """A bot for a task that was just submitted, if nobody who waits could have that bot."""
        waiting = self._board.lines.wanted()
        if wants in waiting:
            return None
        choice = self.choose(task_id, wants, ready)
        if choice is None or any(choice.bot_id in self.capable(other).bots for other in waiting):
            return None
        self._board.reserve(task_id, choice.bot_id)
        return choice

    def fill(self, bots: Collection[BotId], ready: Ready, now: datetime, ageing_s: float) -> list[Choice]:
        """Give the free slots of these bots to those who waited, the first first; each choice is reserved."""
        free = {bot_id for bot_id in bots if self._board.free(bot_id) > 0 and ready(bot_id)}
        choices: list[Choice] = []
        while free and (first := self._first_for(free, now.timestamp(), ageing_s)) is not None:
            place, wants = first
            state = self._board.task(place.task_id)
            avoid = state.last_bot if isinstance(state, Waiting) else None
            choice = self.choose(place.task_id, wants, ready, avoid)
            if choice is None:
                break
            self._board.reserve(choice.task_id, choice.bot_id)
            choices.append(choice)
            if self._board.free(choice.bot_id) <= 0:
                free.discard(choice.bot_id)
        return choices

    def _first_for(self, bots: set[BotId], now: float, ageing_s: float) -> tuple[Place, Wants] | None:
        """Who is next among those whom one of these bots can serve."""
        best: tuple[Place, Wants] | None = None
        for wants in self._board.lines.wanted():
            if self.capable(wants).bots.isdisjoint(bots):
                continue
            place = self._board.lines.first(wants, now, ageing_s)
            if place is not None and (best is None or place < best[0]):
                best = (place, wants)
        return best

    def _find_capable(self, wants: Wants) -> Capable:
        bots: set[BotId] = set()
        passed_over: Counter[str] = Counter()
        for bot_id, entry in self._board.bots.items():
            reason = refusal(bot_id, entry.state, wants)
            if reason is None:
                bots.add(bot_id)
            elif not isinstance(entry.state, NoBot | Retired):
                passed_over[reason] += 1
        return Capable(frozenset(bots), dict(passed_over))
