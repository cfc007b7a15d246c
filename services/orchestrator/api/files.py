"""Files over HTTP: input and output that were too large for the log."""

import re
from collections.abc import AsyncIterator
from typing import Final

from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from services.orchestrator.api.tasks import READ
from shared.contracts.orchestrator.queries import GetFile
from shared.kernel.errors import NotFound
from shared.runtime.doors import Doors, Seams
from shared.runtime.openapi import Operation, Says

PIECE_BYTES: Final = 512 * 1024
OCTETS: Final = "application/octet-stream"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@get(
    "/files/{sha256:str}",
    says=Operation(
        summary="Get a file",
        scope=READ,
        answers={200: Says(meaning="Its bytes.", media_type=OCTETS)},
    ),
)
async def get_file(doors: Seams, sha256: FromPath[str]) -> Response[bytes] | Stream:
    """The bytes with this SHA-256."""
    if not _SHA256.fullmatch(sha256):
        raise NotFound("file_not_found", "there is no such file")
    first = await doors.ask(GetFile(sha256=sha256))
    if len(first) < PIECE_BYTES:
        return Response(first, media_type=OCTETS)
    return Stream(_pieces(doors, sha256, first), media_type=OCTETS)


async def _pieces(doors: Doors, sha256: str, first: bytes) -> AsyncIterator[bytes]:
    yield first
    offset, piece = len(first), first
    while len(piece) == PIECE_BYTES:
        piece = await doors.ask(GetFile(sha256=sha256, offset=offset))
        offset += len(piece)
        if piece:
            yield piece


ROUTES: Final = (get_file,)
