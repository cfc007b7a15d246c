"""Runs the messenger: `python -m services.messenger`."""

from typing import Any

from services.messenger.admission import Admission
from services.messenger.answers import Answers
from services.messenger.decider import BROADCAST, MESSAGE
from services.messenger.doors import Doors
from services.messenger.facts import BOTS_HEARD, BROADCAST_CODEC, KEYS_HEARD, MESSAGE_CODEC
from services.messenger.letters import LettersFirst
from services.messenger.performing import Performer
from services.messenger.scene import Moment, Scene
from services.messenger.service import Messenger
from services.messenger.tables import SCHEMA, SELECT_ALIVE, SELECT_PARTIES, VERSION, Rows
from shared.contracts.messenger.commands import BroadcastRequest, MessageRequest
from shared.contracts.messenger.queries import (
    AwaitConversation,
    GetBroadcast,
    GetConversation,
    GetInbox,
    GetMessage,
    GetMessagingStatus,
    ListMessages,
)
from shared.contracts.naming import mail_subject
from shared.kernel.codec import Codec
from shared.runtime.active import owned_partitions
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.dead import DeadLetterBox
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.process import run
from shared.runtime.views import Statement


def assemble(runtime: Runtime) -> Assembly:
    """Where the parts meet."""

    def moment() -> Moment:
        return Moment(runtime.now(), runtime.monotonic(), runtime.config())

    async def owned_now() -> frozenset[int]:
        return await owned_partitions(runtime.connection, runtime.service, runtime.settings.colour)

    async def up_to_date() -> None:
        await runtime.seen(await runtime.store.version("message", "*"))

    heard: dict[str, Codec[Any]] = {
        "message": MESSAGE_CODEC,
        "broadcast": BROADCAST_CODEC,
        "bot": BOTS_HEARD,
        "key": KEYS_HEARD,
    }
    scene = Scene()
    changes = Rows()
    table = runtime.table(
        "messages",
        version=VERSION,
        schema=SCHEMA,
        codecs=heard,
        rows=lambda batch, read: [Statement(sql, values) for sql, values in changes(batch, read)],
        forget=changes.forget,
    )
    answers = Answers(scene, table, runtime.store, moment=moment, seen=runtime.seen)
    messenger = Messenger(
        scene,
        answers,
        runtime.connection,
        moment=moment,
        owned=runtime.owned,
        owned_now=owned_now,
        up_to_date=up_to_date,
    )
    admission = Admission(scene.board, runtime.config)
    messages = LettersFirst(
        runtime.handler(
            MESSAGE, "message", MESSAGE_CODEC, prepare=admission.prepare, released=admission.released
        ),
        runtime.store,
        DeadLetterBox(runtime.service, runtime.connection, runtime.publisher),
        runtime.now,
    )
    broadcasts = runtime.handler(BROADCAST, "broadcast", BROADCAST_CODEC, prepare=admission.prepare_broadcast)
    performer = Performer(scene, messages, broadcasts, runtime.store, runtime.connection)
    live = Live(table=table, alive=SELECT_ALIVE, totals=SELECT_PARTIES, begun=scene.board.begin)
    view = runtime.follow("board", heard, messenger.followed, live=live)
    runtime.connection.on_reconnect(messenger.on_reconnect)
    return Assembly(
        commands=[Route(MessageRequest, messages), Route(BroadcastRequest, broadcasts)],
        queries=[
            runtime.answer(GetMessage, answers.get_message),
            runtime.answer(ListMessages, answers.list_messages),
            runtime.answer(GetInbox, answers.get_inbox),
            runtime.answer(GetConversation, answers.get_conversation),
            runtime.answer(AwaitConversation, answers.await_conversation),
            runtime.answer(GetMessagingStatus, answers.get_status),
            runtime.answer(GetBroadcast, answers.get_broadcast),
        ],
        views=[view],
        tables=[table],
        todo=messenger.todo,
        subscriptions=[(mail_subject("*"), Doors(messenger).on_hello)],
        background=[lambda: messenger.run(performer.perform)],
    )


def main() -> None:
    """The process' entry."""
    run("messenger", assemble)


if __name__ == "__main__":
    main()
