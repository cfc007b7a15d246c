"""Whether a message may come in, as far as the board knows: are there such bots, has the inbox room?"""

from collections.abc import Callable

from services.messenger.board import Board
from services.messenger.commands import (
    AdmitMessage,
    BroadcastWish,
    MessageWish,
    OpenBroadcast,
    Refusal,
    TakeBack,
)
from services.messenger.decider.broadcast import Broadcast, NoBroadcast
from services.messenger.decider.message_state import Message, Unknown
from shared.contracts.config import Config
from shared.contracts.messenger.commands import PostMessage, ReturnMessage, SendBroadcast, SendMessage
from shared.contracts.words import BotId, Party, Priority, is_person


class Admission:
    """Fills commands with what is known now. What is being decided counts as unread, too."""

    def __init__(self, board: Board, config: Callable[[], Config]) -> None:
        self._board = board
        self._config = config

    def prepare(self, message: Message, wish: MessageWish) -> MessageWish:
        """A new message with the word on its admission; what is returned with the waits in force."""
        match wish:
            case SendMessage() | PostMessage() if isinstance(message, Unknown):
                return self._admit(wish)
            case ReturnMessage():
                config = self._config()
                return TakeBack(
                    message_id=wish.message_id,
                    wish=wish,
                    backoff_first_s=config.message_backoff_first_s,
                    backoff_max_s=config.message_backoff_max_s,
                )
            case _:
                return wish

    def released(self, wish: MessageWish) -> None:
        """What was kept for a message that did not come in is free again."""
        if isinstance(wish, AdmitMessage):
            self._board.release(wish.message_id)

    def prepare_broadcast(self, broadcast: Broadcast, wish: BroadcastWish) -> BroadcastWish:
        """A new broadcast with the bots that it is for."""
        if not (isinstance(wish, SendBroadcast) and isinstance(broadcast, NoBroadcast)):
            return wish
        said = [
            f"{word} {what}" for word, what in (("pool", wish.pool), ("type", wish.type)) if what is not None
        ]
        return OpenBroadcast(
            broadcast_id=wish.broadcast_id,
            wish=wish,
            recipients=self._board.directory.selected(wish.sender, wish.pool, wish.type),
            selection=", ".join(said) or "all",
            refusal=self._stranger(wish.sender),
        )

    def _admit(self, wish: SendMessage | PostMessage) -> AdmitMessage:
        board, recipient = self._board, wish.recipient
        if isinstance(wish, SendMessage) and wish.broadcast is None:
            stranger = self._stranger(wish.sender)
            if stranger is not None:
                return AdmitMessage(message_id=wish.message_id, wish=wish, refusal=stranger)
        known = board.directory.knows(recipient)
        if not known and not wish.hold:
            unknown = Refusal("recipient_unknown", self._no_such(recipient))
            return AdmitMessage(message_id=wish.message_id, wish=wish, refusal=unknown)
        if not is_person(recipient):
            inbox_max = self._config().inbox_max
            if wish.priority is not Priority.P0 and board.unread(BotId(recipient)) >= inbox_max:
                full = Refusal(
                    "inbox_full", f"{recipient} has {inbox_max} unread messages: only P0 is accepted"
                )
                return AdmitMessage(message_id=wish.message_id, wish=wish, refusal=full)
            board.reserve(wish.message_id, BotId(recipient))
        return AdmitMessage(message_id=wish.message_id, wish=wish, held=not known)

    def _stranger(self, sender: Party) -> Refusal | None:
        """Why nobody can speak for this bot; who speaks as a person is known by its key."""
        if is_person(sender) or self._board.directory.knows(sender):
            return None
        return Refusal("sender_unknown", self._no_such(sender))

    def _no_such(self, party: Party) -> str:
        near = self._board.directory.nearest(party)
        hint = f"; there is {', '.join(near)}" if near else ""
        return f"there is no {party[:101]}{hint}"
