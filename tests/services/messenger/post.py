"""A real broker, messengers as processes of their own, and bots in bare nats-py."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.contracts import naming
from shared.contracts.config import Config
from shared.contracts.gateway import KeyCreated
from shared.contracts.messenger.commands import LetExpire, ReadMessage, ReturnMessage, TakeMessage
from shared.contracts.messenger.protocol import Hello, HelloAnswer, Mail
from shared.contracts.messenger.queries import GetMessage, GetMessagingStatus, MessageDoc
from shared.contracts.orchestrator.facts import BotLaunched, BotSpec
from shared.contracts.words import PARTITIONS, BotId, KeyId, MessageId
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Command, Commit, Committed, Envelope, Fact, Outcome
from shared.runtime.clock import now
from shared.runtime.commands import OUTCOME, Sender
from shared.runtime.config_watch import CONFIG_SUBJECT
from shared.runtime.connection import Connection, connect
from shared.runtime.ids import new_id
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.queries import Asker
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[3]
WITHIN_S = 20.0
NO_PARTITION = naming.stored_command_filter("messenger", 0)
_mails = msgspec.json.Decoder(Mail)
_answers = msgspec.json.Decoder(HelloAnswer)


class Bot:
    """A bot in a few lines of bare nats-py. `mails` are those of its session, in the order of arrival."""

    def __init__(self, client: Client, bot_id: BotId) -> None:
        self._client = client
        self.bot_id = bot_id
        self.session = ""
        self.mails: list[Mail] = []
        self.greeted = asyncio.Event()
        self.hellos = 0
        self._news = asyncio.Event()
        self._outcomes: dict[str, asyncio.Future[Outcome]] = {}

    async def open(self) -> None:
        await self._client.subscribe(naming.inbox_subject(self.bot_id, "*"), cb=self._on_mail)
        inbox = naming.inbox_prefix(naming.bot_sender(self.bot_id))
        await self._client.subscribe(f"{inbox}.outcome", cb=self._on_outcome)

    async def hello(self, holding: Sequence[str] = ()) -> HelloAnswer:
        """A new session, asked for until it is answered."""
        self.session = new_id()
        self.mails.clear()
        self.greeted.clear()
        self.hellos += 1
        hello = Hello(
            bot_id=self.bot_id, session=self.session, holding=tuple(MessageId(each) for each in holding)
        )
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    answer = await self._client.request(
                        naming.mail_subject(self.bot_id), encode(hello), timeout=1
                    )
                except NatsError:
                    await asyncio.sleep(0.05)
                    continue
                return _answers.decode(answer.data)

    async def is_met(self, session: str) -> bool:
        """Whether a Hello that names this session is answered."""
        hello = Hello(bot_id=self.bot_id, session=session)
        try:
            await self._client.request(naming.mail_subject(self.bot_id), encode(hello), timeout=1)
        except NatsError:
            return False
        return True

    async def until(self, there: Callable[[list[Mail]], bool]) -> list[Mail]:
        """Wait for mail."""
        async with asyncio.timeout(WITHIN_S):
            while not there(self.mails):
                self._news.clear()
                await self._news.wait()
        return self.mails

    async def got(self, count: int) -> list[Mail]:
        """Wait for so many mails in this session."""
        return await self.until(lambda mails: len(mails) >= count)

    async def take(self, mail: Mail, *, kept: bool = False) -> Outcome:
        return await self._say(
            TakeMessage(message_id=mail.message_id, bot_id=self.bot_id, delivery=mail.delivery, kept=kept)
        )

    async def read(self, mail: Mail) -> Outcome:
        return await self._say(
            ReadMessage(message_id=mail.message_id, bot_id=self.bot_id, delivery=mail.delivery)
        )

    async def give_back(self, mail: Mail, *, retryable: bool = True) -> Outcome:
        return await self._say(
            ReturnMessage(
                message_id=mail.message_id,
                bot_id=self.bot_id,
                delivery=mail.delivery,
                code="engine_failed",
                reason="exit 1",
                retryable=retryable,
            )
        )

    async def let_expire(self, mail: Mail) -> Outcome:
        return await self._say(
            LetExpire(message_id=mail.message_id, bot_id=self.bot_id, delivery=mail.delivery)
        )

    async def say(self, command: Command) -> Outcome:
        """Any other command of its own."""
        return await self._say(command)

    async def _say(self, command: Command) -> Outcome:
        """A command the way any client sends one, and what its owner says to it."""
        sender, command_id = naming.bot_sender(self.bot_id), new_id()
        envelope = Envelope(id=command_id, chain=new_id(), actor=sender, command=msgspec.Raw(encode(command)))
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._outcomes[command_id] = answered
        await self._client.publish(
            naming.command_subject(command.service, sender, command.key),
            encode(envelope),
            headers={
                naming.REPLY_HEADER: f"{naming.inbox_prefix(sender)}.outcome",
                "Nats-Msg-Id": command_id,
            },
        )
        async with asyncio.timeout(WITHIN_S):
            return await answered

    async def _on_outcome(self, message: Msg) -> None:
        outcome: Outcome = OUTCOME.decode(message.data)
        answered = self._outcomes.pop(outcome.command_id, None)
        if answered is not None and not answered.done():
            answered.set_result(outcome)

    async def _on_mail(self, message: Msg) -> None:
        if message.subject.endswith(naming.GREETING):
            self.greeted.set()
            return
        mail = _mails.decode(message.data)
        assert message.subject == naming.inbox_subject(self.bot_id, mail.priority.lower()), message.subject
        if mail.session == self.session:
            self.mails.append(mail)
            self._news.set()


class Post:
    """Everything a test needs of running messengers."""

    def __init__(self, broker: LocalBroker, gateway: Connection) -> None:
        self.broker = broker
        self.gateway = gateway
        self.ask = Asker(gateway)
        self.send: Sender
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_messenger(self, instance: str = "one", colour: str = "blue") -> subprocess.Popen[bytes]:
        settings = self.broker.settings("svc-messenger")
        assert settings.creds is not None
        with (self.broker.folder / f"messenger-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.messenger"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "HIVE_NATS_URL": self.broker.url,
                    "HIVE_CREDS": str(settings.creds),
                    "HIVE_DATA": str(settings.data),
                    "HIVE_INSTANCE": instance,
                    "HIVE_COLOUR": colour,
                },
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def end_messengers(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def kill_messenger(self, which: int) -> None:
        self._processes[which].kill()
        self._processes[which].wait()

    async def configure(self, **changed: Any) -> None:
        """Another configuration, known to the messenger when this returns."""
        ops = await connect(self.broker.settings("ops"))
        await ops.nc.jetstream().publish(CONFIG_SUBJECT, encode(Config(**changed)))
        await ops.close()
        self.end_messengers()
        self.start_messenger()
        await self.answers()

    async def split_partitions(self) -> None:
        """Even partitions are blue's, odd ones green's."""
        for which, colour in enumerate(naming.COLOURS):
            await self.own(colour, range(which, PARTITIONS, 2))

    async def own(self, colour: str, partitions: Sequence[int]) -> None:
        """These partitions are a colour's from now on; what waits in them is delivered from the beginning."""
        ops = await connect(self.broker.settings("ops"))
        stream = naming.command_stream("messenger")
        consumer = naming.command_consumer("messenger", colour)
        filters = naming.stored_command_filters("messenger", partitions)
        config = {
            "durable_name": consumer,
            "name": consumer,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": 2_000_000_000,
            "max_deliver": -1,
            "max_ack_pending": 4096,
            "filter_subjects": filters or [NO_PARTITION.replace(".0.", f".{colour}.")],
        }
        body = encode({"stream_name": stream, "config": config})
        await ops.api(f"CONSUMER.CREATE.{stream}.{consumer}", body)
        if partitions:
            await ops.api(f"CONSUMER.RESET.{stream}.{consumer}", b'{"seq":1}')
        await ops.close()

    async def answers(self) -> None:
        """Wait until a messenger answers."""

        async def answers() -> bool:
            await self.ask(GetMessagingStatus())
            return True

        await self.until(answers)

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """The check is asked again and again, WITHIN_S at most."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    if await check():
                        return
                except Unavailable:
                    pass
                await asyncio.sleep(0.05)

    async def committed(self, command: Command) -> int:
        outcome = await self.send(command, actor="key-1", wait_s=WITHIN_S)
        assert isinstance(outcome, Committed), outcome
        return outcome.sequence

    async def message(self, message_id: str) -> MessageDoc:
        return await self.ask(GetMessage(message_id=MessageId(message_id)))

    async def has(self, message_id: str, state: str) -> MessageDoc:
        """Wait until a message has come to a state."""

        async def has_it() -> bool:
            return (await self.message(message_id)).state == state

        await self.until(has_it)
        return await self.message(message_id)

    async def launched(self, *names: str, pool: str = "default") -> None:
        """Bots that the orchestrator told of."""
        spec = BotSpec(engine="echo", pool=pool)
        facts = {name: BotLaunched(bot_id=BotId(name), spec=spec, generation=1) for name in names}
        await self._tell("svc-orchestrator", "bot", facts)

    async def person(self, name: str) -> None:
        """A key of that name."""
        fact = KeyCreated(
            key_id=KeyId(f"key-{name}"), name=name, kind="api", prefix="hive", secret_hash="", scopes=()
        )
        await self._tell("gateway", "key", {fact.key_id: fact})

    async def _tell(self, sender: str, aggregate: str, facts: Mapping[str, Fact]) -> None:
        connection = await connect(self.broker.settings(sender))
        publisher = Publisher(connection)
        await publisher.start()
        store = JetStreamStore(connection, publisher)
        for aggregate_id, fact in facts.items():
            told = [msgspec.Raw(encode(fact))]
            commit = Commit(id=new_id(), at=now(), actor=sender, cause=new_id(), chain=new_id(), facts=told)
            await store.append(aggregate, aggregate_id, commit, expected=0)
        await publisher.stop()
        await connection.close()

    @asynccontextmanager
    async def bot(self, name: str) -> AsyncIterator[Bot]:
        """A bot's process, which has not said Hello yet."""
        options = {"allow_reconnect": True, "max_reconnect_attempts": -1, "reconnect_time_wait": 0.1}
        async with self.broker.client(naming.bot_sender(name), **options) as client:
            bot = Bot(client, BotId(name))
            await bot.open()
            yield bot


@asynccontextmanager
async def post(folder: Path) -> AsyncIterator[Post]:
    """A broker with its topology, and a gateway; start the messenger yourself."""
    broker = LocalBroker(folder)
    try:
        ops = await connect(broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        gateway = await connect(broker.settings("gateway"))
        publisher = Publisher(gateway)
        await publisher.start()
        office = Post(broker, gateway)
        office.send = Sender(gateway, publisher)
        await office.send.start()
        try:
            yield office
        finally:
            office.end_messengers()
            await publisher.stop()
            await gateway.close()
    finally:
        broker.close()
