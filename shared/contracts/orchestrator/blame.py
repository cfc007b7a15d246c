"""What the end of an attempt says about the bot that made it: the one rule for circuits and for opinions.

Against a bot counts: an attempt that it reports as failed and worth another try, one that timed out, one that
was lost because its process died, fell silent, was cut off or forgot it. What does not: a refusal for good
(the task asks for what the bot may not do), a cancelled, expired or withdrawn attempt, one that was lost
because somebody stopped, restarted or retired the bot.
"""

from typing import Final

from shared.contracts.orchestrator.facts import AttemptFailed, AttemptLost, TaskCompleted

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
GONE: Final = "gone"
"""Its process was, or was not to be reached: whatever it held then ended together."""

ASKED_FOR: Final = frozenset({"bot_restarted", "bot_stopped", "bot_retired", "shut_down"})
LEFT_BEHIND: Final = frozenset({"bot_died", "bot_silent", "cut_off"})


def verdict(fact: TaskCompleted | AttemptFailed | AttemptLost) -> str | None:
    """`succeeded`, `failed` or `gone`; None if the end says nothing about the bot."""
    match fact:
        case TaskCompleted():
            return SUCCEEDED
        case AttemptFailed():
            return FAILED if fact.retryable else None
        case AttemptLost() if fact.reason in ASKED_FOR:
            return None
        case AttemptLost():
            return GONE if fact.reason in LEFT_BEHIND else FAILED


def blames_bot(fact: TaskCompleted | AttemptFailed | AttemptLost) -> bool:
    """Whether the end of an attempt counts against the bot."""
    return verdict(fact) in (FAILED, GONE)
