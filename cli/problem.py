"""A problem document of the API as a Failure: what happened, why, and what to type next."""

from typing import Any, Final

import httpx
import msgspec

from cli.failure import Exit, Failure

_BY_CODE: Final[dict[str, str]] = {
    "task_not_found": "`hive tasks` lists the tasks there are.",
    "bot_not_found": "`hive bots` lists the bots there are.",
    "message_not_found": "`hive inbox BOT` and `hive conversation A B` list the messages there are.",
    "sender_unknown": "correct the name before the recipient's; without one, you speak for yourself.",
    "recipient_unknown": "correct the name, or add --hold: then it waits until a bot of that name exists.",
    "inbox_full": "wait until it has read some (`hive inbox BOT --unread`); only P0 gets through now.",
    "sender_refused": "leave FROM out to speak for yourself, or name a bot there.",
    "not_delivered": "wait until the bot has it: `hive message show ID`.",
    "no_recipients": "`hive bots` shows pools and types; `--all` means every bot.",
    "pool_not_found": "`hive pools` lists the pools there are.",
    "template_missing": "say what its bots are to be: `hive scale NAME --engine echo`.",
    "schedule_not_found": "`hive cron list` lists the schedules there are.",
    "schedule_removed": "`hive cron receipts NAME` still shows what became of its ticks.",
    "schedule_exists": "add --replace to change it; `hive cron show NAME` shows it.",
    "bad_expression": "`hive cron add --help` shows expressions that can be read.",
    "bad_timezone": "write it as Europe/Zurich, or leave --tz out for UTC.",
    "bad_name": "take a name such as `ann` or `ci-2`.",
    "key_not_found": "`hive keys` lists the keys there are.",
    "dead_letter_not_found": "`hive dlq` lists the dead letters there are.",
    "idempotency_key_reused": "use another --key for another task, or the same task with the old one.",
    "launch_failed": "correct it, and type the same again: a bot that never came up may be launched anew.",
    "bot_exists": "`hive bots show NAME` shows it; `hive bots retire NAME` frees the name.",
    "queue_full": "wait a moment and type the same again; `hive status` shows the queue.",
    "behind": "type the same again: the view catches up in a moment.",
}

_BY_STATUS: Final[dict[int, str]] = {
    400: "compare with `hive COMMAND --help`.",
    401: "set HIVE_KEY to a key that is valid; `hive keys create NAME` makes one where the hive runs.",
    403: "use a key with that scope: `hive keys create NAME --scope …` where the hive runs.",
    404: "check the id: `hive tasks`, `hive bots`.",
    409: "look at its state with `hive task show ID` or `hive bots show NAME`.",
    413: "send it in smaller parts.",
    429: "wait as long as it says, then type the same again.",
    500: "`hive logs gateway` says more; `hive dlq` shows what could not be handled.",
    503: "wait a moment and type the same again; `hive status` and `hive doctor` say what is away.",
}

_EXITS: Final[dict[int, Exit]] = {
    400: Exit.USAGE,
    404: Exit.NOT_FOUND,
    405: Exit.USAGE,
    413: Exit.USAGE,
    415: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    409: Exit.REFUSED,
    422: Exit.REFUSED,
    429: Exit.UNAVAILABLE,
    502: Exit.UNAVAILABLE,
    503: Exit.UNAVAILABLE,
    504: Exit.UNAVAILABLE,
}


def from_answer(answer: httpx.Response) -> Failure:
    """What an answer of 400 or more means to the person who typed."""
    retry_after = answer.headers.get("Retry-After", "")
    return from_problem(read(answer.content), answer.status_code, answer.reason_phrase, retry_after)


def from_problem(
    problem: dict[str, Any], status: int = 0, phrase: str = "", retry_after: str = ""
) -> Failure:
    """The same from the document alone, which says its status itself."""
    told = problem.get("status")
    status = told if isinstance(told, int) and not status else status
    title = _text(problem.get("title")) or phrase or f"HTTP {status}"
    code = _text(problem.get("code")) or f"http_{status}"
    what = _text(problem.get("detail")) or title
    why = "; ".join([f"{title} ({code})", *(wrong for wrong in _wrongs(problem) if wrong not in what)])
    if retry_after:
        why = f"{why}; it asks to wait {retry_after} s"
    todo = _BY_CODE.get(code) or _BY_STATUS.get(status, "")
    if letter := _text(problem.get("dead_letter")):
        todo = f"`hive dlq show {letter}`; `hive dlq replay {letter}` decides it again."
    exit_code = Exit.UNAVAILABLE if code == "behind" else _EXITS.get(status, Exit.FAILED)
    return Failure(what, exit_code=exit_code, code=code, why=why, todo=todo, problem=problem or None)


def read(body: bytes) -> dict[str, Any]:
    """The document; the beginning of whatever else came."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"detail": body[:200].decode(errors="replace").strip()} if body else {}


def _wrongs(problem: dict[str, Any]) -> list[str]:
    """`/retry/attempts_max: must be …` for each thing that is wrong."""
    errors = problem.get("errors")
    if not isinstance(errors, list):
        return []
    return [
        f"{error.get('pointer') or error.get('parameter') or error.get('header')}: {error.get('detail')}"
        for error in errors
        if isinstance(error, dict)
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
