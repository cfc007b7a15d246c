"""Where ids and chance come from."""

import random  # noqa: TID251 - this is the place it comes from
import secrets
import time
import uuid  # noqa: TID251 - this is the place it comes from

_NAMESPACE = uuid.UUID("6f1d1c0e-5a3b-5e0c-9d55-3a1d0c1b7e42")


def new_id() -> str:
    """A new id (UUIDv7): sorts by the time it was made, to a quarter of a microsecond."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    # Python seeds this generator anew in each forked child: two processes never count alike.
    chance = random.getrandbits(62)
    text = f"{milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | chance:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derived_id(namespace: str, *parts: str) -> str:
    """The same id for the same words, always (UUIDv5). Parts are kept apart by their lengths."""
    name = "".join(f"{len(part)}:{part}" for part in (namespace, *parts))
    return str(uuid.uuid5(_NAMESPACE, name))


def jittered(seconds: float) -> float:
    """Between half and all of `seconds`, so that many who wait do not come back together."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret hangs on it


def seeded(seed: int) -> random.Random:
    """Chance that falls alike each time: for estimates that are asked for again."""
    return random.Random(seed)  # noqa: S311 - nothing secret hangs on it


def draw() -> float:
    """A number from 0 to 1, 1 excluded, any as probable as another."""
    return random.random()  # noqa: S311 - nothing secret hangs on it


def short_token(nbytes: int = 16) -> str:
    """A secret that nobody guesses, as URL-safe text."""
    return secrets.token_urlsafe(nbytes)
