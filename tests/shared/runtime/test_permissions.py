"""Nobody speaks for another, and nobody but ops changes a stream: tried against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.contracts import naming
from shared.contracts.words import INPUT_BYTES_MAX
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.permissions import BOT, BOT_PAYLOAD_BYTES_MAX, OPS, ROLES, SERVICES, Role
from shared.runtime.topology import ensure, ensure_bot_consumer
from tests.support.nats_server import LocalBroker

SENDERS = ("gateway", "svc-orchestrator", "svc-bots", "bot-ada")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One for all questions: a refusal leaves nothing behind."""
    server = LocalBroker(Path(tmp_path_factory.mktemp("permissions")))
    yield server
    server.close()


@asynccontextmanager
async def _as(server: LocalBroker, sender: str, **options: Any) -> AsyncIterator[tuple[Client, list[str]]]:
    said: list[str] = []

    async def on_error(error: Exception) -> None:
        said.append(str(error).lower())

    async with server.client(sender, error_cb=on_error, **options) as client:
        yield client, said


async def _settled(client: Client) -> None:
    """What was sent is judged: nats-py writes its ping before what is pending, so the second one counts."""
    await client.flush()
    await client.flush()


async def may_publish(server: LocalBroker, sender: str, *subjects: str) -> set[str]:
    """Those of the subjects on which the server lets the sender publish."""
    async with _as(server, sender) as (client, said):
        for subject in subjects:
            await client.publish(subject, b"")
        await _settled(client)
        return {
            subject for subject in subjects if not any(f'publish to "{subject}"'.lower() in e for e in said)
        }


async def may_subscribe(server: LocalBroker, sender: str, *subjects: str) -> set[str]:
    """Those of the subjects to which the server lets the sender subscribe."""
    async with _as(server, sender) as (client, said):
        for subject in subjects:
            await client.subscribe(subject)
        await _settled(client)
        return {
            subject
            for subject in subjects
            if not any(f'subscription to "{subject}"'.lower() in e for e in said)
        }


async def test_a_bot_may_say_and_hear_what_is_its_own(server: LocalBroker) -> None:
    own = {
        "cmd.orchestrator.bot-ada.t1",
        "hb.ada",
        "live.ada.t1",
        "file.ada.get",
        "file.ada.put",
        "children.ada",
        "mail.ada",
        "cmd.messenger.bot-ada.m1",
        "$JS.API.CONSUMER.MSG.NEXT.DISPATCH.bot-ada",
        "$JS.ACK.DISPATCH.bot-ada.1.1.1.1.0",
    }
    assert await may_publish(server, "bot-ada", *own) == own
    heard = {"_INBOX.bot-ada.x", "_INBOX.bot-ada.>", "ctl.ada", "inbox.ada.*"}
    assert await may_subscribe(server, "bot-ada", *heard) == heard


async def test_a_bot_cannot_speak_for_another_or_touch_the_log(server: LocalBroker) -> None:
    not_its_own = {
        "cmd.orchestrator.bot-bob.t1",
        "cmd.orchestrator.gateway.t1",
        "cmd.orchestrator.svc-orchestrator.t1",
        "cmd.orchestrator.5.bot-ada.t1",
        "hb.bob",
        "live.bob.t1",
        "file.bob.put",
        "children.bob",
        "mail.bob",
        "inbox.ada.p0",
        "inbox.bob.p0",
        "cmd.messenger.bot-bob.m1",
        "evt.message.m1",
        "run.ada",
        "run.bob",
        "evt.task.t1",
        "evt.audit.orchestrator",
        "dead.orchestrator.t1.1",
        "ask.orchestrator.GetTask",
        "host.local.order",
        "host.local.report",
        "ctl.ada",
        "ops.revoke",
        "_INBOX.bot-ada.x",
        "_INBOX.gateway.x",
        "$KV.config.current",
        "$KV.seats.orchestrator.blue",
        "$O.FILES.C.x",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.STREAM.CREATE.LIVE",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.DISPATCH",
        "$JS.API.STREAM.MSG.GET.DISPATCH",
        "$JS.API.DIRECT.GET.DISPATCH",
        "$JS.API.DIRECT.GET.EVENTS.evt.task.t1",
        "$JS.API.CONSUMER.CREATE.DISPATCH.bot-ada",
        "$JS.API.CONSUMER.CREATE.DISPATCH.bot-ada.run.bob",
        "$JS.API.CONSUMER.DELETE.DISPATCH.bot-ada",
        "$JS.API.CONSUMER.MSG.NEXT.DISPATCH.bot-bob",
        "$JS.API.CONSUMER.MSG.NEXT.CMD_ORCHESTRATOR.orchestrator-blue",
        "$JS.ACK.DISPATCH.bot-bob.1.1.1.1.0",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SRV.PING",
    }
    assert await may_publish(server, "bot-ada", *not_its_own) == set()


