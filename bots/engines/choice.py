"""Which engine a bot's spec asks for."""

from collections.abc import Mapping
from typing import Final

from bots.engines import Engine
from bots.engines.command import Command
from bots.engines.echo import Echo
from bots.engines.program import Programs
from bots.engines.shell import Shell
from shared.contracts.orchestrator.facts import BotSpec
from shared.kernel.errors import Rejected

EXTERNAL: Final = "external"
"""No engine of ours: the host makes the credentials, and someone else's process is the bot (bots/sdk.py)."""

ENGINES: Final = ("command", "echo", "shell")
PROGRAM_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ")


def check(spec: BotSpec) -> None:
    """Rejected when no such engine can be made here."""
    if spec.engine not in {*ENGINES, EXTERNAL}:
        known = ", ".join(sorted({*ENGINES, EXTERNAL}))
        raise Rejected("engine_unknown", f"engine: there is no {spec.engine!r}; this host has {known}")
    if spec.engine == "command" and not spec.argv:
        raise Rejected(
            "argv_missing",
            "argv: the engine `command` needs its program, such as `--argv claude -p '{input}'`",
        )


def choose(spec: BotSpec, programs: Programs, shell_allow: tuple[str, ...]) -> Engine:
    """The engine of this spec, which has been checked."""
    match spec.engine:
        case "echo":
            return Echo()
        case "shell":
            return Shell({*shell_allow, *spec.allow}, programs)
        case "command":
            return Command(spec.argv, programs)
        case _:
            check(spec)
            raise Rejected("engine_unknown", f"engine: {spec.engine!r} runs in a process of its own")


def program_environment(spec: BotSpec, environment: Mapping[str, str]) -> dict[str, str]:
    """What programs of this bot may know of its environment."""
    known = {name: environment[name] for name in (*PROGRAM_VARIABLES, *spec.env) if name in environment}
    return {"LANG": "C.UTF-8", **known}
