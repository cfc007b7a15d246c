"""What is no HTTP is told so like everything else that is wrong: with a problem document."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.kernel.codec import encode
from shared.runtime.problems import PROBLEM_JSON, Problem

_BODY: Final = encode(
    Problem(
        title="Bad Request",
        status=400,
        code="bad_http",
        detail="This is no HTTP request that can be read.",
    )
)
_ANSWER: Final = (
    f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {len(_BODY)}\r\n"
    "x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
).encode() + _BODY


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, whose own answer would be plain text."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Say that it cannot be read, and close: nothing that follows can be trusted."""
        self.transport.write(_ANSWER)
        self.transport.close()
