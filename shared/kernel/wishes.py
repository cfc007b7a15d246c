"""Whether two wishes are the same, however each was written down."""

from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Final

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def wish_hash(wish: msgspec.Struct) -> str:
    """The same for wishes that say the same.

    A field with its default counts as left out, written or not: one that is added later changes no hash.
    A moment counts as how far it is from another, so that any offset will do, at the ends of time, too.
    """
    return sha256(msgspec.json.encode(_said(wish))).hexdigest()


def _said(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {
            on_the_wire: _said(said)
            for name, on_the_wire, default in _fields(type(value))
            if (said := getattr(value, name)) != default
        }
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


@cache
def _fields(form: type[msgspec.Struct]) -> tuple[tuple[str, str, object], ...]:
    """Each field's name, its name on the wire, and its default; in the order of their names on the wire."""
    return tuple(
        sorted(
            ((field.name, field.encode_name, _default(field)) for field in msgspec.structs.fields(form)),
            key=lambda field: field[1],
        )
    )


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
