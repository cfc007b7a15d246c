"""Which bot does a task, and why that one."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
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
from services.orchestrator.opinions import Opinions
from services.orchestrator.standing import Ranking, ranking
from services.orchestrator.waiting import Place, Wants
from shared.contracts.health import Level
from shared.contracts.orchestrator.facts import Candidate, Decision
from shared.contracts.words import BotId, Priority, TaskId, TaskType

CANDIDATES_RECORDED_MAX: Final = 5
GIVEN_TO_NEWCOMERS: Final = 3
"""So many tasks of a type a bot is given to be known; the ends of these may still be on their way."""

TRIAL: Final = "trial"
NEWCOMER: Final = "newcomer"
REQUIREMENTS_REMEMBERED_MAX: Final = 2_000

Ready = Callable[[BotId], bool]
"""Whether a bot was heard just now and takes what it is given."""


class Asked(NamedTuple):
    """A task that is to be given to a bot.

    `avoid`: where its last attempt went wrong. `critical`: P0, on which nothing is tried out. `last_try`: no
    other attempt is allowed.
    """

    task_id: TaskId
    wants: Wants
    avoid: BotId | None = None
    critical: bool = False
    last_try: bool = False


class Choice(NamedTuple):
    """A task, the bot that is to do it, and why that one."""

    task_id: TaskId
    bot_id: BotId
    decision: Decision


class Capable(NamedTuple):
    """The bots that could do such a task, and how many could not, by reason."""

    bots: frozenset[BotId]
    passed_over: dict[str, int]


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

    First comes a bot whose circuit is half open: it needs a trial. Then one that is to be known: of whom the
    scheduler knows too little at this type, and that was not given enough to change that. Then the best: by
    score, then by free slots, then by name. Instead of a newcomer or the best, with the probability
    `explore_share`, one is drawn by the chances of being the best (ADR 17). A critical task goes to the best,
    without trial or chance; the bot of the last failed attempt comes last. All chance is in `draw`, a number
    from 0 to 1.
    """

    def __init__(self, board: Board, opinions: Opinions, draw: Callable[[], float]) -> None:
        self._board = board
        self.opinions = opinions
        self._draw = draw
        self._capable: dict[Wants, Capable] = {}
        self._rankings: dict[Wants, tuple[Capable, int, int, Ranking]] = {}
        self._given: Counter[tuple[TaskType, BotId]] = Counter()  # to newcomers, while they are that
        self._stamp = (-1, -1)

    def refusal(self, bot_id: BotId, bot: Bot, wants: Wants) -> str | None:
        """Why this bot can never do such a task, or cannot now; None if it can."""
        reason = refusal(bot_id, bot, wants)
        critical = reason is None and self.opinions.level(bot_id) is Level.CRITICAL
        return "critical" if critical else reason

    def capable(self, wants: Wants) -> Capable:
        """Who could do it, slots and heartbeats aside."""
        stamp = (self._board.fleet, self.opinions.shifts)
        if self._stamp != stamp or len(self._capable) > REQUIREMENTS_REMEMBERED_MAX:
            self._stamp = stamp
            self._capable.clear()
        found = self._capable.get(wants)
        if found is None:
            found = self._capable[wants] = self._find_capable(wants)
        return found

    def ranking(self, wants: Wants) -> Ranking:
        """Those who could do it, the best first; made anew only when something about it changed."""
        capable, news, shifts = self.capable(wants), self.opinions.news[wants.type], self.opinions.shifts
        kept = self._rankings.get(wants)
        if kept is not None and kept[1:3] == (news, shifts):
            if kept[0] is capable:
                return kept[3]
            if kept[0].bots == capable.bots:
                self._rankings[wants] = (capable, news, shifts, kept[3])
                return kept[3]
        if len(self._rankings) > REQUIREMENTS_REMEMBERED_MAX:
            self._rankings.clear()
        made = ranking(capable.bots, wants.type, self.opinions)
        self._rankings[wants] = (capable, news, shifts, made)
        self._forget_known(wants.type)
        return made

    def choose(self, asked: Asked, ready: Ready, explore_share: float = 0.0) -> Choice | None:
        """The bot that is to have it, if one has a free slot."""
        rank, board = self.ranking(asked.wants), self._board
        best, quiet = self._best(rank, ready, asked)
        trial = self._trial(asked, ready)
        if trial is not None and (not best or not (asked.critical or asked.last_try)):
            return self._decided(asked, rank, trial, best, quiet, policy=TRIAL)
        if not best:
            avoided = asked.avoid
            if avoided is None or avoided not in board.room or avoided not in self.capable(asked.wants).bots:
                return None
            if not ready(avoided):
                return None
            return self._decided(asked, rank, avoided, best, quiet)
        first = best[0]
        if asked.critical:
            return self._decided(asked, rank, first, best, quiet)
        newcomer = self._newcomer(rank, ready, asked)
        first = first if newcomer is None else newcomer
        hopeful = [
            (bot_id, chance)
            for bot_id, chance in (rank.chances if explore_share > 0 else ())
            if bot_id in board.room and bot_id not in board.trials and bot_id != asked.avoid and ready(bot_id)
        ]
        total = sum(chance for _, chance in hopeful)
        policy = None if newcomer is None else NEWCOMER
        if total <= 0:
            return self._decided(asked, rank, first, best, quiet, policy=policy)
        taken = first
        if self._draw() < explore_share:
            taken = _drawn(hopeful, self._draw() * total)
        chance = next((chance for bot_id, chance in hopeful if bot_id == taken), 0.0) / total
        propensity = explore_share * chance + (1 - explore_share) * (taken == first)
        return self._decided(
            asked,
            rank,
            taken,
            best,
            quiet,
            policy=policy if taken == first else None,
            explored=taken != first,
            propensity=propensity,
        )

    def at_once(self, asked: Asked, ready: Ready, explore_share: float = 0.0) -> Choice | None:
        """A bot for a task that was just submitted, if nobody who waits could have that bot."""
        waiting = self._board.lines.wanted()
        if asked.wants in waiting:
            return None
        choice = self.choose(asked, ready, explore_share)
        if choice is None or any(choice.bot_id in self.capable(other).bots for other in waiting):
            return None
        self._reserve(choice, asked.wants.type)
        return choice

    def fill(
        self,
        bots: Collection[BotId],
        ready: Ready,
        now: datetime,
        ageing_s: float,
        explore_share: float = 0.0,
    ) -> list[Choice]:
        """Give the free slots of these bots to those who waited, the first first; each choice is reserved."""
        room = self._board.room
        free = {bot_id for bot_id in bots if bot_id in room and ready(bot_id)}
        choices: list[Choice] = []
        while free and (first := self._first_for(free, now.timestamp(), ageing_s)) is not None:
            place, wants = first
            choice = self.choose(_asked(self._board, place.task_id, wants), ready, explore_share)
            if choice is None:
                break
            self._reserve(choice, wants.type)
            choices.append(choice)
            if choice.bot_id not in room:
                free.discard(choice.bot_id)
        return choices

    def _reserve(self, choice: Choice, kind: TaskType) -> None:
        self._board.reserve(choice.task_id, choice.bot_id)
        if choice.decision.policy == NEWCOMER:
            self._given[kind, choice.bot_id] += 1

    def _best(self, rank: Ranking, ready: Ready, asked: Asked) -> tuple[list[BotId], int]:
        """The best who are free, as many as are recorded; and how many of those looked at were not heard."""
        room, trials, avoid = self._board.room, self._board.trials, asked.avoid
        best: list[BotId] = []
        quiet = 0
        for _, bots in rank.groups:
            if len(bots) == 1 and bots[0] not in room:
                continue
            for bot_id in bots if len(bots) == 1 else _most_free(bots, room):
                if bot_id in trials or bot_id == avoid:
                    continue
                if not ready(bot_id):
                    quiet += 1
                    continue
                best.append(bot_id)
                if len(best) == CANDIDATES_RECORDED_MAX:
                    return best, quiet
        return best, quiet

    def _trial(self, asked: Asked, ready: Ready) -> BotId | None:
        """A bot that needs a trial, and could have it with this task."""
        trials = self._board.trials
        if not trials:
            return None
        able = (trials & self.capable(asked.wants).bots) - {asked.avoid}
        return min((bot_id for bot_id in able if ready(bot_id)), default=None)

    def _newcomer(self, rank: Ranking, ready: Ready, asked: Asked) -> BotId | None:
        """One that is to be known, and was not given enough for that yet."""
        room, trials, kind = self._board.room, self._board.trials, asked.wants.type
        for bot_id in rank.newcomers:
            if bot_id not in room or bot_id in trials or bot_id == asked.avoid:
                continue
            if self._given[kind, bot_id] < GIVEN_TO_NEWCOMERS and ready(bot_id):
                return bot_id
        return None

    def _decided(
        self,
        asked: Asked,
        rank: Ranking,
        taken: BotId,
        best: list[BotId],
        quiet: int,
        *,
        policy: str | None = None,
        explored: bool = False,
        propensity: float = 1.0,
    ) -> Choice:
        room, capable = self._board.room, self.capable(asked.wants)
        free = len(capable.bots.intersection(room))
        passed_over = dict(capable.passed_over)
        if free < len(capable.bots):
            passed_over["no_free_slot"] = len(capable.bots) - free
        if quiet:
            passed_over["not_heard"] = quiet
        shown = [taken, *(bot_id for bot_id in best if bot_id != taken)][:CANDIDATES_RECORDED_MAX]
        decision = Decision(
            candidates=[
                Candidate(
                    bot_id=bot_id,
                    free=room[bot_id],
                    score=rank.scores[bot_id],
                    samples=rank.samples.get(bot_id, 0),
                    chance=rank.chance_of.get(bot_id, 0.0),
                )
                for bot_id in shown
            ],
            candidates_total=free - quiet,
            policy=rank.policy if policy is None else policy,
            passed_over=passed_over,
            explored=explored,
            propensity=round(propensity, 6),
            table_sequence=rank.sequence,
        )
        return Choice(asked.task_id, taken, decision)

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
            reason = self.refusal(bot_id, entry.state, wants)
            if reason is None:
                bots.add(bot_id)
            elif not isinstance(entry.state, NoBot | Retired):
                passed_over[reason] += 1
        return Capable(frozenset(bots), dict(passed_over))

    def _forget_known(self, kind: TaskType) -> None:
        """Who is known now is no newcomer; should it be forgotten, it begins anew."""
        table = self.opinions.tables.get(kind)
        if table is None:
            return
        for bot_id, standing in table.bots.items():
            if standing.trusted:
                self._given.pop((kind, bot_id), None)


def _asked(board: Board, task_id: TaskId, wants: Wants) -> Asked:
    """What is to be known of a task that waits."""
    state = board.task(task_id)
    if not isinstance(state, Waiting):
        return Asked(task_id, wants)
    return Asked(
        task_id,
        wants,
        avoid=state.last_bot,
        critical=state.order.priority is Priority.P0,
        last_try=state.attempts + 1 >= state.allowed,
    )


def _most_free(bots: tuple[BotId, ...], room: dict[BotId, int]) -> Iterator[BotId]:
    """Those with a free slot, the freest first, else as they come. Nearly always few are asked for."""
    free = [bot_id for bot_id in bots if bot_id in room]
    rooms = [room[bot_id] for bot_id in free]
    for level in sorted(set(rooms), reverse=True):
        for bot_id, here in zip(free, rooms, strict=True):
            if here == level:
                yield bot_id


def _drawn(hopeful: list[tuple[BotId, float]], at: float) -> BotId:
    """Who stands there, each as wide as its chance."""
    for bot_id, chance in hopeful:
        at -= chance
        if at < 0:
            return bot_id
    return hopeful[-1][0]
