"""The rules of a task's life and of a bot's life."""

from services.orchestrator.decider.bot import BOT
from services.orchestrator.decider.task import TASK

__all__ = ["BOT", "TASK"]
