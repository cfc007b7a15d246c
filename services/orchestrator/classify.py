"""What kind of work a text asks for, by whole words, with the words that said so."""

import re
from collections.abc import Mapping
from typing import Final

from shared.contracts.words import TaskType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The order decides a tie, the more particular type first: "write tests" is testing.
_WORDS: Final[Mapping[TaskType, frozenset[str]]] = {
    TaskType.TESTING: _words(
        "test tests testing tested pytest unittest unittests coverage e2e regression regressions qa "
        "fuzz fuzzing"
    ),
    TaskType.DOCUMENTATION: _words(
        "document documentation documented docs readme docstring docstrings changelog manual tutorial "
        "handbook"
    ),
    TaskType.CODE: _words(
        "code coding implement implementation fix fixes bug bugs refactor refactoring function "
        "functions script scripts compile build debug patch program programme class method endpoint "
        "git commit merge rebase lint deploy"
    ),
    TaskType.ANALYSIS: _words(
        "analyse analyze analysis analyses investigate investigation compare comparison evaluate "
        "evaluation examine measure profile statistics trend trends benchmark root-cause diagnose"
    ),
    TaskType.PLANNING: _words(
        "plan plans planning roadmap milestone milestones schedule estimate estimates strategy "
        "prioritise prioritize backlog agenda"
    ),
    TaskType.WRITING: _words(
        "write writing draft essay article blog email letter story summary summarise summarize "
        "translate translation proofread rewrite newsletter poem"
    ),
}
_TYPE_OF: Final = {word: kind for kind, words in _WORDS.items() for word in words}
_RANK: Final = {kind: rank for rank, kind in enumerate(_WORDS)}
_WORD: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SHOWN_MAX: Final = 5


def classify(content: str) -> tuple[TaskType, str]:
    """The type with the most different words in the text, and the reason in words.

    Only whole words count: "latest" holds no "test".
    """
    found: dict[TaskType, dict[str, None]] = {}
    for match in _WORD.finditer(content.lower()):
        word = match.group()
        for part in (word, *word.split("-")) if "-" in word else (word,):
            if kind := _TYPE_OF.get(part):
                found.setdefault(kind, {})[part] = None
    if not found:
        return TaskType.OTHER, "no word of the text names a type"
    best = min(found, key=lambda kind: (-len(found[kind]), _RANK[kind]))
    shown = ", ".join(f'"{word}"' for word in list(found[best])[:_SHOWN_MAX])
    return best, f"the text says {shown}"
