"""The API's documents as the command reads them, and how they are told in lines."""

from typing import Any, Final

import msgspec

from cli import screen
from cli.failure import Exit
from shared.contracts.orchestrator.queries import Attempt, BotDoc, CircuitDoc, TaskDoc

ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired"})
STANDING: Final = frozenset({"blocked"})
"""Not ended, and nothing more happens until a person says so."""
_PREPOSITIONS: Final = {"assigned": "to", "running": "on", "retrying": "after", "queued": "after"}


def exit_of(task: TaskDoc) -> Exit:
    """What a task's state means for the exit code of who waited for it."""
    if task.state == "completed":
        return Exit.OK
    return Exit.FAILED if task.state in ENDED | STANDING else Exit.STILL_RUNNING


def took_s(task: TaskDoc) -> float | None:
    """From submission to the end, in seconds."""
    return None if task.ended_at is None else (task.ended_at - task.submitted_at).total_seconds()


def outcome(task: TaskDoc) -> str:
    """A task's present in one line: `completed by alpha in 12 ms`."""
    told = screen.coloured(task.state)
    if task.bot is not None:
        told += f" {_PREPOSITIONS.get(task.state, 'by')} {task.bot}"
    if (seconds := took_s(task)) is not None:
        told += f" in {screen.duration(seconds)}"
    if task.state != "completed" and len(task.attempts) > 1:
        told += f", {len(task.attempts)} attempts"
    if task.error is not None and task.state != "completed":
        told += f": {screen.safe(task.error.detail)} ({task.error.code})"
    elif task.reason and task.state != "completed":
        told += f": {screen.safe(task.reason)}"
    return told


def task_fields(task: TaskDoc) -> list[tuple[str, object]]:
    """A task, field by field, in reading order; what has no value is left out by the screen."""
    output, usage = task.output, task.usage
    return [
        ("id", task.id),
        ("state", task.state),
        ("content", task.content),
        ("type", f"{task.type} ({task.type_reason})"),
        ("priority", task.priority),
        ("engine", task.engine),
        ("required bot", task.required_bot),
        ("pool", task.pool),
        ("submitted", f"{screen.words(task.submitted_at)} by {task.submitter}"),
        ("spawned by", task.parent),
        ("root", task.root),
        ("after", task.after or None),
        ("after policy", task.after_policy if task.after else None),
        ("deadline", task.deadline),
        ("time limit", screen.duration(task.timeout_s)),
        ("bot", task.bot),
        ("ended", task.ended_at),
        ("took", screen.duration(took_s(task))),
        ("next attempt", task.retry_at),
        ("error", f"{task.error.detail} ({task.error.code})" if task.error else None),
        ("reason", task.reason),
        ("exit code", output.exit_code if output else None),
        ("output", _output_size(task)),
        (
            "tokens",
            f"{usage.tokens_in} in, {usage.tokens_out} out" if usage.tokens_in else None,
        ),
        ("cost", f"${usage.cost_usd:.4f}" if usage.cost_usd else None),
        ("version", task.version),
    ]


def _output_size(task: TaskDoc) -> str | None:
    output = task.output
    if output is None:
        return None
    told = screen.size(output.size_bytes or len(output.text.encode()))
    if output.file is not None:
        told += f", all of it in file {output.file.sha256}"
    return f"{told}, cut by the bot" if output.truncated else told


def attempt_row(attempt: Attempt) -> list[object]:
    """One try: number, bot, end, when, how long, why."""
    began = attempt.started_at or attempt.assigned_at
    ran = (attempt.ended_at - began).total_seconds() if attempt.ended_at else None
    error = f"{attempt.error.detail} ({attempt.error.code})" if attempt.error else ""
    return [attempt.attempt, attempt.bot, attempt.end, attempt.assigned_at, screen.duration(ran), error]


ATTEMPT_COLUMNS: Final = ("attempt", "bot", "end", "assigned", "ran", "error")


def told_circuit(circuit: CircuitDoc | None) -> str:
    """In words: `open until 12:00:05: 5 failures in a row`."""
    if circuit is None:
        return "closed"
    because = f": {screen.safe(circuit.reason)}" if circuit.reason else ""
    if circuit.until is None:
        return f"half open, one task at a time{because}"
    return f"open until {circuit.until.astimezone():%H:%M:%S}{because}"


def bot_fields(bot: BotDoc) -> list[tuple[str, object]]:
    """A bot, field by field."""
    spec = bot.spec
    heard = f"{screen.duration(bot.last_heard_s)} ago" if bot.last_heard_s is not None else None
    return [
        ("name", bot.name),
        ("state", bot.state),
        ("reason", bot.reason),
        ("circuit", told_circuit(bot.circuit) if bot.circuit else None),
        ("engine", spec.engine),
        ("types", spec.types or "all"),
        ("pool", spec.pool),
        ("slots", f"{bot.free_slots} of {spec.slots} free"),
        ("running", bot.running),
        ("workspace", spec.workspace or "its own"),
        ("env", spec.env),
        ("allow", spec.allow),
        ("argv", spec.argv),
        ("memory limit", f"{spec.memory_mb} MB a process" if spec.memory_mb else None),
        ("host", bot.host or spec.host),
        ("pid", bot.pid),
        ("uptime", screen.duration(bot.uptime_s)),
        ("memory", screen.size(bot.rss_bytes)),
        ("last heard", heard),
        ("crashes", bot.crashes or None),
        ("starts again", bot.restart_at),
        ("generation", bot.generation),
        ("launched", bot.launched_at),
        ("version", bot.version),
    ]


def raw_value(raw: msgspec.Raw | bytes | str) -> Any:
    """JSON of any shape, such as the detail of a fact; a text that is not JSON stays a text."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw
