"""The scheduler over HTTP: requests become commands and queries.

It runs inside the gateway, and knows only shared.
"""

from typing import Final

from services.scheduler.api.performance import ROUTES as PERFORMANCE
from services.scheduler.api.schedules import ROUTES as SCHEDULES
from services.scheduler.api.whatif import ROUTES as WHAT_IF

ROUTES: Final = (*PERFORMANCE, *WHAT_IF, *SCHEDULES)
