"""The OpenAPI 3.1 document, written from the same types that decode the requests and encode the answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from shared.kernel.codec import encode
from shared.runtime import parameters
from shared.runtime.bodies import JSON, Body
from shared.runtime.parameters import Parameters
from shared.runtime.problems import PROBLEM_JSON, Problem

Json = dict[str, Any]

SAYS: Final = "says"
"""The key under which a route's handler carries its Operation."""

ANY_KEY: Final = ""
"""The scope of what every valid key may do."""

_NO_BRACES: Final = str.maketrans("-", "_", "{}")
_ALWAYS: Final = (400, 401, 403, 429, 500, 503)
_WITH_BODY: Final = (413, 415)
_MEANING: Final = {
    400: "The request is malformed or invalid; `errors` points at what is wrong.",
    401: "No key, or one that is unknown, expired or revoked.",
    403: "The key lacks the scope, or a browser's request came from another site.",
    404: "There is no such thing.",
    409: "A rule says no, or the view is behind the `Hive-Version` asked for.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    422: "Understood, but it cannot be: a key used with another body, or an expiry that has passed.",
    429: "Too many requests with this key, or the queue is busy; `Retry-After` says when.",
    500: "Ours to mend: a defect, or a command that lies in the dead letters.",
    503: "The broker or the owner is away; ask again after `Retry-After`.",
}


@dataclass(frozen=True, kw_only=True)
class Says:
    """One answer. `form` None: no body, or, with other media types, no JSON. `or_form`: or this."""

    meaning: str
    form: Any = None
    or_form: Any = None
    media_type: str = JSON
    or_media_type: str | None = None
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Header:
    """A request header that a route obeys."""

    name: str
    meaning: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a route promises. `scope`: what the key must have; `problems`: besides those of every route.

    `path`: the schemas of path parameters that are more than a name.
    """

    summary: str
    scope: str
    answers: Mapping[int, Says]
    problems: Sequence[int] = ()
    body: Body[Any] | None = None
    query: Parameters[Any] | None = None
    headers: Sequence[Header] = ()
    path: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


AT_LEAST: Final = Header(
    name=parameters.VERSION,
    meaning="The answer must have seen this sequence, else 409 `behind`.",
    schema={"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
)
IDEMPOTENCY_KEY: Final = Header(
    name=parameters.IDEMPOTENCY_KEY,
    meaning="Asked twice with the same key and body, done once.",
    schema={"type": "string", "pattern": "^[!-~]{1,200}$"},
)
LAST_EVENT_ID: Final = Header(
    name=parameters.LAST_EVENT_ID,
    meaning="Go on after this event.",
    schema={"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
)
PREFER: Final = Header(
    name=parameters.PREFER,
    meaning="`return=minimal`: answer with the id and version only.",
    schema={"type": "string"},
)

_HEADERS: Final[Mapping[str, Json]] = {
    "Hive-Version": {"schema": {"type": "integer"}, "description": "The sequence at which it is so."},
    "Location": {"schema": {"type": "string"}, "description": "Where it is to be had."},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."},
    "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "`true`: it had been asked before."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "The preference that was obeyed."},
}


def document(app: Litestar, *, title: str, version: str, description: str) -> bytes:
    """The document of every route that says what it promises."""
    found = list(_operations(app))
    forms = [Problem, *(form for _, _, _, operation in found for form in _forms(operation))]
    schemas, components = msgspec.json.schema_components(forms, ref_template="#/components/schemas/{name}")
    known = {id(form): schema for form, schema in zip(forms, schemas, strict=True)}
    paths: dict[str, Json] = {}
    for path, method, handler, operation in found:
        paths.setdefault(path, {})[method] = _operation(path, method, handler, operation, known)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version, "description": description},
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "key": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": "hive_session"},
                },
            },
            "security": [{"key": []}, {"session": []}],
        }
    )


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler, Operation]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if isinstance(operation := handler.opt.get(SAYS), Operation):
                    for method in handler.http_methods:
                        yield route.path_format, method.lower(), handler, operation


def _forms(operation: Operation) -> list[Any]:
    forms = [form for says in operation.answers.values() for form in (says.form, says.or_form)]
    forms += [operation.body.form] if operation.body is not None else []
    return [form for form in forms if form is not None]


def _operation(
    path: str, method: str, handler: HTTPRouteHandler, operation: Operation, known: Mapping[int, Json]
) -> Json:
    numbers = [*_ALWAYS, *operation.problems, *(_WITH_BODY if operation.body is not None else ())]
    if "{" in path:
        numbers.append(404)
    answers = {str(status): _answer(says, known) for status, says in operation.answers.items()}
    problem = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers |= {
        str(number): {"description": _MEANING[number], "content": problem} for number in sorted(set(numbers))
    }
    said: Json = {
        "operationId": "_".join([method, *path.translate(_NO_BRACES).split("/")[2:]]),
        "summary": operation.summary,
        "description": _description(handler, operation),
        "tags": [path.split("/")[2]],
        "parameters": list(_parameters(path, operation)),
        "responses": answers,
    }
    if (body := operation.body) is not None:
        content = {kind: {"schema": known[id(body.form)] if kind == JSON else {}} for kind in body.types}
        said["requestBody"] = {"required": body.default is None, "content": content}
    return said


def _description(handler: HTTPRouteHandler, operation: Operation) -> str:
    needs = f"Needs the scope `{operation.scope}`." if operation.scope else "Needs a key of any scope."
    return f"{(handler.fn.__doc__ or '').strip()} {needs}"


def _answer(says: Says, known: Mapping[int, Json]) -> Json:
    told: Json = {"description": says.meaning}
    if says.or_form is not None:
        either = [known[id(says.form)], known[id(says.or_form)]]
        told["content"] = {says.media_type: {"schema": {"anyOf": either}}}
    elif says.form is not None:
        told["content"] = {says.media_type: {"schema": known[id(says.form)]}}
    elif says.media_type != JSON:
        told["content"] = {
            media_type: {"schema": {"type": "string"}}
            for media_type in (says.media_type, says.or_media_type)
            if media_type is not None
        }
    if says.headers:
        told["headers"] = {name: _HEADERS[name] for name in says.headers}
    return told


def _parameters(path: str, operation: Operation) -> Iterator[Json]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            schema = operation.path.get(name, {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$"})
            yield {"name": name, "in": "path", "required": True, "schema": dict(schema)}
    if operation.query is not None:
        _, components = msgspec.json.schema_components([operation.query.form])
        form: Json = components[operation.query.form.__name__]
        for name, field in form["properties"].items():
            needed = name in form.get("required", ())
            yield {"name": name, "in": "query", "required": needed, "schema": _inline(field, components)}
    for header in operation.headers:
        yield {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.meaning,
            "schema": dict(header.schema),
        }


def _inline(field: Json, components: Mapping[str, Json]) -> Json:
    """A parameter's schema, without references."""
    return dict(components[field["$ref"].rpartition("/")[2]]) if "$ref" in field else field
