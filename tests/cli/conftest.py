"""Runs the command in this process, against a hive that is a function."""

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from cli.main import hive as command
from tests.cli.fake_hive import FakeHive

Run = Callable[..., Result]
URL = "http://hive.test"


@pytest.fixture
def hive() -> FakeHive:
    return FakeHive()


@pytest.fixture
def run(hive: FakeHive, tmp_path: Path) -> Run:
    def run(*words: str, sent: bytes | None = None, env: Mapping[str, str | None] | None = None) -> Result:
        here = {"HIVE_URL": URL, "HIVE_KEY": "hive_test", "HIVE_DATA": str(tmp_path / "data")}
        return CliRunner(env={**here, **(env or {})}).invoke(
            command, words, input=sent, obj=httpx.MockTransport(hive), prog_name="hive"
        )

    return run
