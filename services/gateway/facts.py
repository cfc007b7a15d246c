"""Everything a key's subject stores, and what the gateway puts on record besides."""

from shared.contracts.gateway import KeyCreated, KeyRevoked, KeyUsed
from shared.kernel.codec import Codec
from shared.kernel.messages import Fact

KeyEvent = KeyCreated | KeyUsed | KeyRevoked

KEY_CODEC: Codec[KeyEvent] = Codec(KeyEvent)


class AccessDenied(Fact, frozen=True, kw_only=True):
    """On `evt.audit.gateway`: somebody was not let in, so many times since the last record of it."""

    source: str
    code: str
    count: int
