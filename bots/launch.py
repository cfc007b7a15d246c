"""What a bot's process gets: its folder, its environment, its limits; and what its host refuses it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bots import identity
from bots.engines import choice
from bots.sandbox import READ_VARIABLE, SandboxReport
from shared.contracts.naming import bot_sender
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import StartOrder
from shared.contracts.words import BotId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.runtime import private
from shared.runtime.settings import Settings

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
LIMITS: Final = {"nofile": 4096, "core": 0}
STOP_GRACE_S: Final = 3600.0  # the host itself says when a bot's time is over, by a second SIGTERM


@dataclass(frozen=True)
class Ground:
    """What a host's bots have in common. `hidden`: the folders that their programs must not see."""

    settings: Settings
    environment: Mapping[str, str]
    sandbox: SandboxReport
    hidden: tuple[Path, ...]


def check(ground: Ground, order: StartOrder) -> Path:
    """The workspace of a bot that may be launched; Rejected names the field, and what to do."""
    spec = order.spec
    choice.check(spec)
    for name in spec.env:
        if name not in ground.settings.env_allow:
            allowed = ", ".join(ground.settings.env_allow) or "none"
            raise Rejected(
                "env_not_allowed",
                f"env: this host hands on no {name!r} (allowed: {allowed}); "
                f"start it with HIVE_ENV_ALLOW naming {name}, or `hive up --env {name}`",
            )
        if name not in ground.environment:
            raise Rejected(
                "env_missing", f"env: {name!r} is allowed here but not set; set it, then start again"
            )
    return _workspace(ground, order.bot_id, spec)


def environment(ground: Ground, order: StartOrder, creds: Path) -> dict[str, str]:
    """The whole environment of the bot's process."""
    settings = ground.settings
    inherited = (*PASSED_ON, *order.spec.env)
    return {
        **{name: ground.environment[name] for name in inherited if name in ground.environment},
        "HIVE_NATS_URL": settings.nats_url,
        "HIVE_CREDS": str(creds),
        "HIVE_SENDER": bot_sender(order.bot_id),
        "HIVE_INSTANCE": f"{order.bot_id}-{order.generation}",
        "HIVE_DATA": str(settings.data),
        "HIVE_HOST_ID": settings.host_id,
        "HIVE_SHELL_ALLOW": ",".join(settings.shell_allow),
        READ_VARIABLE: os.pathsep.join(str(folder) for folder in settings.sandbox_read),
        "HIVE_LOG_LEVEL": settings.log_level,
        identity.BOT: order.bot_id,
        identity.GENERATION: str(order.generation),
        identity.SPEC: encode(order.spec).decode(),
        identity.SANDBOX: ground.sandbox.mechanism,
        identity.HIDDEN: os.pathsep.join(str(folder) for folder in ground.hidden),
        identity.STOP_GRACE: str(STOP_GRACE_S),
    }


def log_of(settings: Settings, bot_id: BotId) -> Path:
    """Where what a bot's process prints goes."""
    return settings.data / "logs" / "bots" / f"{bot_id}.log"


def _workspace(ground: Ground, bot_id: BotId, spec: BotSpec) -> Path:
    data = ground.settings.data.resolve()
    own = data / "workspaces" / bot_id
    if spec.workspace is None:
        private.make_folder(own)
        return own
    wanted = Path(spec.workspace)
    if not wanted.is_absolute():
        raise Rejected("workspace_not_allowed", f"workspace: {spec.workspace!r} is no absolute path")
    folder = wanted.resolve()
    roots = [root.resolve() for root in ground.settings.roots]
    if not any(folder.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots) or "none"
        raise Rejected(
            "workspace_not_allowed",
            f"workspace: {folder} is under no allowed root (allowed: {allowed}); "
            "allow one with `hive up --root FOLDER` or HIVE_ROOTS",
        )
    if any(folder.is_relative_to(hidden) for hidden in ground.hidden) and folder != own:
        raise Rejected(
            "workspace_not_allowed", f"workspace: {folder} is the hive's own; choose another folder"
        )
    if not folder.is_dir():
        raise Rejected("workspace_missing", f"workspace: {folder} is no folder; create it, then start again")
    return folder
