"""Every message that is stored or sent, found by walking the subclasses."""

import importlib
from pathlib import Path
from typing import Any

from docs.catalogue import published
from shared.kernel.messages import Fact

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__init__.py"))


def private_facts() -> list[type[Fact]]:
    """The facts that only their own service understands."""
    found: list[type[Fact]] = []
    for service in SERVICES:
        if (ROOT / "services" / service / "facts.py").exists():
            module = importlib.import_module(f"services.{service}.facts")
            own = [kind for kind in vars(module).values() if _is_fact_of(kind, module.__name__)]
            found += own
    return found


def stored_facts() -> list[type[Fact]]:
    """All that a log may hold."""
    return [*published(Fact), *private_facts()]


def all_subclasses(base: type[Any]) -> list[type[Any]]:
    """Every class below `base`, however deep."""
    return [found for child in base.__subclasses__() for found in (child, *all_subclasses(child))]


def _is_fact_of(kind: object, module: str) -> bool:
    return isinstance(kind, type) and issubclass(kind, Fact) and kind.__module__ == module
