"""How a table fits a terminal: what names a row stays whole, long texts give way, then what matters less."""

import unicodedata
from collections.abc import Sequence
from typing import Final

GAP: Final = 2
READABLE_CHARS: Final = 16  # a text cut shorter says little
SHORTEST_CHARS: Final = 8


def fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, spare: Sequence[str] = ()
) -> list[tuple[int, int]]:
    """Which columns are shown, and how wide each is. Those in `spare` are left out first, in their order.

    A column without a value is left out. The first one is never cut: people copy from it what they type next.
    """
    shown = [index for index in range(len(columns)) if index == 0 or any(row[index] for row in rows)]
    natural = [
        max(cells(text) for text in (columns[i], *(row[i] for row in rows))) for i in range(len(columns))
    ]
    widths = {index: natural[index] for index in shown}
    least = {index: min(natural[index], READABLE_CHARS) for index in shown[1:]}
    for name in spare:
        _shrink(widths, least, width)
        if _total(widths) <= width:
            break
        for index in [index for index in widths if columns[index] == name]:
            del widths[index]
        widths = {index: natural[index] for index in widths}
    _shrink(widths, least, width)
    long = [index for index in least if natural[index] > READABLE_CHARS]
    _shrink(widths, {index: max(SHORTEST_CHARS, cells(columns[index])) for index in long}, width)
    return list(widths.items())


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shrink(widths: dict[int, int], least: dict[int, int], width: int) -> None:
    """Take from the widest that may give, place by place, until it fits or none may."""
    while _total(widths) > width:
        giving = [index for index in widths if index in least and widths[index] > least[index]]
        if not giving:
            return
        widths[max(giving, key=widths.__getitem__)] -= 1


def cells(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def cut(text: str, width: int) -> str:
    """The text in at most so many places, with a mark where it was cut."""
    if cells(text) <= width:
        return text
    kept, taken = "", 0
    for char in text:
        taken += _width(char)
        if taken > width - 1:
            break
        kept += char
    return f"{kept}…"


def padded(text: str, width: int) -> str:
    """The text in exactly so many places."""
    shown = cut(text, width)
    return shown + " " * (width - cells(shown))
