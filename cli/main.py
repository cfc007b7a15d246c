"""The root of the command: its nouns, each loaded only when it is used."""

import importlib
from typing import Final, NamedTuple

import click

from cli import VERSION

_EPILOG: Final = """
\b
Exit codes:
  0  ok
  1  failed: the task failed, or something broke
  2  usage: the command or a value is not understood
  3  not found
  4  refused: not allowed, or not as things are
  5  unavailable: no hive answers, or it asks to wait
  6  still running when the wait ended

\b
Environment:
  HIVE_URL, HIVE_KEY  which hive, and the key for it (default: the one running here)
  HIVE_DATA           data directory of the hive on this machine
"""


class _Noun(NamedTuple):
    """Where a command is, and what it does in a line."""

    where: str
    brief: str


_NOUNS: Final[dict[str, _Noun]] = {
    "up": _Noun("cli.up:up", "Start a hive on this machine; Ctrl-C stops it."),
    "down": _Noun("cli.down:down", "Stop the hive that runs on this machine."),
    "status": _Noun("cli.status:status", "Say how the hive is."),
    "cluster": _Noun("cli.cluster:cluster", "Prepare a cluster of brokers for a hive."),
    "logs": _Noun("cli.logs:logs", "Show what services and bots wrote."),
    "demo": _Noun("cli.demo:demo", "See it all in half a minute: a hive, three bots, ten tasks, a kill."),
    "doctor": _Noun("cli.doctor:doctor", "Check this machine and its hive; works when it is down, too."),
    "bots": _Noun("cli.bots:bots", "Launch, list, stop, restart, retire bots."),
    "pools": _Noun("cli.pools:pools", "List the pools that size themselves."),
    "scale": _Noun("cli.pools:scale", "Say how many bots a pool may have; explain what it does."),
    "submit": _Noun("cli.submit:submit", "Give the hive something to do."),
    "tasks": _Noun("cli.tasks:tasks", "List tasks."),
    "task": _Noun("cli.task:task", "Show, explain, watch, cancel, resume one task."),
    "cron": _Noun("cli.cron:cron", "Submit tasks at their times: add, list, run, pause schedules."),
    "send": _Noun("cli.send:send", "Send a message to a bot or a person."),
    "inbox": _Noun("cli.inbox:inbox", "Show what was sent to a bot, or to you."),
    "read": _Noun("cli.inbox:read", "Mark messages as read, and show them."),
    "message": _Noun("cli.message:message", "Show one message."),
    "conversation": _Noun("cli.inbox:conversation", "Show what two said to each other."),
    "chat": _Noun("cli.chat:chat", "Talk to a bot."),
    "broadcast": _Noun("cli.broadcast:broadcast", "Send the same to many bots."),
    "messaging": _Noun("cli.messaging:messaging", "Say how messaging is doing."),
    "recommend": _Noun("cli.recommend:recommend", "Say which bots are best at a type of task, and why."),
    "performance": _Noun("cli.performance:performance", "Show, forget, export how good bots are."),
    "whatif": _Noun("cli.recommend:whatif", "Estimate how tasks would have gone under another policy."),
    "dlq": _Noun("cli.dlq:dlq", "Look at, replay or drop what could not be handled."),
    "keys": _Noun("cli.keys:keys", "Create, list, revoke access keys."),
    "login": _Noun("cli.login:login", "Print a fresh one-time login link for a browser."),
}


class _Dumb(click.ParamType[bool]):
    """Whether the terminal is one that can only print."""

    name = "terminal"

    def convert(self, value: str | bool, param: click.Parameter | None, ctx: click.Context | None) -> bool:  # noqa: ARG002, FBT001
        return value is True or value == "dumb"


class _Root(click.Group):
    """Loads a noun's module when the noun is typed; help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click has it
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        noun = _NOUNS.get(cmd_name)
        if noun is None:
            return None
        module, _, name = noun.where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, noun.brief) for name, noun in _NOUNS.items()])


@click.command(cls=_Root, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(version)s")
@click.option("no_color", "--no-color", is_flag=True, help="No colours; NO_COLOR says so, too.")
@click.option("asked_for_none", "--asked-for-none", envvar="NO_COLOR", hidden=True)
@click.option("dumb", "--dumb", envvar="TERM", hidden=True, type=_Dumb())
@click.pass_context
def hive(context: click.Context, *, no_color: bool, asked_for_none: str | None, dumb: bool | None) -> None:
    """Run fleets of bots: launch them, give them tasks, get the results, and lose nothing on the way."""
    if no_color or asked_for_none or dumb:
        context.color = False


class Nouns(click.Group):
    """A noun whose bare form lists: `hive bots` is `hive bots list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word there that was left out."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)