async def test_the_prefix_of_the_domain_is_no_way_round(server: LocalBroker) -> None:
    async with _as(server, "bot-ada") as (client, said):
        await client.publish("$JS.hive.API.STREAM.INFO.EVENTS", b"")
        await _settled(client)
    assert said == ['nats: permissions violation for publish to "$js.api.stream.info.events"']


async def test_a_bot_cannot_listen_to_others(server: LocalBroker) -> None:
    secret = {
        ">",
        "_INBOX.>",
        "_INBOX.*.>",
        "_INBOX.bot-bob.>",
        "ctl.*",
        "ctl.bob",
        "inbox.bob.*",
        "inbox.*.p0",
        "mail.*",
        "hb.*",
        "run.ada",
        "run.>",
        "evt.>",
        "cmd.>",
        "live.>",
        "file.*.put",
        "host.local.order",
        "ops.revoke",
        "$KV.>",
        "$JS.EVENT.>",
        "$SYS.>",
    }
    assert await may_subscribe(server, "bot-ada", *secret) == set()


async def test_names_that_begin_alike_are_still_different_bots(server: LocalBroker) -> None:
    assert await may_publish(server, "bot-a", "hb.ab", "cmd.orchestrator.bot-ab.t") == set()
    assert await may_publish(server, "bot-ab", "hb.a", "cmd.orchestrator.bot-a.t") == set()
    assert await may_publish(server, "bot-ab", "hb.ab") == {"hb.ab"}


@pytest.mark.parametrize("sender", SENDERS)
async def test_no_one_but_ops_changes_or_removes_a_stream(server: LocalBroker, sender: str) -> None:
    names = {
        "EVENTS",
        "CMD_ORCHESTRATOR",
        "CMD_GATEWAY",
        "CMD_MESSENGER",
        "CMD_SCHEDULER",
        "LIVE",
        "DEAD",
        "KV_config",
        "KV_seats",
    }
    verbs = ("UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE")
    subjects = {f"$JS.API.STREAM.{verb}.{name}" for verb in verbs for name in names}
    subjects |= {f"$JS.API.STREAM.CREATE.{name}" for name in names - {"LIVE", "KV_seats"}}
    subjects |= {f"$JS.API.STREAM.{verb}.DISPATCH" for verb in ("UPDATE", "DELETE", "MSG.DELETE")}
    subjects |= {f"$JS.API.CONSUMER.{verb}.CMD_ORCHESTRATOR.x" for verb in ("CREATE", "DELETE", "RESET")}
    assert await may_publish(server, sender, *subjects) == set()


WRITES = {"gateway": "key", "orchestrator": "task", "messenger": "message", "scheduler": "performance"}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_writes_only_in_its_own_name(server: LocalBroker, service: str) -> None:
    other = next(name for name in SERVICES if name != service)
    sender = naming.service_sender(service)
    foreign = {
        *(f"evt.{aggregate}.x" for name, aggregate in WRITES.items() if name != service),
        naming.audit_subject(other),
        naming.command_subject(other, naming.service_sender(other), "x"),
        naming.command_subject(other, "bot-ada", "x"),
        naming.dead_subject(other, "t1", "1"),
        f"$KV.seats.{other}.blue",
        f"$KV.suspects.{other}.1",
        "$KV.config.current",
        "$KV.mode.current",
        "hb.ada",
        "ops.revoke",
        f"$JS.API.CONSUMER.MSG.NEXT.{naming.command_stream(other)}.{other}-blue",
        f"$JS.ACK.{naming.command_stream(other)}.{other}-blue.1.1.1.1.0",
    }
    own = {
        f"evt.{WRITES[service]}.x",
        naming.audit_subject(service),
        naming.command_subject(other, sender, "x"),
        naming.dead_subject(service, "t1", "1"),
        f"$KV.seats.{service}.blue",
        f"$KV.suspects.{service}.1",
        f"$JS.API.CONSUMER.MSG.NEXT.{naming.command_stream(service)}.{service}-green",
        "$JS.API.STREAM.CREATE.LIVE",
        "$JS.API.STREAM.CREATE.KV_seats",
    }
    assert await may_publish(server, sender, *foreign, *own) == own


async def test_only_the_orchestrator_sends_work_orders_and_word_to_bots(server: LocalBroker) -> None:
    subjects = {
        "run.ada",
        "ctl.ada",
        "host.local.order",
        "$JS.API.STREAM.PURGE.DISPATCH",
        "$JS.API.CONSUMER.CREATE.DISPATCH.bot-ada",
        "$O.FILES.C.x",
    }
    assert await may_publish(server, "svc-orchestrator", *subjects) == subjects
    for sender in ("gateway", "svc-messenger", "svc-bots", "bot-ada"):
        assert await may_publish(server, sender, *subjects) == set()


