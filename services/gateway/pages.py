"""What is answered without a key: health, the OpenAPI document and its page, and where to go."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from litestar import Litestar, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from openapi_ui_bundles import swagger_ui

from services.gateway.readiness import Readiness
from shared.runtime.answers import document
from shared.runtime.bodies import JSON
from shared.runtime.openapi import document as openapi_document
from shared.runtime.problems import Refusal

_HTML: Final = "text/html"
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
}
_KEPT: Final = {"Cache-Control": "public, max-age=86400"}
_FILES: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_HOME: Final = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Hive</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/files/hive.css"></head><body><main><h1>Hive</h1>
<p>A control plane for fleets of bots answers here.</p>
<ul><li><a href="/docs">The API, route by route</a>,
and its <a href="/openapi.json">OpenAPI document</a></li>
<li><a href="/readyz">Whether it is ready</a></li></ul>
<p>Everything under <code>/v1</code> needs a key: <code>Authorization: Bearer &lt;key&gt;</code>.
<code>hive keys create NAME</code> makes one where the hive runs.</p></main></body></html>"""
_DOCS: Final = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Hive: the API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/docs/files/favicon-32x32.png">
<link rel="stylesheet" href="/docs/files/swagger-ui.css">
</head><body><div id="docs"></div><script src="/docs/files/swagger-ui-bundle.js"></script>
<script src="/docs/files/start.js"></script></body></html>"""
_START: Final = b"""SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true,
  validatorUrl: null, persistAuthorization: true, presets: [SwaggerUIBundle.presets.apis]});
"""
_STYLE: Final = b"main{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}"
_OWN_FILES: Final = {"start.js": ("text/javascript", _START), "hive.css": ("text/css", _STYLE)}


_ABOUT: Final = """A control plane for fleets of bots: tasks, bots, messages, keys, dead letters.

**WebSockets**, which this document cannot describe: `/v1/bots/{name}/ws?after=SEQUENCE` is the conversation
with a bot (frames `text`, `ack`, `ping` from the client; `hello`, `text`, `accepted`, `live`, `gap`, `state`,
`read`, `pong`, `error` from the server), `/v1/tasks/{id}/ws?after=SEQUENCE` the output of a task (`chunk`,
`gap`, `end`). They need the same keys, and are described in `docs/websocket.md`, which comes with Hive.
"""


def open_pages(ready: Callable[[], Awaitable[Readiness]], version: str) -> list[HTTPRouteHandler]:
    """The routes that need no key."""
    written: dict[str, bytes] = {}

    @get("/", sync_to_thread=False)
    def home() -> Response[bytes]:
        """Where to go."""
        return Response(_HOME, media_type=_HTML, headers=_POLICY)

    @get("/livez", sync_to_thread=False)
    def livez() -> Response[bytes]:
        """Whether the process answers at all."""
        return document({"live": True})

    @get("/readyz")
    async def readyz() -> Response[bytes]:
        """Whether requests can be served now, and which services do not answer."""
        found = await ready()
        return document(found, status=200 if found.ready else 503)

    @get("/openapi.json", sync_to_thread=False)
    def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The OpenAPI document, written at the first request for it."""
        if "document" not in written:
            written["document"] = openapi_of(request.app, version)
        return Response(written["document"], media_type=JSON)

    @get("/docs", sync_to_thread=False)
    def docs() -> Response[bytes]:
        """The OpenAPI document as a page to read and to try."""
        return Response(_DOCS, media_type=_HTML, headers=_POLICY)

    @get("/docs/files/{name:str}", sync_to_thread=True)
    def docs_file(name: FromPath[str]) -> Response[bytes]:
        """What the pages are made with; nothing of it comes from elsewhere."""
        if name in _OWN_FILES:
            kind, content = _OWN_FILES[name]
        elif name in _FILES:
            kind, content = _FILES[name], (Path(swagger_ui.static_path) / name).read_bytes()
        else:
            raise Refusal(404, "not_found", f"There is no file {name}.")
        return Response(content, media_type=kind, headers=_KEPT)

    return [home, livez, readyz, openapi, docs, docs_file]


def openapi_of(app: Litestar, version: str) -> bytes:
    """The document of this hive's API."""
    return openapi_document(
        app,
        title="Hive",
        version=version,
        description=_ABOUT,
    )
