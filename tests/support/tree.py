"""The files of this repository, as its own tests read them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "services", "bots", "cli", "benchmarks", "docs")
_NOT_OURS = {"build", "dist", "__pycache__", "secrets"}


def sources(*packages: str) -> list[Path]:
    """The Python files of the packages, of all of them when none is named."""
    return sorted(path for name in packages or PACKAGES for path in (ROOT / name).rglob("*.py"))


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that is handed on, with its text."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = parts[0].startswith(".") and parts[0] not in {".ci", ".gitignore", ".dockerignore"}
        if hidden or _NOT_OURS & set(parts) or not path.is_file():
            continue
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def name_of(path: Path) -> str:
    """The path as it is written in a message."""
    return str(path.relative_to(ROOT))


def string_literals(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each string constant that is no docstring; of an f-string its first literal part."""
    tree = ast.parse(path.read_text())
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    told |= {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first = node.values[0] if node.values else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value
