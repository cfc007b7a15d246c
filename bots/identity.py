"""Who a bot's process is: what its host told it, and nobody else needs to know."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bots.sandbox import CHOICES
from shared.contracts.naming import bot_sender
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.words import BotId
from shared.runtime import settings
from shared.runtime.settings import Settings, SettingsError

BOT: Final = "HIVE_BOT"
GENERATION: Final = "HIVE_GENERATION"
SPEC: Final = "HIVE_BOT_SPEC"
SANDBOX: Final = "HIVE_SANDBOX"
HIDDEN: Final = "HIVE_HIDDEN"
STOP_GRACE: Final = "HIVE_STOP_GRACE_S"
STOP_GRACE_DEFAULT_S: Final = 8.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One bot's process: which bot, started for the how manieth time, as what, and where.

    `sandbox` is what its host has measured, None where it must measure itself; `hidden` are the folders that
    its programs must not see; `stop_grace_s` is what it may finish in after a SIGTERM.
    """

    bot_id: BotId
    generation: int
    spec: BotSpec
    workspace: Path
    environment: dict[str, str]
    settings: Settings
    hidden: tuple[Path, ...] = ()
    sandbox: str | None = None
    stop_grace_s: float = STOP_GRACE_DEFAULT_S


def own_environment() -> dict[str, str]:
    """This process' environment: a host hands parts of it to its bots, a bot to its programs."""
    return dict(os.environ)  # noqa: TID251  bots are launched with variables that no settings know


def chosen_sandbox(environment: Mapping[str, str]) -> str | None:
    """What the operator asked for by HIVE_SANDBOX; None: the best that works."""
    chosen = environment.get(SANDBOX) or None
    if chosen is not None and chosen not in CHOICES:
        raise SettingsError(f"{SANDBOX}={chosen!r}: must be one of {', '.join(CHOICES)}, or not set")
    return chosen


def load() -> Identity:
    """What this process was told; SettingsError names the variable that is missing or wrong."""
    environment = own_environment()
    bot_id = environment.get(BOT, "")
    if not bot_id:
        raise SettingsError(f"{BOT} is not set: name the bot that this process is")
    try:
        spec = msgspec.json.decode(environment.get(SPEC, '{"engine":"external"}'), type=BotSpec)
        generation = int(environment.get(GENERATION, "1"))
        stop_grace_s = float(environment.get(STOP_GRACE, STOP_GRACE_DEFAULT_S))
    except (msgspec.DecodeError, ValueError) as error:
        raise SettingsError(f"{SPEC}, {GENERATION} or {STOP_GRACE} cannot be read: {error}") from error
    told = settings.load(environment, sender=bot_sender(bot_id))
    hidden = [Path(folder) for folder in environment.get(HIDDEN, "").split(os.pathsep) if folder]
    return Identity(
        bot_id=BotId(bot_id),
        generation=generation,
        spec=spec,
        workspace=Path.cwd(),
        environment=environment,
        settings=told,
        hidden=tuple(hidden) or (told.data,),
        sandbox=environment.get(SANDBOX) or None,
        stop_grace_s=stop_grace_s,
    )
