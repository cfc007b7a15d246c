"""`fleet.toml`: the bots that shall be there, and what is to be done so that they are."""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from cli.failure import Exit, Failure
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.queries import BotDoc
from shared.contracts.words import NAME_PATTERN

COUNT_MAX: Final = 1_000
NEVER_UP: Final = frozenset({"broken", "restarting"})  # where a bot that did not come up may be launched anew


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[bots]]` table: a name, how many, and the fields of a bot's spec."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)] = 1


class Launch(msgspec.Struct, frozen=True):
    """It is not there, was retired, or never came up and shall be otherwise."""

    name: str
    spec: BotSpec


class Start(msgspec.Struct, frozen=True):
    """It is there, but does not run."""

    name: str


class Keep(msgspec.Struct, frozen=True):
    """It is there as it should be."""

    name: str


class Differs(msgspec.Struct, frozen=True):
    """It is there with another spec."""

    name: str
    spec: BotSpec
    fields: tuple[str, ...]


Step = Launch | Start | Keep | Differs


def read(path: Path) -> dict[str, BotSpec]:
    """The bots of a file by name. Relative workspaces are relative to the file."""
    try:
        tables = tomllib.loads(path.read_text()).get("bots", [])
        fleet: dict[str, BotSpec] = {}
        for table in tables if isinstance(tables, list) else [tables]:
            fleet |= _bots(table, path.parent)
    except (
        OSError,
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        msgspec.ValidationError,
        ValueError,
    ) as error:
        raise Failure(
            f"{path} cannot be used.",
            exit_code=Exit.USAGE,
            code="bad_fleet",
            why=str(error),
            todo='write tables such as [[bots]] with name = "alpha", engine = "shell", workspace = ".".',
        ) from error
    return fleet


def _bots(table: Mapping[str, object], folder: Path) -> dict[str, BotSpec]:
    own = {field: value for field, value in table.items() if field in Wanted.__struct_fields__}
    wanted = msgspec.convert(own, Wanted)
    spec = msgspec.convert({field: table[field] for field in table.keys() - own.keys()}, BotSpec)
    if spec.workspace is not None:
        spec = msgspec.structs.replace(spec, workspace=str((folder / spec.workspace).resolve()))
    return dict.fromkeys(names(wanted.name, wanted.count), spec)


def names(name: str, count: int) -> list[str]:
    """`alpha`, or `alpha-1` to `alpha-20`."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def steps(fleet: Mapping[str, BotSpec], there: Collection[BotDoc]) -> list[Step]:
    """What is to be done. Bots that the file does not name are left alone."""
    known = {str(bot.name): bot for bot in there if bot.state != "retired"}
    return [_step(name, spec, known.get(name)) for name, spec in fleet.items()]


def _step(name: str, spec: BotSpec, bot: BotDoc | None) -> Step:
    if bot is None:
        return Launch(name, spec)
    different = tuple(
        field for field in spec.__struct_fields__ if getattr(spec, field) != getattr(bot.spec, field)
    )
    if different:
        never_up = bot.state in NEVER_UP and not bot.came_up
        return Launch(name, spec) if never_up else Differs(name, spec, different)
    return Start(name) if bot.state in ("stopped", "broken") else Keep(name)
