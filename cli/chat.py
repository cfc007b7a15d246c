"""`hive chat`: a person talks to a bot, in a terminal or through a pipe."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote

import click

from cli import screen
from cli.chatting import AT_ONCE_MAX, Chat, Face
from cli.dialogue import Dialogue, Said
from cli.faces import Json, Piped, Terminal
from cli.failure import Exit, Failure
from cli.listing import fetch
from cli.session import Session, talking
from cli.wire import Wire, who_we_are
from cli.words import DURATION
from shared.contracts.messenger.queries import MessageDoc

ANSWERED_WITHIN_S: Final = 300.0
AWAY_FOR_S: Final = 120.0


@click.command()
@talking
@click.argument("bot")
@click.option(
    "--history", type=click.IntRange(0, 1_000), help="Messages shown at first: 20, from a pipe none."
)
@click.option(
    "--wait", type=DURATION, help="From a pipe: how long to wait for the last answers. Default: 5m."
)
def chat(session: Session, *, bot: str, history: int | None, wait: float | None) -> None:
    """Talk to a bot: its engine answers what you write. Ctrl-C or Ctrl-D ends it.

    What was said before comes first. When anything is restarted meanwhile, it goes on where it was.
    From a pipe each line is a message; it ends with 0 when all are answered, 1 when one got no answer,
    4 when one was refused, 5 when the hive stays away, 6 when an answer is missing as the wait ends.
    """
    typed = sys.stdin.isatty() and sys.stdout.isatty() and not session.as_json
    terminal = Terminal(bot, plain=screen.plain_terminal()) if typed else None
    face: Face = terminal or (Json() if session.as_json else Piped())
    me = who_we_are(bot, session.where)
    with session.client() as client:
        path = f"/v1/conversations/{quote(me, safe='')}/{quote(bot, safe='')}"
        before = fetch(client, path, limit=max(1, _shown(history, terminal))).typed(MessageDoc)
    dialogue = Dialogue(me=me, seen=before[0].sequence if before else 0)
    conversation = Chat(face, dialogue)
    wire = Wire(
        bot,
        where=session.where,
        after=lambda: dialogue.after,
        heard=conversation.hear,
        opened=conversation.opened,
        lost=conversation.lost,
        patience_s=AWAY_FOR_S if terminal is None else float("inf"),
    )
    for message in reversed(before[: _shown(history, terminal)]):
        face.said(Said(message, ""), ours=message.sender == me)
    wire.open()
    conversation.wire = wire
    with ThreadPoolExecutor(1) as pool:
        hearing = pool.submit(conversation.run, wire, click.get_current_context())
        try:
            if terminal is None:
                _pipe(conversation, ANSWERED_WITHIN_S if wait is None else wait)
            else:
                _talk(conversation, terminal, bot)
        finally:
            wire.close()
    hearing.result()
    if wire.failure is not None:
        raise wire.failure
    raise SystemExit(Exit.OK if terminal is not None else conversation.worst)


def _shown(history: int | None, terminal: Terminal | None) -> int:
    if history is not None:
        return history
    return 0 if terminal is None else 20


def _talk(conversation: Chat, terminal: Terminal, bot: str) -> None:
    """Line by line, until the person leaves or the conversation is over."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - editing of the line, and what is typed stays when others speak
    terminal.note(f"You talk to {bot}; Ctrl-D ends it.")
    leave = _interrupted(conversation.over)
    try:
        while not conversation.over.is_set():
            if text := terminal.ask().strip():
                conversation.say(text)
    except (EOFError, KeyboardInterrupt):
        click.echo()
    finally:
        leave()


def _interrupted(over: threading.Event) -> Callable[[], None]:
    """End the wait for a line when the conversation is over; call what is given back to let that be."""
    left = threading.Event()
    main = threading.get_ident()

    def watch() -> None:
        over.wait()
        if not left.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=watch, name="over", daemon=True).start()
    return left.set


def _pipe(conversation: Chat, wait_s: float) -> None:
    """Each line a message, a few at a time; then the answers."""
    for line in sys.stdin:
        if text := line.rstrip("\r\n"):
            conversation.until_open(AT_ONCE_MAX - 1)
            if conversation.over.is_set():
                return
            conversation.say(text)
    answered = conversation.until_open(0, wait_s)
    if not answered and not conversation.over.is_set():
        missing = conversation.dialogue.open
        raise Failure(
            f"{missing:,} of your messages {'is' if missing == 1 else 'are'} not answered yet.",
            exit_code=Exit.STILL_RUNNING,
            code="unanswered",
            why=f"the wait of {wait_s:g} s is over; what was sent stays sent.",
            todo="`hive inbox` shows the answers when they come; `hive bots` shows what the bot does.",
        )
