"""What is to be done next, as values. The shell performs them; performed twice, they do no harm."""

from typing import Final, assert_never

import msgspec

from services.orchestrator.commands import OwnCommand
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import Assignment, CancelRun, Control, Drain
from shared.contracts.words import BotId, TaskId
from shared.kernel.codec import tag_of
from shared.kernel.messages import Cause

EXTERNAL: Final = "external"
"""The engine, or the host, of bots that somebody else runs: they get credentials and are heard, no more."""


class Dispatch(msgspec.Struct, frozen=True):
    """Send an assignment to its bot."""

    bot_id: BotId
    assignment: Assignment


class Decide(msgspec.Struct, frozen=True):
    """Decide one of our own commands.

    `about` is the token or version it is about: the same again is decided once.
    """

    command: OwnCommand
    cause: Cause
    about: int


class StartProcess(msgspec.Struct, frozen=True):
    """Make the bot's queue and have its host start a process of this generation."""

    bot_id: BotId
    generation: int
    spec: BotSpec
    cause: Cause
    about: int


class MakeQueue(msgspec.Struct, frozen=True):
    """Let the bot pull its assignments, again: the broker may have forgotten that it can."""

    bot_id: BotId


class StopProcess(msgspec.Struct, frozen=True):
    """Have the host stop every process up to this generation."""

    bot_id: BotId
    generation: int
    host: str
    grace_s: float


class ClearBot(msgspec.Struct, frozen=True):
    """Remove what a retired bot left: process, broker user, queue."""

    bot_id: BotId
    generation: int
    host: str
    cause: Cause
    about: int


class Tell(msgspec.Struct, frozen=True):
    """Say it to the bot, one way; its next heartbeat is answered with the same."""

    bot_id: BotId
    control: Control


class Recall(msgspec.Struct, frozen=True):
    """Ask the log how a task has ended, or whether there is one: memory has it not."""

    task_id: TaskId


Step = Dispatch | Decide | StartProcess | MakeQueue | StopProcess | ClearBot | Tell | Recall


def key_of(step: Step) -> tuple[str, ...]:
    """What makes two steps the same: while one is under way, the other is not begun."""
    match step:
        case Dispatch():
            return ("dispatch", step.assignment.task_id, str(step.assignment.token))
        case Decide():
            return (tag_of(type(step.command)), step.command.key, str(step.about))
        case StartProcess():
            return ("start", step.bot_id, str(step.generation))
        case MakeQueue():
            return ("queue", step.bot_id)
        case StopProcess():
            return ("stop", step.bot_id, str(step.generation))
        case ClearBot():
            return ("clear", step.bot_id, str(step.generation))
        case Tell():
            return ("tell", step.bot_id, *_told(step.control))
        case Recall():
            return ("recall", step.task_id)
        case _:
            assert_never(step)


def _told(control: Control) -> tuple[str, ...]:
    match control:
        case CancelRun():
            return ("cancel", str(control.token))
        case Drain():
            return ("drain",)
        case _:
            assert_never(control)
