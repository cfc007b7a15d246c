"""Pools over HTTP: configure, list, look at, and how they were scaled."""

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, put
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from services.orchestrator.api.requests import Cursor, Limit, NewRestart, Path, Variable, Word
from shared.contracts.orchestrator.facts import BotSpec, MemoryMb, RestartPolicy
from shared.contracts.orchestrator.pools import (
    POOL_MAX_DEFAULT,
    POOL_MIN_DEFAULT,
    POOL_NAME_PATTERN,
    Bound,
    ConfigurePool,
    GetPool,
    ListPoolDecisions,
    ListPools,
    PoolDecision,
    PoolDoc,
    PoolName,
)
from shared.contracts.words import SLOTS_DEFAULT, SLOTS_MAX, Name, Page, TaskType
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import Refused
from shared.runtime.answers import Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Seams, principal_of
from shared.runtime.looking import found
from shared.runtime.openapi import AT_LEAST, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given
from shared.runtime.problems import Refusal, Wrong

READ: Final = "bots:read"
WRITE: Final = "bots:write"
POOL_BYTES_MAX: Final = 500_000

_FIELD_OF: Final = {"bad_bounds": "/min", "template_missing": "/template", "bad_template": "/template/engine"}
_NAME: Final[dict[str, Any]] = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,40}$"}


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bots of a pool are to be."""

    engine: Name
    types: Annotated[tuple[TaskType, ...], msgspec.Meta(max_length=len(TaskType))] = ()
    slots: Annotated[int, msgspec.Meta(ge=1, le=SLOTS_MAX)] = SLOTS_DEFAULT
    workspace: Path | None = None
    env: Annotated[tuple[Variable, ...], msgspec.Meta(max_length=100)] = ()
    argv: Annotated[tuple[Word, ...], msgspec.Meta(max_length=100)] = ()
    allow: Annotated[tuple[Word, ...], msgspec.Meta(max_length=100)] = ()
    host: Name = "local"
    restart: NewRestart = NewRestart()
    memory_mb: MemoryMb | None = None

    def spec(self, pool: PoolName) -> BotSpec:
        """As the orchestrator's word."""
        restart = RestartPolicy(
            restart=self.restart.restart,
            backoff_first_s=self.restart.backoff_first_s,
            backoff_max_s=self.restart.backoff_max_s,
            crashes_max=self.restart.crashes_max,
        )
        return BotSpec(
            engine=self.engine,
            types=self.types,
            slots=self.slots,
            pool=pool,
            workspace=self.workspace,
            env=self.env,
            argv=self.argv,
            allow=self.allow,
            host=self.host,
            restart=restart,
            memory_mb=self.memory_mb,
        )


class WantedPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pool as it is to be. Without a `template` it keeps its own; a new pool needs one."""

    min: Bound = POOL_MIN_DEFAULT
    max: Bound = POOL_MAX_DEFAULT
    template: Template | None = None
    enabled: bool = True


class PoolsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the list."""

    cursor: Annotated[str, msgspec.Meta(pattern=POOL_NAME_PATTERN)] | UnsetType = UNSET
    limit: Limit = 50


class DecisionsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the decisions."""

    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


WANTED: Final = Body(WantedPool, bytes_max=POOL_BYTES_MAX)
POOLS_ASKED: Final = Parameters(PoolsAsked)
DECISIONS_ASKED: Final = Parameters(DecisionsAsked)

_POOL: Final = Says(
    meaning="The pool, and what would be decided about it now.", form=PoolDoc, headers=("Hive-Version",)
)
_PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


@get(
    "/pools",
    says=Operation(
        summary="List pools",
        scope=READ,
        query=POOLS_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="Pools, by name.", form=Page[PoolDoc])},
        problems=(409,),
    ),
)
async def list_pools(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Page by page: `next_cursor` asks for what follows."""
    asked = POOLS_ASKED.read(request)
    query = ListPools(cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request))
    page: Page[PoolDoc] = await doors.ask(query)
    return document(page)


@get(
    "/pools/{name:str}",
    says=Operation(
        summary="Show a pool",
        scope=READ,
        headers=(AT_LEAST,),
        path={"name": _NAME},
        answers={200: _POOL, 202: _PENDING},
        problems=(409,),
    ),
)
async def show_pool(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Its bounds and bots, its readings, and what would be decided now, with the reason."""
    wanted = _named(name)
    pool = await found(doors, GetPool(name=wanted, at_least=at_least(request)), "pool", wanted)
    return pool if isinstance(pool, Response) else document(pool, version=pool.version)


@put(
    "/pools/{name:str}",
    says=Operation(
        summary="Configure a pool",
        scope=WRITE,
        body=WANTED,
        path={"name": _NAME},
        answers={200: _POOL, 202: _PENDING},
        problems=(409, 422),
    ),
)
async def configure_pool(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """Bots that run keep what they were launched with; the next ones are as the template says then."""
    wanted = _named(name)
    asked = await WANTED.read(request)
    template = None if asked.template is None else asked.template.spec(wanted)
    command = ConfigurePool(
        name=wanted, min=asked.min, max=asked.max, template=template, enabled=asked.enabled
    )
    actor = principal_of(request).actor
    outcome = await doors.send(command, actor=actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(f"/v1/pools/{wanted}", wanted)
    if isinstance(outcome, Refused) and outcome.code in _FIELD_OF:
        wrong = Wrong(detail=outcome.detail, pointer=_FIELD_OF[outcome.code])
        raise Refusal(422, outcome.code, outcome.detail, errors=(wrong,))
    version = settled(outcome)
    try:
        pool = await doors.ask(GetPool(name=wanted, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(f"/v1/pools/{wanted}", wanted, version=version)
    return document(pool, version=pool.version)


@get(
    "/pools/{name:str}/decisions",
    says=Operation(
        summary="List how a pool was scaled",
        scope=READ,
        query=DECISIONS_ASKED,
        headers=(AT_LEAST,),
        path={"name": _NAME},
        answers={200: Says(meaning="Decisions, newest first.", form=Page[PoolDecision])},
        problems=(409,),
    ),
)
async def list_decisions(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """Up, down, and what kept it from that; each with its reason and its readings."""
    asked = DECISIONS_ASKED.read(request)
    query = ListPoolDecisions(
        name=_named(name), cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request)
    )
    page: Page[PoolDecision] = await doors.ask(query)
    return document(page)


def _named(text: str) -> PoolName:
    try:
        msgspec.convert(text, Annotated[str, msgspec.Meta(pattern=POOL_NAME_PATTERN)])
    except msgspec.ValidationError as error:
        raise NotFound("pool_not_found", "no pool has such a name") from error
    return PoolName(text)


ROUTES: Final = (list_pools, show_pool, configure_pool, list_decisions)
