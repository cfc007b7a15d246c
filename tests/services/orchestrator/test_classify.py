"""What kind of work a text asks for."""

import pytest

from services.orchestrator.classify import classify
from shared.contracts.words import TaskType


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("Run the tests of the parser", TaskType.TESTING),
        ("write tests for the parser", TaskType.TESTING),
        ("fix the bug in the parser", TaskType.CODE),
        ("git status", TaskType.CODE),
        ("Write a README", TaskType.DOCUMENTATION),
        ("compare the two proposals", TaskType.ANALYSIS),
        ("make a roadmap for spring", TaskType.PLANNING),
        ("draft a letter to our readers", TaskType.WRITING),
        ("find the root-cause", TaskType.ANALYSIS),
        ("what is the latest news?", TaskType.OTHER),
        ("the contest was attested by protesters", TaskType.OTHER),
        ("", TaskType.OTHER),
    ],
)
def test_a_text_is_filed_by_its_whole_words(content: str, kind: TaskType) -> None:
    assert kind is classify(content)[0]


def test_the_reason_names_the_words() -> None:
    assert classify("Fix this bug, fix it")[1] == 'the text says "fix", "bug"'
    assert classify("the latest news")[1] == "no word of the text names a type"
