"""The shape of the code, held by a test."""

import ast
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

from shared.kernel.messages import Command, Fact, Query
from tests.support.language import SERVICES, all_subclasses
from tests.support.tree import PACKAGES, ROOT, name_of, sources, string_literals, texts

LINES_MAX = 400
SHAPE = ("__init__", "__main__", "facts", "decider", "projection", "service", "api")
# `ask.>`, a whole tree in a permission, is no subject.
SUBJECT = re.compile(r"^(cmd|evt|run|inbox|live|dead|hb|ctl|file|ask|host|_INBOX)\.(?!>$)[\w*>{$]?")
BUILDS_SUBJECTS = {"shared/contracts/naming.py"}


def load_everything() -> None:
    for package in (*PACKAGES, "tests.support"):
        module = importlib.import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    folder = ROOT / "services" / service
    there = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert [part for part in SHAPE if part not in there] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package: str) -> None:
    silent = [
        name_of(path)
        for path in (ROOT / package).rglob("__init__.py")
        if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_messages_are_frozen_and_name_their_fields() -> None:
    load_everything()
    kinds = [kind for base in (Fact, Command, Query) for kind in all_subclasses(base)]
    assert len(kinds) > 30
    flags = {kind: kind.__struct_config__ for kind in kinds}
    assert [kind.__name__ for kind, flag in flags.items() if not flag.frozen] == []
    assert [kind.__name__ for kind in kinds if not names_its_fields(kind)] == []


def names_its_fields(kind: type) -> bool:
    """kw_only is said on the class itself: it is not inherited, and msgspec does not remember it."""
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
    if not fields:
        return True
    try:
        kind(*fields)
    except TypeError as error:
        return "positional" in str(error)
    return False


def test_no_file_is_longer_than_a_calm_read() -> None:
    long = {name_of(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > LINES_MAX} == {}


def test_subjects_are_built_in_one_place() -> None:
    elsewhere = [
        f"{name_of(path)}:{line}: {text}"
        for path in sources("shared", "services", "bots", "cli")
        if name_of(path) not in BUILDS_SUBJECTS
        for line, text in string_literals(path)
        if SUBJECT.match(text)
    ]
    assert elsewhere == []


def test_the_readme_names_every_service() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [service for service in SERVICES if f"| `{service}` |" not in readme] == []


def test_compose_runs_every_service() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    assert [service for service in SERVICES if f"services.{service}" not in compose] == []


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    told = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony.group(1).split()) == told


def test_what_the_readme_tells_to_type_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = set(re.findall(r"^(?:\$ )?make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert told
    assert [target for target in told if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name_of(path)}: {link}"
        for path, text in texts()
        if path.suffix == ".md"
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
        if "://" not in link and not (path.parent / link).exists()
    ]
    assert broken == []


def test_the_locks_hold_every_dependency_in_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {plain(name) for name in project["dependencies"]} <= runtime.keys()
    assert {plain(name) for name in project["optional-dependencies"]["dev"]} <= dev.keys()
    assert {name: dev.get(name) for name in runtime} == runtime


def locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(pins)


def plain(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9-]+", requirement)
    assert found is not None, requirement
    return found.group().lower()


def test_no_file_names_this_machine_or_an_index() -> None:
    home = f"{Path.home()}/" if len(Path.home().parts) > 1 else None
    traces = [f"{ROOT}/", *([home] if home else []), "--extra-" + "index-url ", "--index-" + "url "]
    named = [f"{name_of(path)}: {trace}" for path, text in texts() for trace in traces if trace in text]
    assert named == []
