"""The orchestrator over HTTP: requests become commands and queries.

It runs inside the gateway, and knows only shared.
"""

from typing import Final

from services.orchestrator.api.batch import ROUTES as BATCH
from services.orchestrator.api.bots import ROUTES as BOTS
from services.orchestrator.api.files import ROUTES as FILES
from services.orchestrator.api.live import SOCKETS as LIVE
from services.orchestrator.api.pools import ROUTES as POOLS
from services.orchestrator.api.stream import ROUTES as STREAM
from services.orchestrator.api.tasks import ROUTES as TASKS

ROUTES: Final = (*TASKS, *BATCH, *STREAM, *BOTS, *POOLS, *FILES)
SOCKETS: Final = LIVE
