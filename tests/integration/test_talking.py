"""Messages and chats as a person types them, on a whole hive."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.cli.terminal import Terminal
from tests.support.embedded import ROOT, EmbeddedHive, embedded_hive, eventually, kill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

Done = subprocess.CompletedProcess[str]


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[EmbeddedHive]:
    async with embedded_hive(tmp_path) as hive:
        await hive.launch("alpha", engine="echo")
        await hive.launch("beta", engine="shell", workspace=str(ROOT))
        yield hive


def environment(hive: EmbeddedHive) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HIVE_")}
    return {**kept, "HIVE_DATA": str(hive.data.path), "TERM": "xterm"}


async def typed(hive: EmbeddedHive, *words: str, sent: str | None = None) -> Done:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env=environment(hive),
        input=sent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_messages_are_sent_read_answered_and_broadcast(hive: EmbeddedHive) -> None:
    sent = await typed(hive, "send", "alpha", "beta", "--priority", "P0", "the build is red")
    assert sent.returncode == 0, sent.stderr
    message_id = sent.stdout.strip()

    async def arrived() -> bool:
        return "delivered" in (await typed(hive, "inbox", "beta", "--unread")).stdout

    await eventually(arrived, 20.0)
    read = await typed(hive, "read", message_id)
    assert (read.returncode, read.stdout) == (0, "the build is red\n"), read.stderr
    assert (await typed(hive, "inbox", "beta", "--unread")).stdout == ""
    shown = msgspec.json.decode((await typed(hive, "message", "show", message_id, "--json")).stdout)
    assert (shown["state"], shown["priority"], shown["sender"]) == ("read", "P0", "alpha")
    assert message_id in (await typed(hive, "conversation", "beta", "alpha")).stdout

    unknown = await typed(hive, "send", "betta", "x")
    assert unknown.returncode == 3
    assert "beta" in unknown.stderr
    held = await typed(hive, "send", "gamma", "x", "--hold")
    assert "nobody has heard" in held.stderr, held.stderr

    told = await typed(hive, "broadcast", "--all", "freeze at noon", "--wait", "30")
    assert told.returncode == 0, told.stderr
    assert "to 2 bots" in told.stderr
    assert "messages" in (await typed(hive, "messaging")).stdout


async def test_a_pipe_talks_to_a_bot(hive: EmbeddedHive) -> None:
    echoed = await typed(hive, "chat", "alpha", sent="one\ntwo\n")
    assert (echoed.returncode, echoed.stdout) == (0, "one\ntwo\n"), echoed.stderr

    run = await typed(hive, "chat", "beta", sent="echo from the shell\n")
    assert (run.returncode, run.stdout) == (0, "from the shell\n"), run.stderr

    refused = await typed(hive, "chat", "beta", sent="rm -rf nothing\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "rm" in refused.stderr


async def test_a_person_goes_on_talking_while_everything_is_restarted(hive: EmbeddedHive) -> None:
    await typed(hive, "chat", "alpha", sent="from before\n")
    terminal = Terminal(("chat", "alpha"), environment(hive))

    async def shown(text: str) -> None:
        await asyncio.to_thread(terminal.until, text)

    await shown("alpha: from before")
    await shown("> ")
    for name in ("gateway", "messenger"):
        assert kill(hive.running().services[name])
        terminal.type(f"without the {name}\n")
        await shown(f"alpha: without the {name}")
    broker_pid = hive.running().broker_pid
    assert broker_pid is not None
    assert kill(broker_pid)
    terminal.type("without the broker\n")
    await shown("alpha: without the broker")
    terminal.type("\x04")

    assert await asyncio.to_thread(terminal.ended) == 0
    async with hive.client() as client:
        page = (await client.get("/v1/conversations/%40first/alpha")).json()
    said = [message["content"] for message in reversed(page["items"])]
    words = ["from before", "without the gateway", "without the messenger", "without the broker"]
    assert said == [word for word in words for _ in range(2)]
