"""Fixtures and profiles that all tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nats_server import LocalBroker

settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile(
    "ci",
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("soak", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

BROKER_FIXTURES = {"nats_server", "broker", "fresh_broker"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whoever asks for a broker talks to one; soak tests run only when they are named with `-m soak`."""
    asked_for_soak = "soak" in config.getoption("markexpr")
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("nats")
        if not asked_for_soak and item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="by hand only: -m soak"))


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One server for the whole run: for tests that leave nothing behind, or use streams of their own."""
    server = LocalBroker(tmp_path_factory.mktemp("nats-server"))
    yield server
    server.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A server of the test's own, empty."""
    server = LocalBroker(tmp_path / "broker")
    yield server
    server.close()


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[Callable[[str], LocalBroker]]:
    """Starts servers with the durability given, `os` or `fsync`; they end with the test."""
    servers: list[LocalBroker] = []

    def start(durability: str = "os") -> LocalBroker:
        servers.append(LocalBroker(tmp_path / f"broker-{len(servers)}", durability=durability))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
