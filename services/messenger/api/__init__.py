"""The messenger over HTTP: requests become commands and queries.

It runs inside the gateway, and knows only shared.
"""

from typing import Final

from services.messenger.api.broadcasts import ROUTES as BROADCASTS
from services.messenger.api.chat import SOCKETS as CHAT
from services.messenger.api.messages import ROUTES as MESSAGES
from services.messenger.api.reading import ROUTES as READING

ROUTES: Final = (*MESSAGES, *READING, *BROADCASTS)
SOCKETS: Final = CHAT
