"""Settings are read once, and a wrong one says which it is and what to do."""

import os
from pathlib import Path

import pytest

from shared.runtime.settings import SHELL_ALLOW, SettingsError, load


def test_the_sender_is_all_that_must_be_said() -> None:
    settings = load({"HIVE_SENDER": "gateway"})

    assert settings.sender == "gateway"
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.durability == "fsync"
    assert settings.shell_allow == SHELL_ALLOW
    assert settings.creds is None


def test_a_missing_sender_is_named_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match=r"HIVE_SENDER is not set: name .* such as gateway"):
        load({})


def test_the_environment_wins_over_a_default_of_the_program() -> None:
    assert (
        load({"HIVE_SENDER": "ops", "HIVE_COLOUR": "green"}, sender="gateway", colour="blue").colour
        == "green"
    )
    assert load({}, sender="gateway").sender == "gateway"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load({"HIVE_COLOUR": "", "HIVE_HTTP_FD": ""}, sender="ops").http_fd is None


def test_two_processes_of_a_machine_differ() -> None:
    assert load({}, sender="ops").instance.endswith(f"-{os.getpid()}")


def test_lists_are_split_and_trimmed() -> None:
    env = {
        "HIVE_ROOTS": os.pathsep.join(["/srv/a", "/srv/b"]),
        "HIVE_SHELL_ALLOW": "git, ls ,",
        "HIVE_ENV_ALLOW": "LANG,TZ",
    }

    settings = load(env, sender="svc-bots")

    assert settings.roots == (Path("/srv/a"), Path("/srv/b"))
    assert settings.shell_allow == ("git", "ls")
    assert settings.env_allow == ("LANG", "TZ")


def test_the_log_level_may_be_written_small() -> None:
    assert load({"HIVE_LOG_LEVEL": "debug"}, sender="ops").log_level == "DEBUG"


@pytest.mark.parametrize(
    ("variable", "text", "remedy"),
    [
        ("HIVE_HTTP_PORT", "65536", "a port"),
        ("HIVE_PROBE_PORT", "-1", "a whole number"),
        ("HIVE_HTTP_FD", "three", "a whole number"),
        ("HIVE_HTTP_PORT", "\uff18\uff10", "a whole number"),
        ("HIVE_DURABILITY", "maybe", "one of fsync, os"),
        ("HIVE_REPLICAS", "2", "1, 3 or 5"),
        ("HIVE_LOG_LEVEL", "loud", "one of DEBUG"),
        ("HIVE_SENDER", "bot.*", "one token"),
        ("HIVE_COLOUR", "blue green", "one token"),
        ("HIVE_HOST_ID", ">", "one token"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_it_must_be(variable: str, text: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        load({"HIVE_SENDER": "ops", variable: text})

    assert variable in str(wrong.value)
    assert remedy in str(wrong.value)
