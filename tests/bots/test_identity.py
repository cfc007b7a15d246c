"""What a bot's process must be told."""

import subprocess
import sys
from pathlib import Path

import pytest

from bots import identity
from shared.runtime.settings import SettingsError

ROOT = Path(__file__).parents[2]


def test_without_a_name_it_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIVE_BOT", raising=False)

    with pytest.raises(SettingsError, match="HIVE_BOT is not set"):
        identity.load()


def test_a_spec_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_BOT", "alpha")
    monkeypatch.setenv("HIVE_BOT_SPEC", '{"slots": 3}')

    with pytest.raises(SettingsError, match="engine"):
        identity.load()


def test_a_bot_of_somebody_else_needs_only_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_BOT", "alpha")

    told = identity.load()

    assert told.spec.engine == "external"
    assert told.settings.sender == "bot-alpha"
    assert told.hidden == (told.settings.data,)


def test_an_unknown_sandbox_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be one of namespace, landlock, off"):
        identity.chosen_sandbox({"HIVE_SANDBOX": "of"})


def test_no_sandbox_chosen_means_the_best() -> None:
    assert identity.chosen_sandbox({"HIVE_SANDBOX": ""}) is None


def test_a_bots_process_imports_nothing_that_it_does_not_need() -> None:
    script = "import sys, bots.runtime; print(' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, cwd=ROOT
    )

    heavy = {"litestar", "opentelemetry", "httpx", "prometheus_client", "psutil", "uvicorn", "click", "rich"}
    assert not heavy & set(done.stdout.split())
