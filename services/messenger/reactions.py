"""What is outstanding: what time has brought, what is lost, whom to greet. Nothing is decided here."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from services.messenger.board import Board
from services.messenger.commands import ExpireMessage, LoseDelivery
from services.messenger.decider.message_state import Delivered, Pending
from services.messenger.lanes import Entry
from services.messenger.mailbox import Mailbox
from services.messenger.scene import Moment, Scene
from services.messenger.steps import Decide, Greet, Recall, Spread, Step
from shared.contracts.naming import partition_of
from shared.contracts.words import TAKEN_WITHIN, BotId

EXPIRED_AT_ONCE_MAX: Final = 256
DOUBTED_AFTER_S: Final = 30.0  # of a session; whoever works on what has expired is asked so often


def passed(scene: Scene, moment: Moment) -> list[Step]:
    """What time alone has made outstanding."""
    board, greetings = scene.board, scene.greetings
    board.pass_time(moment.utc)
    steps: list[Step] = list(islice(_expired(scene, moment), EXPIRED_AT_ONCE_MAX))
    for box in board.sessions.values():
        if _is_slow(box, moment.mono):
            greetings.want(box.bot_id, moment.mono)
        steps += lost(box)
    steps += greet(scene, moment.mono)
    steps += [Recall(message_id) for message_id in board.recalled]
    steps += [
        Spread(broadcast_id) for broadcast_id in board.broadcasts if partition_of(broadcast_id) in board.owned
    ]
    return steps


def todo(scene: Scene, moment: Moment) -> list[Step]:
    """Everything outstanding in the partitions that are ours."""
    for box in scene.board.boxes.values():
        if wants_greeting(scene.board, box, moment.mono):
            scene.greetings.want(box.bot_id, moment.mono)
    return passed(scene, moment)


def greet(scene: Scene, mono: float) -> list[Step]:
    """The bots whose time it is to be asked for a Hello; whoever needs none any more is asked no more."""
    steps: list[Step] = []
    for bot_id in scene.greetings.due(mono):
        box = scene.board.boxes.get(bot_id)
        if box is not None and wants_greeting(scene.board, box, mono):
            steps.append(Greet(bot_id))
        else:
            scene.greetings.drop(bot_id)
    return steps


def wants_greeting(board: Board, box: Mailbox, mono: float) -> bool:
    """Whether a bot is to say Hello: it has something to get, and no session or one that does not work."""
    ours = box.partition in board.owned and box.bot_id in board.directory.bots
    return ours and box.outstanding and (box.session is None or _is_slow(box, mono))


def lost(box: Mailbox) -> list[Step]:
    """What a bot had taken to see to, and no longer has, comes again."""
    if box.session is None:
        return []
    steps: list[Step] = []
    for message_id, counts in box.session.lost.items():
        entry = box.kept[message_id]
        assert isinstance(entry.state, Delivered), entry.state
        command = LoseDelivery(message_id=message_id, delivery=entry.state.delivery, counts=counts)
        steps.append(Decide(command, entry.cause, entry.version))
    return steps


def _is_slow(box: Mailbox, mono: float) -> bool:
    """Whether the oldest mail on its way should have been taken, or its session is doubted."""
    assert box.session is not None
    if box.session.doubted:
        return True
    oldest = next(iter(box.session.untaken.values()), None)
    return oldest is not None and mono - oldest > TAKEN_WITHIN.total_seconds()


def _expired(scene: Scene, moment: Moment) -> Iterator[Step]:
    for entry in scene.board.overdue(moment.utc):
        if isinstance(entry.state, Pending):
            if partition_of(entry.message_id) in scene.board.owned:
                yield _expire(entry, absent=False)
            continue
        box = scene.board.boxes[BotId(entry.state.order.recipient)]
        if _is_absent(scene, box, moment.mono):
            yield _expire(entry, absent=True)
        elif isinstance(entry.state, Delivered) and moment.utc - entry.state.expires_at > TAKEN_WITHIN:
            _doubt(box, moment.mono)


def _doubt(box: Mailbox, mono: float) -> None:
    """It should have said by now that the time of something is over, or that it works on it still."""
    if box.session is not None and mono - box.session.begun >= DOUBTED_AFTER_S:
        box.session.doubted = True


def _is_absent(scene: Scene, box: Mailbox, mono: float) -> bool:
    """Whether a bot is not there to say what became of what it had taken."""
    if box.partition not in scene.board.owned:
        return False
    return box.bot_id not in scene.board.directory.bots or scene.greetings.is_absent(box.bot_id, mono)


def _expire(entry: Entry, *, absent: bool) -> Decide:
    return Decide(ExpireMessage(message_id=entry.message_id, absent=absent), entry.cause, entry.version)
