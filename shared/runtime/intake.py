"""Commands in: whose they are, what they say, and who decides them. Refuses what may not be asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from shared.contracts.naming import (
    REPLY_HEADER,
    CommandAddress,
    inbox_prefix,
    parse_stored_command,
    sender_kind,
)
from shared.kernel.codec import Codec
from shared.kernel.errors import Rejected, Undecodable
from shared.kernel.messages import Cause, Command, Envelope, Outcome

_ENVELOPE = msgspec.json.Decoder(Envelope)


class Decides(Protocol):
    """A handler, as the queue sees it."""

    aggregate: str

    async def handle(self, command: Any, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...

    def forget(self) -> None:
        """Drop what memory holds."""
        ...


@dataclass(frozen=True)
class Route:
    """Commands of one union go to one handler."""

    requests: object
    handler: Decides
    translate: Callable[[Any], Command] | None = None


@dataclass(frozen=True)
class Request:
    """A command as it came: who sent it, what it asks, and where its outcome may go."""

    address: CommandAddress
    envelope: Envelope
    command: Command
    handler: Decides
    reply_to: str | None

    @property
    def cause(self) -> Cause:
        """The actor of the payload is believed only from the gateway."""
        trusted = self.address.sender == "gateway"
        return Cause(
            message_id=self.envelope.id,
            correlation_id=self.envelope.chain,
            actor=self.envelope.actor if trusted else self.address.sender,
        )


class Intake:
    """Reads stored commands by the routes of one service."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._codecs = [(Codec[Command](route.requests), route) for route in routes]  # type: ignore[arg-type]
        self._by_tag = {tag: (codec, route) for codec, route in self._codecs for tag in codec.tags}
        self._peek = self._codecs[0][0] if routes else None

    def read(self, subject: str, headers: Mapping[str, str], data: bytes) -> Request:
        """Undecodable: for the dead letters. Rejected: the sender may not ask this."""
        address = parse_stored_command(subject)
        try:
            envelope = _ENVELOPE.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"envelope: {error}") from error
        assert self._peek is not None
        tag = self._peek.tag(envelope.command)
        known = self._by_tag.get(tag)
        if known is None:
            raise Undecodable(f"unknown command {tag!r}")
        codec, route = known
        command = codec.decode(envelope.command)
        _authorise(address, command)
        reply_to = headers.get(REPLY_HEADER, "")
        answerable = reply_to.startswith(f"{inbox_prefix(address.sender)}.") and not set(reply_to) & set(
            " *>\r\n\t"
        )
        return Request(
            address=address,
            envelope=envelope,
            command=command if route.translate is None else route.translate(command),
            handler=route.handler,
            reply_to=reply_to if answerable else None,
        )


def _authorise(address: CommandAddress, command: Command) -> None:
    kind = sender_kind(address.sender)
    name = type(command).__name__
    if kind not in command.senders:
        raise Rejected("sender_refused", f"{address.sender} may not send {name}")
    if kind == "bot" and address.sender != f"bot-{getattr(command, 'bot_id', '')}":
        raise Rejected("sender_refused", f"{address.sender} may not speak for another bot")
    if command.key != address.aggregate_id:
        raise Rejected(
            "sender_refused", f"{name} is about {command.key}, but was sent to {address.aggregate_id}"
        )
