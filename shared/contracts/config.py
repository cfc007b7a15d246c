"""The one configuration: defaults, units, ranges, descriptions. Live values stand in the `config` bucket."""

from typing import Annotated

import msgspec

from shared.contracts.words import CIRCUIT_OPEN_S

Seconds = Annotated[float, msgspec.Meta(ge=0.05, le=86_400)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an operator may change while the hive runs. An empty bucket means these defaults."""

    answer_wait_s: Annotated[
        float,
        msgspec.Meta(ge=0.05, le=30, description="How long the gateway waits for a decision before 202."),
    ] = 2.0
    ageing_s: Annotated[
        float,
        msgspec.Meta(
            ge=1, le=86_400, description="A waiting task moves up one priority each so many seconds."
        ),
    ] = 60.0
    assignment_taken_within_s: Seconds = 2.0
    circuit_open_s: Annotated[
        Seconds, msgspec.Meta(description="A bot that failed too often is given nothing for so long.")
    ] = CIRCUIT_OPEN_S
    stop_grace_s: Annotated[
        float, msgspec.Meta(ge=0, le=600, description="How long a stopping bot may finish what it does.")
    ] = 10.0
    message_backoff_first_s: Annotated[
        Seconds, msgspec.Meta(description="How soon a message that a bot could not handle is tried again.")
    ] = 1.0
    message_backoff_max_s: Annotated[
        Seconds, msgspec.Meta(description="How long it waits at most, doubled each time until then.")
    ] = 30.0
    inbox_max: Annotated[
        int,
        msgspec.Meta(ge=1, le=1_000_000, description="Unread messages to one bot; then only P0 is accepted."),
    ] = 10_000
    bot_key_requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
