"""The one configuration: defaults, units, ranges, descriptions. Live values stand in the `config` bucket."""

from typing import Annotated, Literal

import msgspec

from shared.contracts.scaling import Scaling
from shared.contracts.words import CHILDREN_MAX, CIRCUIT_OPEN_S

Seconds = Annotated[float, msgspec.Meta(ge=0.05, le=86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


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
    shares: dict[
        str,
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=100,
                description="By a key's id: how many tasks it is served when its turn comes; others one.",
            ),
        ],
    ] = {}
    assignment_taken_within_s: Seconds = 2.0
    spawn_depth_max: Annotated[
        int,
        msgspec.Meta(ge=1, le=8, description="How deep a task may spawn below the one that was submitted."),
    ] = 8
    spawn_children_max: Annotated[
        int, msgspec.Meta(ge=1, le=CHILDREN_MAX, description="How many tasks one task may spawn.")
    ] = CHILDREN_MAX
    scaling: Scaling = Scaling()
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
    scheduler_policy: Annotated[
        Literal["efficient", "fast", "cheap"],
        msgspec.Meta(
            description="What makes a bot the best: success and speed, mostly speed, or cheapness as well."
        ),
    ] = "efficient"
    speed_weight: Annotated[
        Share,
        msgspec.Meta(description="Policy `efficient`: the part of speed in the score, the rest is success."),
    ] = 0.4
    fast_speed_weight: Annotated[Share, msgspec.Meta(description="Policy `fast`: the same.")] = 0.7
    cheap_cost_weight: Annotated[
        Share,
        msgspec.Meta(description="Policy `cheap`: the part of cheapness; the rest is as in `efficient`."),
    ] = 0.5
    explore_share: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=0.5, description="The part of tasks that may try another bot than the best; never P0."
        ),
    ] = 0.05
    ewma_alpha: Annotated[
        float,
        msgspec.Meta(
            ge=0.01, le=1, description="How much the newest end of a task weighs in a bot's averages."
        ),
    ] = 0.1
    samples_min: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=1_000, description="Ended tasks of a bot and type before its score is trusted."
        ),
    ] = 3
