"""What the hive was asked, what it answered, and whether the log bears it out."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from services.orchestrator.facts import TASK_CODEC
from shared.contracts.orchestrator.facts import (
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFact,
    TaskFailed,
    TaskSubmitted,
)
from shared.runtime.store import Stored

ENDS = (TaskCompleted, TaskFailed, TaskCancelled, TaskExpired)


@dataclass(frozen=True)
class Said:
    """One answer to a submission."""

    key: str
    task_id: str
    status: int
    state: str | None
    output: str | None
    version: int | None

    @classmethod
    def of(cls, key: str, answer: httpx.Response) -> "Said":
        body = answer.json()
        output = body.get("output")
        return cls(
            key=key,
            task_id=body.get("id") or answer.headers["Location"].rpartition("/")[2],
            status=answer.status_code,
            state=body.get("state"),
            output=output.get("text", "") if output else None,
            version=body.get("version"),
        )


@dataclass
class Ledger:
    """Kept by the writers, compared with the log at the end."""

    asks: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, Said] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def asked(self, key: str) -> None:
        self.asks[key] += 1

    def answered(self, said: Said) -> None:
        self.accepted[said.key] = said
        self.open.add(said.task_id)

    def seen_ended(self, task_id: str) -> None:
        self.open.discard(task_id)

    def summary(self) -> str:
        again = sum(count - 1 for count in self.asks.values())
        return f"{len(self.accepted)} tasks accepted, {again} requests repeated"

    def check(self, commits: Sequence[Stored]) -> None:
        """Each accepted task is in the log once, ended once; each answer was true; nothing else is there."""
        facts: defaultdict[str, list[tuple[int, TaskFact]]] = defaultdict(list)
        causes: Counter[tuple[str, str]] = Counter()
        for stored in commits:
            if stored.aggregate == "task":
                causes[stored.aggregate_id, stored.commit.cause] += 1
                facts[stored.aggregate_id] += [
                    (stored.sequence, fact) for fact in TASK_CODEC.decode_all(stored.commit.facts)
                ]
        assert [cause for cause, count in causes.items() if count > 1] == [], "a command was decided twice"
        ids = {said.task_id for said in self.accepted.values()}
        assert len(ids) == len(self.accepted), "two keys share a task"
        assert ids <= facts.keys(), "an accepted task is not in the log"
        asked = {f"echo of {key}" for key in self.asks}
        for task_id, known in facts.items():
            self._check_task(task_id, known, asked)
        for said in self.accepted.values():
            _check_answer(said, facts[said.task_id])

    @staticmethod
    def _check_task(task_id: str, known: list[tuple[int, TaskFact]], asked: set[str]) -> None:
        submitted = [fact for _, fact in known if isinstance(fact, TaskSubmitted)]
        assert len(submitted) == 1, f"{task_id} was submitted {len(submitted)} times"
        assert submitted[0].content in asked, f"nobody asked for {submitted[0].content}"
        ends = [(sequence, fact) for sequence, fact in known if isinstance(fact, ENDS)]
        assert len(ends) == 1, f"{task_id} ended {len(ends)} times"
        sequence, end = ends[0]
        assert isinstance(end, TaskCompleted), f"{task_id} did not complete: {end}"
        assert submitted[0].content == end.output.text
        tokens = [at for at, fact in known if isinstance(fact, TaskAssigned) and at <= sequence]
        assert tokens[-1] == end.token, f"{task_id} was ended by a bot that no longer held it"


def _check_answer(said: Said, known: list[tuple[int, TaskFact]]) -> None:
    if said.version is not None:
        assert said.version in {sequence for sequence, _ in known}, f"{said} names a version that never was"
    if said.state == "completed":
        end = next(fact for _, fact in known if isinstance(fact, TaskCompleted))
        assert said.output == end.output.text, f"{said} is not what the log holds"
