"""The catalogue of public facts, commands and queries, written from shared/contracts."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import shared.contracts
from shared.kernel.messages import Command, Fact, Query

PAGE: Final = Path(__file__).parent / "events.md"

INTRODUCTION: Final = """\
# Facts, commands and queries

Written by `make docs` from `shared/contracts`; do not edit it by hand.
A *fact* stands in the log, on `evt.<aggregate>.<id>`, inside a commit.
A *command* is a wish on its way to the one service that decides it.
A *query* asks a service's views.
Each is JSON; the field `fact`, `command` or `query` holds the name given here.
A field with a default may be missing; times are RFC 3339 in UTC.
Facts only ever gain fields; commands and queries refuse fields they do not know.
"""

Schema = Mapping[str, Any]


def published(base: type[Any]) -> list[type[Any]]:
    """The classes of the published language below `base`: those that nothing else is derived from."""
    for module in pkgutil.walk_packages(shared.contracts.__path__, "shared.contracts."):
        importlib.import_module(module.name)
    found = [kind for kind in _leaves(base) if kind.__module__.startswith("shared.contracts.")]
    return sorted(found, key=lambda kind: (kind.__module__, inspect.getsourcelines(kind)[1]))


def _leaves(base: type[Any]) -> Iterator[type[Any]]:
    children = base.__subclasses__()
    if not children:
        yield base
    for child in children:
        yield from _leaves(child)


def owner(kind: type[Any]) -> str:
    """The contract a class stands in: `orchestrator`, `gateway`, `dead`."""
    return kind.__module__.split(".")[2]


def render() -> str:
    """The whole page."""
    facts, commands, queries = published(Fact), published(Command), published(Query)
    answers = [kind.answer for kind in queries]
    _, schemas = msgspec.json.schema_components(
        [*facts, *commands, *queries, *answers], ref_template="{name}", schema_hook=_opaque
    )
    told = {kind.__name__ for kind in (*facts, *commands, *queries)}
    parts = [INTRODUCTION]
    for name in sorted({owner(kind) for kind in (*facts, *commands, *queries)}):
        parts.append(f"## {name}\n")
        for title, kinds in (("Facts", facts), ("Commands", commands), ("Queries", queries)):
            mine = [kind for kind in kinds if owner(kind) == name]
            parts += [f"### {title} of {name}\n"] if mine else []
            parts += [_message(kind, schemas) for kind in mine]
    parts.append("## What they are made of\n")
    parts += [_part(name, schemas[name]) for name in sorted(schemas) if name not in told]
    return "\n".join(parts)


def _opaque(kind: type) -> dict[str, Any]:
    return {"description": kind.__name__}


def _message(kind: type[Any], schemas: Mapping[str, Schema]) -> str:
    lines = [f"#### `{kind.__name__}`\n", f"{inspect.cleandoc(kind.__doc__ or '')}\n"]
    if issubclass(kind, Command):
        lines.append(f"About one `{kind.aggregate}`; from: {', '.join(sorted(kind.senders))}.\n")
    if issubclass(kind, Query):
        lines.append(f"Answer: {_answer(kind.answer)}.\n")
    tag = kind.__struct_config__.tag_field
    return "\n".join([*lines, _fields(schemas[kind.__name__], besides=tag)])


def _answer(answer: object) -> str:
    (schema,), _ = msgspec.json.schema_components([answer], ref_template="{name}", schema_hook=_opaque)
    return _type(schema)


def _part(name: str, schema: Schema) -> str:
    told = inspect.cleandoc(schema.get("description", ""))
    lines = [f"#### `{name}`\n", *([f"{told}\n"] if told else [])]
    if "enum" in schema:
        lines.append(f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.\n")
        return "\n".join(lines)
    tags = [f"`{key}`: `{_tag(field)}`.\n" for key, field in schema["properties"].items() if _tag(field)]
    return "\n".join([*lines, *tags, _fields(schema)])


def _tag(field: Schema) -> str:
    values: Sequence[str] = field.get("enum", ()) if "$ref" not in field else ()
    return values[0] if len(values) == 1 else ""


def _fields(schema: Schema, *, besides: str | None = None) -> str:
    fields = {
        name: field for name, field in schema["properties"].items() if name != besides and not _tag(field)
    }
    if not fields:
        return "No fields.\n"
    required = set(schema.get("required", ()))
    rows = [
        f"| `{name}` | {_type(field)} | {'' if name in required else _default(field)} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| field | type | default |", "|---|---|---|", *rows, ""])


def _default(field: Schema) -> str:
    value = field.get("default")
    return f"`{msgspec.json.encode(value).decode()}`" if value not in ({}, []) else "empty"


def _type(schema: Schema) -> str:
    match schema:
        case {"$ref": name}:
            return f"[{name}](#{name.lower()})"
        case {"anyOf": kinds}:
            return " or ".join(_type(kind) for kind in kinds)
        case {"type": "array", "items": {} as item}:
            return f"list of {_type(item)}"
        case {"type": "object", "additionalProperties": {} as item}:
            return f"map to {_type(item)}"
        case {"type": "string", "format": form}:
            return str(form)
        case {"type": "string", "contentEncoding": form}:
            return f"bytes, {form}"
        case {"type": kind}:
            return str(kind)
        case _:
            return "any JSON"


if __name__ == "__main__":
    PAGE.write_text(render())
