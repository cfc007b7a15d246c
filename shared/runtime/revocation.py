"""Cutting a user off: its public key is noted in the account's JWT, which the broker then takes over at once.

Whoever holds the authority serves this: the supervisor of an embedded hive, the container `ops` of a stack. A
bot host asks on `ops.revoke`, with the user's public key as the body, and again until it is answered.
"""

import logging
from functools import partial
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251
from nats.aio.subscription import Subscription  # noqa: TID251

from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.credentials import Authority, CredentialsError
from shared.runtime.permissions import CLAIMS_UPDATE_SUBJECT, REVOKE_SUBJECT

PUSHED_WITHIN_S: Final = 2.0
DONE: Final = b"revoked"

_log = logging.getLogger(__name__)


class _Result(msgspec.Struct):
    code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Result | None = None


async def revoke(system: Connection, authority: Authority, user_public_key: str) -> None:
    """The user is cut off within a second, and never gets in again. Repeatable.

    CredentialsError: the key is not a bot's. Unavailable, BrokerRefused: it is noted, and not yet pushed.
    """
    authority.note_revocation(user_public_key)
    await push(system, authority)


async def push(system: Connection, authority: Authority) -> None:
    """Give the broker the account's JWT as the authority has it, through the system account's user."""
    message = await system.request(
        CLAIMS_UPDATE_SUBJECT, authority.bots_account_jwt.encode(), timeout=PUSHED_WITHIN_S
    )
    error = msgspec.json.decode(message.data, type=_Answer).error
    if error is not None:
        raise BrokerRefused(error.code, error.description)


async def serve_revocations(ops: Connection, system: Connection, authority: Authority) -> Subscription:
    """Answer the bot hosts until the connections end; what was noted and never pushed is pushed now."""
    system.on_reconnect(partial(_push_again, system, authority))
    await push(system, authority)
    return await ops.subscribe(REVOKE_SUBJECT, partial(_on_request, ops, system, authority))


async def _push_again(system: Connection, authority: Authority) -> None:
    """The broker may have been restarted from an older configuration."""
    try:
        await push(system, authority)
    except BrokerRefused as error:
        _log.error("the broker does not take the account's JWT: %s", error)


async def _on_request(ops: Connection, system: Connection, authority: Authority, message: Msg) -> None:
    """No answer is a no: the host asks again, and nothing is called revoked that is not."""
    user = message.data.decode(errors="replace")
    try:
        await revoke(system, authority, user)
        await ops.publish(message.reply, DONE)
    except (CredentialsError, BrokerRefused, Unavailable) as error:
        _log.error("%.60r is not revoked: %s", user, error)
    else:
        _log.info("revoked %s", user)
