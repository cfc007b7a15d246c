"""When pools grow and shrink: defaults, units, ranges."""

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Pause = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The rules of all pools. What a pool may have at least and at most is said at the pool."""

    queue_up: Annotated[
        int, msgspec.Meta(ge=1, le=1_000_000, description="So many waiting tasks let a pool grow.")
    ] = 5
    load_up: Annotated[
        Share, msgspec.Meta(description="A pool grows when more of its slots than this are taken, and …")
    ] = 0.7
    bot_load_up: Annotated[
        Share, msgspec.Meta(description="… its bots, each counted alike, are taken by more than this.")
    ] = 0.6
    clear_within_s: Annotated[
        float,
        msgspec.Meta(
            ge=1, le=86_400, description="Where run times are known: a queue shall be done in this."
        ),
    ] = 60.0
    memory_max: Annotated[
        Share, msgspec.Meta(description="No pool grows while its host uses more of its memory than this.")
    ] = 0.85
    cpu_max: Annotated[
        Share, msgspec.Meta(description="No pool grows while its host's processors are busier than this.")
    ] = 0.9
    up_pause_s: Annotated[
        Pause, msgspec.Meta(description="How long after it was scaled a pool may not grow.")
    ] = 30.0
    down_pause_s: Annotated[
        Pause, msgspec.Meta(description="How long after it was scaled a pool may not shrink.")
    ] = 60.0
    idle_s: Annotated[
        float,
        msgspec.Meta(ge=0.5, le=604_800, description="How long a bot has nothing before it is stopped."),
    ] = 300.0
    load_down: Annotated[
        Share, msgspec.Meta(description="A pool shrinks only while at most this of its slots is taken.")
    ] = 0.3
