"""What `hive up` is to run: its services, in which order they stop, and the environment each one gets."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.data_dir import DataDir

INSTANCE: Final = "embedded"
"""Names the view files; the same at each start, so that a view goes on where it stopped."""

COLOUR: Final = "blue"
PASSED_ON: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"),
    *("HIVE_LOG_LEVEL", "HIVE_SHELL_ALLOW", "HIVE_SANDBOX", "HIVE_SANDBOX_READ"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"),
)
"""What services get from the environment of `hive up`; the bot host gets the allowed names, too."""


@dataclass(frozen=True)
class Service:
    """A process of the hive. `grace_s` is how long it may drain before it is killed."""

    name: str
    target: str
    sender: str
    grace_s: float
    holds_http: bool = False
    launches_bots: bool = False


SERVICES: Final = (
    Service("orchestrator", "services.orchestrator.__main__:main", "svc-orchestrator", 15.0),
    Service("messenger", "services.messenger.__main__:main", "svc-messenger", 15.0),
    Service("scheduler", "services.scheduler.__main__:main", "svc-scheduler", 15.0),
    Service("gateway", "services.gateway.__main__:main", "gateway", 40.0, holds_http=True),
    Service("bots", "bots.__main__:main", "svc-bots", 25.0, launches_bots=True),
)

STOP_ORDER: Final = ("gateway", "bots", "orchestrator", "messenger", "scheduler")
"""No new work is taken, what runs is brought to an end, its reports are decided; the broker stops last."""


@dataclass(frozen=True)
class Plan:
    """The options of `hive up`. `nats_url` None: a broker of our own."""

    data: Path
    port: int | None = None
    nats_url: str | None = None
    creds_dir: Path | None = None
    durability: str = "fsync"
    replicas: int = 1
    roots: tuple[Path, ...] = ()
    env_allow: tuple[str, ...] = ()
    services: Sequence[Service] = SERVICES
    stop_order: Sequence[str] = STOP_ORDER
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        """Where the credentials of the broker's users are."""
        return self.creds_dir or self.data / "keys"

    def creds(self, sender: str) -> Path:
        """The credentials of one broker user."""
        return self.keys / f"{sender}.creds"

    def env_of(self, service: Service, *, nats_url: str, probe_port: int) -> dict[str, str]:
        """The whole environment of a service."""
        passed = {name: value for name, value in self.environment.items() if _passes(name)}
        told = {
            "HIVE_NATS_URL": nats_url,
            "HIVE_CREDS": str(self.creds(service.sender)),
            "HIVE_SENDER": service.sender,
            "HIVE_COLOUR": COLOUR,
            "HIVE_INSTANCE": INSTANCE,
            "HIVE_DATA": str(self.data),
            "HIVE_PROBE_PORT": str(probe_port),
            "HIVE_DURABILITY": self.durability,
            "HIVE_REPLICAS": str(self.replicas),
        }
        if service.holds_http:
            told["HIVE_ADMIN_KEY_FILE"] = str(DataDir(self.data).admin_key)
        if not service.launches_bots:
            return {**passed, **told}
        allowed = {name: self.environment[name] for name in self.env_allow if name in self.environment}
        return {
            **passed,
            **allowed,
            **told,
            "HIVE_ROOTS": os.pathsep.join(str(root) for root in self.roots),
            "HIVE_ENV_ALLOW": ",".join(self.env_allow),
        }


def _passes(name: str) -> bool:
    return name in PASSED_ON or name.startswith("LC_")


def backoff_s(crashes: int) -> float:
    """How long to wait before the next start after so many crashes in a row: 0.2 s, doubled, at most 5 s."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(crashes - 1, 10))


BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0  # shorter than a publish waits for its broker
STEADY_AFTER_S: Final = 30.0
"""Who ran for so long has recovered: the next crash counts as the first."""
