"""Runs the command: `python -m cli`."""

from cli.main import hive

hive(prog_name="hive")