async def test_only_the_messenger_sends_mail(server: LocalBroker) -> None:
    mail = {"inbox.ada.p0", "inbox.ada.hello"}
    assert await may_publish(server, "svc-messenger", *mail) == mail
    assert await may_subscribe(server, "svc-messenger", "mail.*", "hb.*") == {"mail.*"}
    for sender in ("gateway", "svc-orchestrator", "svc-bots", "bot-ada"):
        assert await may_publish(server, sender, *mail) == set()


async def test_only_the_scheduler_says_which_bots_are_good(server: LocalBroker) -> None:
    said = {"$KV.routing.code"}
    assert await may_publish(server, "svc-scheduler", *said) == said
    assert await may_publish(server, "svc-scheduler", "$KV.health.alpha", "$KV.routing") == set()
    for sender in ("ops", "gateway", "svc-orchestrator", "svc-messenger", "svc-bots", "bot-ada"):
        assert await may_publish(server, sender, *said) == set()


async def test_the_bot_host_hears_orders_and_speaks_only_for_itself(server: LocalBroker) -> None:
    own = {"host.local.report", "cmd.orchestrator.svc-bots.ada", "ops.revoke", "_INBOX.svc-orchestrator.x"}
    foreign = {"cmd.orchestrator.bot-ada.t", "run.ada", "evt.bot.ada", "_INBOX.gateway.x", "$JS.API.INFO"}
    assert await may_publish(server, "svc-bots", *own, *foreign) == own
    assert await may_subscribe(server, "svc-bots", "host.local.order", "run.>", "hb.*") == {
        "host.local.order"
    }


async def test_ops_makes_streams_but_neither_decides_nor_commands(server: LocalBroker) -> None:
    foreign = {"evt.task.t", "cmd.orchestrator.gateway.t", "cmd.orchestrator.ops.t", "run.ada", "hb.ada"}
    assert await may_publish(server, OPS, *foreign, "$JS.API.STREAM.CREATE.X") == {"$JS.API.STREAM.CREATE.X"}


