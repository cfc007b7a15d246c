"""Typed encode and decode of tagged unions; upcasts of old facts."""

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from typing_extensions import TypeForm

from shared.kernel.errors import Undecodable

T = TypeVar("T")

_encoder = msgspec.json.Encoder(decimal_format="number")
encode = _encoder.encode


def members(union: object) -> tuple[type[msgspec.Struct], ...]:
    """The classes of a union of Structs, or the one class itself."""
    origin = typing.get_origin(union)
    if origin is typing.Union or origin is types.UnionType:
        return tuple(member for part in typing.get_args(union) for member in members(part))
    assert isinstance(union, type), union
    assert issubclass(union, msgspec.Struct), union
    return (union,)


def tag_of(member: type[msgspec.Struct]) -> str:
    """The word that tells this class apart on the wire."""
    tag = member.__struct_config__.tag
    assert isinstance(tag, str), member
    return tag


class Codec(Generic[T]):
    """Reads and writes the members of one union.

    `upcasts` maps a retired class, still found in old messages, to what makes today's form of it.
    Raises Undecodable for bytes that are not JSON or not of the union.
    """

    def __init__(
        self, union: TypeForm[T], *, upcasts: Mapping[type[Any], Callable[[Any], T]] | None = None
    ) -> None:
        known = [*members(union), *(upcasts or {})]
        self._field = known[0].__struct_config__.tag_field
        assert self._field is not None
        self._upcasts = dict(upcasts or {})
        self._decoders = {tag_of(member): msgspec.json.Decoder(member) for member in known}
        self._peek = msgspec.json.Decoder(
            msgspec.defstruct("Peek", [("tag", str)], rename={"tag": self._field})
        )

    @property
    def tags(self) -> frozenset[str]:
        """The tags it understands."""
        return frozenset(self._decoders)

    def tag(self, data: bytes | msgspec.Raw) -> str:
        """The tag of an encoded member."""
        try:
            return typing.cast("str", self._peek.decode(data).tag)  # type: ignore[attr-defined]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"no `{self._field}`: {error}") from error

    def decode(self, data: bytes | msgspec.Raw) -> T:
        """One member; Undecodable when it is none of the union."""
        tag = self.tag(data)
        decoder = self._decoders.get(tag)
        if decoder is None:
            raise Undecodable(f"unknown {self._field} {tag!r}")
        try:
            member: Any = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"{tag}: {error}") from error
        upcast = self._upcasts.get(type(member))
        return typing.cast("T", member if upcast is None else upcast(member))

    def decode_all(self, facts: Iterable[bytes | msgspec.Raw]) -> tuple[T, ...]:
        """Every member, none skipped: for the owner, who must understand all that it wrote."""
        return tuple(self.decode(fact) for fact in facts)

    def decode_known(self, facts: Iterable[bytes | msgspec.Raw]) -> tuple[T, ...]:
        """The members that are of the union; other tags are skipped: for those who listen to some."""
        return tuple(self.decode(fact) for fact in facts if self.tag(fact) in self._decoders)
