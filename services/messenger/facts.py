"""Everything our subjects store, and the few facts of others that we hear."""

from typing import Final

from shared.contracts.gateway import KeyCreated, KeyRevoked
from shared.contracts.messenger.facts import BroadcastFact, MessageFact
from shared.contracts.orchestrator.facts import BotLaunched, BotRetired
from shared.kernel.codec import Codec

MessageEvent = MessageFact
BroadcastEvent = BroadcastFact
BotHeard = BotLaunched | BotRetired
KeyHeard = KeyCreated | KeyRevoked

MESSAGE_CODEC: Final[Codec[MessageEvent]] = Codec(MessageEvent)
BROADCAST_CODEC: Final[Codec[BroadcastEvent]] = Codec(BroadcastEvent)
BOTS_HEARD: Final[Codec[BotHeard]] = Codec(BotHeard)
KEYS_HEARD: Final[Codec[KeyHeard]] = Codec(KeyHeard)
