"""A cluster that is just forming is given time; everything else is said at once."""

import msgspec
import pytest

from shared.contracts.naming import EVENTS
from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, connect
from shared.runtime.prepare import hand_out_again, prepare
from shared.runtime.topology import STREAM_NOT_FOUND, ensure_volatile
from tests.support.holder import Holder
from tests.support.nats_server import LocalBroker

NO_PEERS = BrokerRefused(10005, "no suitable peers for placement, peer offline")


class Forming:
    """An empty broker whose first answers to a stream's creation are these troubles."""

    def __init__(self, *troubles: Exception) -> None:
        self._troubles = list(troubles)
        self.made: set[str] = set()

    async def api(self, subject: str, body: bytes | msgspec.Struct = b"", *, timeout: float = 5.0) -> bytes:
        if ".INFO." in subject:
            raise BrokerRefused(STREAM_NOT_FOUND, f"not found within {timeout}")
        assert body
        if self._troubles:
            raise self._troubles.pop()
        self.made.add(subject)
        return b"{}"


async def test_streams_are_made_once_the_brokers_have_found_each_other() -> None:
    cluster = Forming(NO_PEERS, Unavailable("no leader yet"))

    await prepare(cluster, replicas=3)

    assert f"STREAM.CREATE.{EVENTS}" in cluster.made


async def test_any_other_refusal_is_said_at_once() -> None:
    with pytest.raises(BrokerRefused, match="10047"):
        await prepare(Forming(BrokerRefused(10047, "insufficient storage")), replicas=3)


async def test_patience_ends() -> None:
    with pytest.raises(BrokerRefused, match="no suitable peers"):
        await prepare(Forming(NO_PEERS), replicas=3, within_s=-1.0)


async def test_a_single_broker_that_does_not_answer_is_said_at_once() -> None:
    with pytest.raises(Unavailable):
        await prepare(Forming(Unavailable("away")))


class Away:
    """A broker that is electing a leader: it answers nothing."""

    async def api(self, subject: str, body: bytes | msgspec.Struct = b"", *, timeout: float = 5.0) -> bytes:
        raise Unavailable(f"no answer on {subject} ({body!r}) within {timeout} s")


async def test_a_broker_that_is_away_is_unavailable_however_many_streams_were_asked_for() -> None:
    with pytest.raises(Unavailable):
        await ensure_volatile(Away(), replicas=3)


async def test_what_lies_in_a_queue_is_handed_out_again(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await prepare(ops)
    async with Holder(broker) as holder:
        await holder.take_one()

        await hand_out_again(ops)  # green has no consumer, and nobody waits for an answer about it

        await holder.is_given_it_as_if_new()
    await ops.close()
