"""Server-sent events, read line by line; resumed where they broke off."""

from collections.abc import Iterable, Iterator
from typing import Final

import httpx
import msgspec

from cli.client import Client
from cli.failure import Exit, Failure
from cli.patience import Patience
from cli.problem import from_problem, read

RESUMES_MAX: Final = 100


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event: what it is, its data, and the id to resume after."""

    name: str
    data: str
    id: str | None = None


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The events in these lines; comments (keep-alives) are skipped, a half event at the end is dropped."""
    name, data, last_id = "message", list[str](), None
    for text in lines:
        if not text:
            if data:
                yield Event(name=name, data="\n".join(data), id=last_id)
            name, data = "message", []
            continue
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id":
                last_id = value
            case _:
                pass


def follow(client: Client, path: str) -> Iterator[Event]:
    """The events of a stream until its `end`; when the connection breaks or moves, on from the last id."""
    last_id: str | None = None
    patience: Patience | None = None  # only with a stream that was there once
    for _ in range(RESUMES_MAX):
        try:
            with client.stream(path, last_id=last_id) as answer:
                patience = patience or Patience()
                for event in parse(answer.iter_lines()):
                    last_id = event.id or last_id
                    if event.name == "problem":
                        raise from_problem(read(event.data.encode()))
                    patience.answered()
                    if event.name == "moved":
                        break
                    yield event
                    if event.name == "end":
                        return
        except httpx.TransportError:
            continue
        except Failure as failure:
            if patience is None:
                raise
            patience.bear(failure)
    raise Failure(
        "The stream broke off again and again.",
        exit_code=Exit.UNAVAILABLE,
        code="stream_broken",
        why=f"it was resumed {RESUMES_MAX} times.",
        todo="`hive status`, then type the same again.",
    )
