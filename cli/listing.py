"""Lists that come in pages."""

from typing import Final, TypeVar

import msgspec
from typing_extensions import TypeForm

from cli.client import Client, decode

T = TypeVar("T")

PAGE_MAX: Final = 200


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page whose items are still JSON, so that `--json` hands on what came."""

    items: list[msgspec.Raw]
    next_cursor: str | None = None

    def typed(self, form: TypeForm[T]) -> list[T]:
        """The items, understood."""
        return [msgspec.json.decode(item, type=form) for item in self.items]


def fetch(client: Client, path: str, *, limit: int, cursor: str | None = None, **wanted: object) -> Listed:
    """Up to `limit` items, page after page, and the cursor of what follows."""
    items: list[msgspec.Raw] = []
    while True:
        asked = min(PAGE_MAX, limit - len(items))
        page = decode(client.get(path, limit=asked, cursor=cursor, **wanted), Listed)
        items += page.items
        cursor = page.next_cursor
        if cursor is None or len(items) >= limit:
            return Listed(items=items, next_cursor=cursor)
