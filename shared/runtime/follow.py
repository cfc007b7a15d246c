"""Follow a stream: in order, without a gap, across lost messages and consumers and restarts of the broker."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.feed import NANOSECONDS, Feed, Trouble, place_of
from shared.runtime.ids import jittered, short_token

WANT: Final = 512
EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 1.0
FORGOTTEN_AFTER_S: Final = 60  # a consumer that nobody pulls from
AGAIN_AFTER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of the followed stream."""

    subject: str
    sequence: int
    data: bytes


class _Config(msgspec.Struct):
    name: str
    opt_start_seq: int
    filter_subjects: list[str]
    ack_policy: str = "none"
    deliver_policy: str = "by_start_sequence"
    mem_storage: bool = True
    num_replicas: int = 1
    inactive_threshold: int = FORGOTTEN_AFTER_S * NANOSECONDS


class _Create(msgspec.Struct):
    stream_name: str
    config: _Config
    action: str = "create"


async def arrivals(
    connection: Connection, stream: str, filters: Sequence[str], after: int
) -> AsyncGenerator[list[Arrived], None]:
    """Everything on these subjects after a sequence, for ever, as it comes."""
    seen = after
    while True:
        name = f"{connection.sender}-{short_token(9)}"
        feed = Feed(connection, stream, name, expires_s=EXPIRES_S, heartbeat_s=HEARTBEAT_S)

        async def begin_again(feed: Feed = feed) -> None:
            feed.stop(Trouble.BROKEN)

        undo = connection.on_reconnect(begin_again)
        try:
            await _create(connection, stream, name, filters, seen + 1)
            await feed.open()
            delivered = 0
            while feed.trouble is None:
                await feed.ask(WANT)
                row = _unbroken(await feed.news(), feed, delivered)
                if row:
                    delivered += len(row)
                    seen = row[-1].sequence
                    yield row
        except Unavailable:
            await asyncio.sleep(jittered(AGAIN_AFTER_S))
        finally:
            undo()
            await feed.close()


async def _create(connection: Connection, stream: str, name: str, filters: Sequence[str], start: int) -> None:
    config = _Config(name, start, list(filters))
    try:
        await connection.api(f"CONSUMER.CREATE.{stream}.{name}", _Create(stream, config))
    except BrokerRefused as refused:
        raise Unavailable(f"cannot follow {stream}: {refused}") from refused


def _unbroken(messages: list[Msg], feed: Feed, delivered: int) -> list[Arrived]:
    """The messages that follow each other without a gap; a gap breaks the feed."""
    row: list[Arrived] = []
    for message in messages:
        place = place_of(message.reply)
        if place.consumer_sequence != delivered + len(row) + 1:
            feed.stop(Trouble.BROKEN)
            break
        row.append(Arrived(message.subject, place.stream_sequence, message.data))
    return row
