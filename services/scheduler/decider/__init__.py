"""The rules: of what is known of a bot."""

from services.scheduler.decider.performance import PERFORMANCE

__all__ = ["PERFORMANCE"]
