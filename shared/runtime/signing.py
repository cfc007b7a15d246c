"""The keys and signed claims of the broker's operator mode: nkeys, and JWTs signed with them."""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import nkeys

_JWT_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_JSON = msgspec.json.Encoder(order="sorted")

PREFIX_OPERATOR: int = nkeys.PREFIX_BYTE_OPERATOR
PREFIX_ACCOUNT: int = nkeys.PREFIX_BYTE_ACCOUNT
PREFIX_USER: int = nkeys.PREFIX_BYTE_USER
PUBLIC_KEY_CHARS = 56


def new_seed(prefix: int) -> str:
    """A new private key, in the form that begins with S."""
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), prefix)
    return seed.decode()


def public_key(seed: str) -> str:
    """The public key of a seed: it names operators, accounts and users."""
    key: bytes = _pair(seed).public_key
    return key.decode()


def is_user(text: str) -> bool:
    """Whether a text is a user's public key, with the right checksum."""
    if len(text) != PUBLIC_KEY_CHARS or not text.isascii():
        return False
    try:
        raw = base64.b32decode(text)
    except binascii.Error:
        return False
    return raw[0] == PREFIX_USER and nkeys.crc16(raw[:-2]).to_bytes(2, "little") == raw[-2:]


def sign(seed: str, *, subject: str, name: str, at: datetime, claims: Mapping[str, Any], **more: int) -> str:
    """A JWT about `subject`; `more` are standard claims such as `exp`."""
    body: dict[str, Any] = {
        "iat": int(at.timestamp()),
        "iss": public_key(seed),
        "name": name,
        "sub": subject,
        "nats": {**claims, "version": 2},
        **more,
    }
    digest = hashlib.sha256(_JSON.encode(body)).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    text = f"{_part(_JWT_HEADER)}.{_part(body)}"
    return f"{text}.{_base64(_pair(seed).sign(text.encode()))}"


def creds_text(jwt: str, seed: str) -> str:
    """What a `.creds` file holds."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "This key signs for the user above: whoever reads it is that user.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _pair(seed: str) -> Any:
    return nkeys.from_seed(bytearray(seed.encode()))


def _part(value: object) -> str:
    return _base64(_JSON.encode(value))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
