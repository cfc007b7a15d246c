"""What a stored message of a command queue holds: one command, or a bot's parcel of several."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from shared.contracts.naming import PARCEL_HEADER, REPLY_HEADER, sender_kind
from shared.kernel.errors import Undecodable
from shared.kernel.messages import PARCEL_MAX


class _Perhaps(msgspec.Struct):
    parcel: list[msgspec.Raw] | None = None


_PERHAPS: Final = msgspec.json.Decoder(_Perhaps)


@dataclass(frozen=True, slots=True)
class Item:
    """One command as it is stored. One out of a parcel has the parcel's subject, and says so in a header."""

    subject: str
    headers: Mapping[str, str]
    body: bytes


def items_of(sender: str, subject: str, headers: Mapping[str, str], data: bytes) -> tuple[list[Item], bool]:
    """The commands in a message, in their order, and whether it is a parcel. Only bots send parcels.

    Raises Undecodable for a parcel that is none. What cannot be read at all is taken for a single command.
    """
    if sender_kind(sender) == "bot":
        try:
            parcel = _PERHAPS.decode(data).parcel
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parcel = None
        if parcel is not None:
            if not 0 < len(parcel) <= PARCEL_MAX:
                raise Undecodable(f"a parcel of {len(parcel)} commands; it may hold 1 to {PARCEL_MAX}")
            marked = {name: value for name, value in headers.items() if name != REPLY_HEADER}
            marked[PARCEL_HEADER] = "1"
            return [Item(subject, marked, bytes(each)) for each in parcel], True
    return [Item(subject, headers, data)], False
