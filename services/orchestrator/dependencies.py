"""What is outstanding between tasks: those that wait for others, and those whose tree is cancelled."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from services.orchestrator.scene import Moment, Scene
from services.orchestrator.steps import Decide, Recall, Step
from shared.contracts.words import TaskId

AT_ONCE_MAX: Final = 1_000  # decisions, or questions to the log, of one look; the rest follows in the next


def news_of_kin(scene: Scene, moment: Moment) -> list[Step]:
    """What has just become outstanding."""
    news = scene.board.kin.take_news()
    return [*_decisions(scene, news.ripe), *_questions(scene, news.unsure, moment)]


def outstanding_of_kin(scene: Scene, moment: Moment) -> list[Step]:
    """Everything outstanding, or as much of it as one look may begin."""
    kin = scene.board.kin
    kin.give_up(moment.utc)
    return [*_decisions(scene, kin.due()), *_questions(scene, kin.unsure(moment.mono), moment)]


def _decisions(scene: Scene, task_ids: Iterable[TaskId]) -> list[Step]:
    board = scene.board
    found = (
        Decide(command, entry.cause, entry.line.version)
        for task_id in task_ids
        if (entry := board.tasks.get(task_id)) is not None
        and entry.partition in board.owned
        and (command := board.kin.outstanding(task_id)) is not None
    )
    return list(islice(found, AT_ONCE_MAX))


def _questions(scene: Scene, task_ids: Iterable[TaskId], moment: Moment) -> list[Step]:
    asked = list(islice((task_id for task_id in task_ids if _is_ours(scene, task_id)), AT_ONCE_MAX))
    scene.board.kin.asked(asked, moment.mono)
    return [Recall(task_id) for task_id in asked]


def _is_ours(scene: Scene, task_id: TaskId) -> bool:
    """Whether a task of ours must know of its end."""
    board = scene.board
    heirs = (board.tasks.get(heir) for heir in board.kin.heirs(task_id))
    return any(heir is not None and heir.partition in board.owned for heir in heirs)
