"""What is kept of a pool beside its log: a fold."""

from datetime import datetime

import msgspec

from services.orchestrator.decider.pool import POOL, NoPool, Pool, PoolState
from services.orchestrator.facts import PoolEvent
from shared.kernel.messages import Recorded

CAUSES_KEPT = 32  # a command comes again only while it is not acknowledged: a few seconds


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pool after its commit `version`."""

    state: Pool
    version: int
    at: datetime
    causes: dict[str, int] = {}


def fold(kept: Kept | None, commit: Recorded[PoolEvent]) -> Kept | None:
    """What is kept after a commit. A commit counts once."""
    if kept is not None and commit.sequence <= kept.version:
        return kept
    begun: PoolState = NoPool() if kept is None else kept.state
    state = POOL.fold(begun, commit.facts, commit.sequence, commit.at)
    if isinstance(state, NoPool):
        return None
    causes = {**({} if kept is None else kept.causes), commit.cause.message_id: commit.sequence}
    if len(causes) > CAUSES_KEPT:
        del causes[next(iter(causes))]
    return Kept(state=state, version=commit.sequence, at=commit.at, causes=causes)
