"""History under another policy, over HTTP."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get

from services.scheduler.api.performance import READ
from shared.contracts.scheduler.queries import GetWhatIf, WhatIf
from shared.contracts.words import TaskType
from shared.runtime.answers import document
from shared.runtime.doors import Seams
from shared.runtime.openapi import Operation, Says
from shared.runtime.parameters import Parameters, given

LOOKS_BACK: Final = timedelta(days=7)
ANSWER_WITHIN_S: Final = 30.0


class WhatIfAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policy, since when (a week ago), of which type of task (all)."""

    policy: Literal["cheapest", "fastest", "efficient", "random"] = "efficient"
    since: Annotated[datetime, msgspec.Meta(tz=True)] | msgspec.UnsetType = msgspec.UNSET
    type: TaskType | msgspec.UnsetType = msgspec.UNSET


ASKED: Final = Parameters(WhatIfAsked)


@get(
    "/whatif",
    says=Operation(
        summary="Ask how tasks would have gone under another policy",
        scope=READ,
        query=ASKED,
        answers={200: Says(meaning="Estimates with intervals, or why there are none.", form=WhatIf)},
    ),
)
async def what_if(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """From recorded decisions and their chances; takes a second or two where there are many."""
    asked = ASKED.read(request)
    since = given(asked.since)
    query = GetWhatIf(
        policy=asked.policy,
        since=doors.now() - LOOKS_BACK if since is None else since,
        type=given(asked.type),
    )
    answer = await doors.ask(query, timeout_s=ANSWER_WITHIN_S)
    return document(answer)


ROUTES: Final = (what_if,)
