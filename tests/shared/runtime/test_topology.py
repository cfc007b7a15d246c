"""The streams, buckets and consumers of a hive, on a real server."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import naming
from shared.contracts.words import PARTITIONS
from shared.runtime import topology
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.permissions import SERVICES
from shared.runtime.streamconfig import ConsumerRequest, ns
from shared.runtime.topology import Drift, ensure, ensure_bot_consumer, ensure_volatile, remove_bot_consumer
from tests.support.nats_server import LocalBroker


@pytest.fixture
async def ops(broker: LocalBroker) -> AsyncIterator[Connection]:
    connection = await connect(broker.settings("ops"))
    yield connection
    await connection.close()


async def _info(connection: Connection, subject: str) -> dict[str, object]:
    answer: dict[str, object] = msgspec.json.decode(await connection.api(subject))
    return answer


async def _names(connection: Connection) -> set[str]:
    return set(msgspec.json.decode(await connection.api("STREAM.NAMES"))["streams"])


async def test_everything_is_made_at_once_and_asking_again_changes_nothing(ops: Connection) -> None:
    await ensure(ops)
    before = [await _info(ops, f"STREAM.INFO.{name}") for name in sorted(await _names(ops))]

    await ensure(ops)

    after = [await _info(ops, f"STREAM.INFO.{name}") for name in sorted(await _names(ops))]
    assert {config.name for config in topology.streams(SERVICES, 1)} == await _names(ops)
    assert [(one["config"], one["created"]) for one in before] == [
        (one["config"], one["created"]) for one in after
    ]


async def test_a_stream_that_was_changed_is_drift_that_names_the_field(ops: Connection) -> None:
    await ensure(ops)
    changed = msgspec.structs.replace(topology.dead(1), max_age=ns(topology.SUSPECT_FOR))
    await ops.api("STREAM.UPDATE.DEAD", changed)

    with pytest.raises(Drift) as drift:
        await ensure(ops)

    day, month = ns(topology.SUSPECT_FOR), ns(topology.DEAD_FOR)
    assert drift.value.differences == (("DEAD", "max_age", month, day),)
    assert str(drift.value) == f"DEAD: max_age is {day}, must be {month}"


async def test_drift_is_found_before_anything_is_made(ops: Connection) -> None:
    await ops.api(
        "STREAM.CREATE.DEAD", msgspec.structs.replace(topology.dead(1), max_bytes=topology.DEAD_BYTES_MAX + 1)
    )
    with pytest.raises(Drift, match="max_bytes"):
        await ensure(ops)
    assert await _names(ops) == {"DEAD"}


async def test_a_consumer_with_another_patience_is_drift(ops: Connection) -> None:
    await ensure(ops)
    wanted = topology.command_consumer("orchestrator", "blue", range(PARTITIONS))
    await ops.api(
        wanted.subject,
        ConsumerRequest(
            stream_name=wanted.stream_name,
            config=msgspec.structs.replace(wanted.config, ack_wait=ns(topology.LIVE_FOR)),
        ),
    )
    with pytest.raises(Drift, match=r"CMD_ORCHESTRATOR > orchestrator-blue: ack_wait"):
        await ensure(ops)


async def test_partitions_that_migration_moved_are_no_drift(ops: Connection) -> None:
    await ensure(ops)
    blue = topology.command_consumer("orchestrator", "blue", range(100))
    await ops.api(blue.subject, ConsumerRequest(stream_name=blue.stream_name, config=blue.config))
    green = topology.command_consumer("orchestrator", "green", range(100, PARTITIONS))
    await ops.api(green.subject, green)
    await ensure(ops)

    await ops.api("CONSUMER.DELETE.CMD_ORCHESTRATOR.orchestrator-blue")
    await ensure(ops)

    with pytest.raises(BrokerRefused):
        await ops.api("CONSUMER.INFO.CMD_ORCHESTRATOR.orchestrator-blue")


async def test_a_service_makes_live_and_seats_again_after_the_broker_restarted(broker: LocalBroker) -> None:
    operator = await connect(broker.settings("ops"))
    await ensure(operator)
    await operator.close()

    broker.restart()

    for sender in ("svc-orchestrator", "gateway"):
        connection = await connect(broker.settings(sender))
        await ensure_volatile(connection)
        await connection.close()
    operator = await connect(broker.settings("ops"))
    assert {"LIVE", "KV_seats"} <= await _names(operator)
    await ensure(operator)
    await operator.close()


async def test_the_seats_were_gone_after_the_restart(broker: LocalBroker) -> None:
    operator = await connect(broker.settings("ops"))
    await ensure(operator)
    await operator.close()
    broker.restart()
    operator = await connect(broker.settings("ops"))
    assert {"LIVE", "KV_seats"}.isdisjoint(await _names(operator))
    await operator.close()


async def test_the_log_can_be_neither_purged_nor_cut(ops: Connection) -> None:
    await ensure(ops)
    for subject, body in (("STREAM.PURGE.EVENTS", b""), ("STREAM.MSG.DELETE.EVENTS", b'{"seq":1}')):
        with pytest.raises(BrokerRefused, match="not permitted"):
            await ops.api(subject, body)


async def test_the_newest_message_about_a_dead_letter_replaces_the_older(broker: LocalBroker) -> None:
    operator = await connect(broker.settings("ops"))
    await ensure(operator)
    service = await connect(broker.settings("svc-orchestrator"))
    for body in (b"dead", b"replayed"):
        await service.request("dead.orchestrator.t1.1", body, timeout=5)
    info = await _info(operator, "STREAM.INFO.DEAD")
    assert isinstance(info["state"], dict)
    assert (info["state"]["messages"], info["state"]["last_seq"]) == (1, 2)
    await service.close()
    await operator.close()


@given(st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-_"), min_size=1))
def test_a_partition_is_one_of_128(aggregate_id: str) -> None:
    assert 0 <= naming.partition_of(aggregate_id) < PARTITIONS


async def test_the_server_and_we_agree_on_every_partition(broker: LocalBroker) -> None:
    operator = await connect(broker.settings("ops"))
    await ensure(operator)
    service = await connect(broker.settings("svc-orchestrator"))
    ids = [f"{number:x}-Ab_{number * 7919}" for number in range(400)]

    for aggregate_id in ids:
        subject = naming.command_subject("orchestrator", "svc-orchestrator", aggregate_id)
        await service.request(subject, b"{}", timeout=5)

    stored = set()
    for sequence in range(1, len(ids) + 1):
        answer = await service.request(
            "$JS.API.DIRECT.GET.CMD_ORCHESTRATOR", b'{"seq":%d}' % sequence, timeout=5
        )
        assert answer.headers is not None
        stored.add(naming.parse_stored_command(answer.headers["Nats-Subject"]))
    await service.close()
    await operator.close()
    assert {address.aggregate_id for address in stored} == set(ids)
    assert all(address.partition == naming.partition_of(address.aggregate_id) for address in stored)


async def test_a_bot_s_consumer_is_made_twice_and_taken_away_twice(broker: LocalBroker) -> None:
    operator = await connect(broker.settings("ops"))
    await ensure(operator)
    service = await connect(broker.settings("svc-orchestrator"))
    for _ in range(2):
        await ensure_bot_consumer(service, "ada")
    await service.request(naming.run_subject("ada"), b"{}", timeout=5)

    for _ in range(2):
        await remove_bot_consumer(service, "ada")

    info = await _info(operator, "STREAM.INFO.DISPATCH")
    assert isinstance(info["state"], dict)
    assert (info["state"]["messages"], info["state"]["consumer_count"]) == (0, 0)
    await service.close()
    await operator.close()