async def test_the_system_user_pushes_accounts_and_nothing_else(server: LocalBroker) -> None:
    assert await may_publish(server, "sys", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.x.CONNZ") == set()
    assert await may_subscribe(server, "sys", ">", "$SYS.>") == set()


MSG_NEXT = "$JS.API.CONSUMER.MSG.NEXT.DISPATCH.bot-ada"
ANSWERED_BY_THE_BROKER = [
    (MSG_NEXT, b'{"batch":1,"no_wait":true}'),
    (MSG_NEXT, b'{"batch":1}'),
    ("cmd.orchestrator.bot-ada.t1", b"{}"),
    ("live.ada.t1", b"{}"),
]
TARGETS = [
    "evt.task.t1",
    "$JS.API.STREAM.DELETE.DEAD",
    "$KV.seats.orchestrator.blue",
    "dead.orchestrator.t1.1",
]


async def _stored(ops: Connection, stream: str) -> int:
    answer = msgspec.json.decode(await ops.api(f"STREAM.INFO.{stream}"))
    count: int = answer["state"]["messages"]
    return count


async def test_the_broker_s_own_answers_cannot_be_sent_where_a_bot_may_not_speak(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    orchestrator = await connect(broker.settings("svc-orchestrator"))
    await ensure_bot_consumer(orchestrator, "ada")
    async with broker.client("bot-ada") as ada:
        for target in TARGETS:
            await orchestrator.request("run.ada", b"work", timeout=5)
            for subject, body in ANSWERED_BY_THE_BROKER:
                await ada.publish(subject, body, reply=target)
        await ada.request("cmd.orchestrator.bot-ada.last", b"{}", timeout=5)

    assert await _stored(ops, "CMD_ORCHESTRATOR") == len(TARGETS) + 1
    for stream in ("EVENTS", "DEAD", "KV_seats"):
        assert await _stored(ops, stream) == 0
    await orchestrator.close()
    await ops.close()


async def test_within_one_account_they_can_and_that_is_why_bots_have_their_own(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    async with broker.client("svc-bots") as host:
        await host.publish("cmd.orchestrator.svc-bots.t1", b"{}", reply="evt.task.t1")
        await host.request("cmd.orchestrator.svc-bots.last", b"{}", timeout=5)
    assert await _stored(ops, "EVENTS") == 1
    await ops.close()


async def test_a_service_s_answer_to_a_bot_reaches_nobody_else(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    orchestrator = await connect(broker.settings("svc-orchestrator"))
    heard = asyncio.Event()

    async def on_heartbeat(message: Msg) -> None:
        await orchestrator.publish(message.reply, b"held")
        if message.data == b"last":
            heard.set()

    await orchestrator.subscribe("hb.*", on_heartbeat)
    await orchestrator.nc.flush()
    async with broker.client("bot-ada") as ada:
        for target in (*TARGETS, "cmd.orchestrator.bot-bob.t1", "run.bob"):
            await ada.publish("hb.ada", b"", reply=target)
        assert (await ada.request("hb.ada", b"last", timeout=5)).data == b"held"
    async with asyncio.timeout(5):
        await heard.wait()
    for stream in ("EVENTS", "DEAD", "KV_seats", "CMD_ORCHESTRATOR", "DISPATCH"):
        assert await _stored(ops, stream) == 0
    await orchestrator.close()
    await ops.close()


async def test_an_outcome_finds_the_bot_that_sent_the_command(broker: LocalBroker) -> None:
    orchestrator = await connect(broker.settings("svc-orchestrator"))
    async with broker.client("bot-ada") as ada, broker.client("bot-bob") as bob:
        hers = await ada.subscribe("_INBOX.bot-ada.outcome")
        his = await bob.subscribe("_INBOX.bot-bob.>")
        for bot in (ada, bob):
            await _settled(bot)

        await orchestrator.publish("_INBOX.bot-ada.outcome", b"committed")
        await orchestrator.publish("ctl.ada", b"nobody else hears this either")
        await orchestrator.publish("_INBOX.bot-bob.last", b"last")

        assert (await hers.next_msg(5)).data == b"committed"
        assert (await his.next_msg(5)).data == b"last"
    await orchestrator.close()


async def test_a_bot_takes_its_own_work_and_acks_it(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    orchestrator = await connect(broker.settings("svc-orchestrator"))
    await ensure_bot_consumer(orchestrator, "ada")
    await orchestrator.request("run.ada", b"work", timeout=5)

    async with broker.client("bot-ada") as ada:
        inbox = ada.new_inbox()
        pulled = await ada.subscribe(inbox)
        await ada.publish("$JS.API.CONSUMER.MSG.NEXT.DISPATCH.bot-ada", b'{"batch":1}', reply=inbox)
        message = await pulled.next_msg(5)
        assert (message.subject, message.data) == ("run.ada", b"work")
        assert message.reply.startswith("$JS.ACK.DISPATCH.bot-ada.")
        await message.ack_sync(5)

    info = await ops.api("CONSUMER.INFO.DISPATCH.bot-ada")
    assert b'"num_ack_pending":0' in info
    await orchestrator.close()
    await ops.close()


async def test_a_pull_that_outlasts_its_way_back_is_refused(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    orchestrator = await connect(broker.settings("svc-orchestrator"))
    await ensure_bot_consumer(orchestrator, "ada")
    async with broker.client("bot-ada") as ada:
        inbox = ada.new_inbox()
        pulled = await ada.subscribe(inbox)
        await ada.publish(MSG_NEXT, b'{"batch":1,"expires":60000000000}', reply=inbox)
        refusal = await pulled.next_msg(5)
    assert refusal.headers is not None
    assert "MaxRequestExpires" in refusal.headers["Description"]
    await orchestrator.close()
    await ops.close()


async def test_a_bot_s_message_may_be_a_whole_file_and_not_more(server: LocalBroker) -> None:
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    async with _as(server, "bot-ada", closed_cb=on_closed) as (client, said):
        await client.publish("file.ada.put", b"x" * INPUT_BYTES_MAX)
        await _settled(client)
        assert (said, client.is_connected) == ([], True)
        await client.publish("file.ada.put", b"x" * (BOT_PAYLOAD_BYTES_MAX + 1))
        async with asyncio.timeout(5):
            await closed.wait()


async def test_what_the_log_refuses_even_ops_cannot_force(broker: LocalBroker) -> None:
    ops = await connect(broker.settings("ops"))
    await ensure(ops)
    with pytest.raises(BrokerRefused):
        await ops.api("STREAM.PURGE.EVENTS")
    await ops.close()


@pytest.mark.parametrize(("name", "role"), ROLES.items())
def test_no_list_is_empty_and_none_names_a_subject_twice(name: str, role: Role) -> None:
    for subjects in (role.publish, role.subscribe):
        assert subjects, f"{name}: an empty list would allow everything"
        assert len(subjects) == len(set(subjects))
        assert ">" not in subjects


def test_every_subject_of_a_bot_names_it_except_where_the_sender_does() -> None:
    assert all("{{name()}}" in subject for subject in (*ROLES[BOT].publish, *ROLES[BOT].subscribe))
