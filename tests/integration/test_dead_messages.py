"""A message that failed, in the hands of a person at the command line."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest

from shared.contracts.words import BotId
from shared.kernel.messages import Committed
from tests.services.messenger.post import Bot
from tests.support.embedded import ROOT, EmbeddedHive, embedded_hive, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAME = "clumsy"


def hive_dlq(hive: EmbeddedHive, *arguments: str) -> str:
    """`hive dlq …`: what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "dlq", *arguments, f"--data={hive.data.path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def at_the_command_line(hive: EmbeddedHive, *arguments: str) -> str:
    return await asyncio.to_thread(hive_dlq, hive, *arguments)


async def letters(hive: EmbeddedHive) -> list[dict[str, Any]]:
    listed = msgspec.json.decode(await at_the_command_line(hive, "list", "--json"))
    found: list[dict[str, Any]] = listed["items"]
    return found


async def state_of(client: httpx.AsyncClient, message_id: str) -> str:
    shown = await client.get(f"/v1/messages/{message_id}")
    return str(shown.json()["state"])


async def test_a_failed_message_is_shown_put_back_and_given_up(tmp_path: Path) -> None:
    async with embedded_hive(tmp_path) as hive, hive.client() as client:
        await client.post("/v1/bots", json={"name": NAME, "engine": "external", "slots": 1})
        creds = hive.data.path / "bots" / NAME / "bot.creds"

        async def minted() -> bool:
            return creds.exists()

        await eventually(minted, within_s=20)
        nc = await nats.connect(
            hive.running().nats_url, user_credentials=str(creds), inbox_prefix=f"_INBOX.bot-{NAME}".encode()
        )
        bot = Bot(nc, BotId(NAME))
        await bot.open()
        await bot.hello()
        sent = (await client.post("/v1/messages", json={"to": NAME, "content": "break a leg"})).json()
        (mail,) = await bot.got(1)
        assert isinstance(await bot.give_back(mail, retryable=False), Committed)
        assert await state_of(client, sent["id"]) == "failed"

        (letter,) = await letters(hive)
        shown = await at_the_command_line(hive, "show", letter["id"])
        assert "break a leg" in shown
        assert "engine_failed: exit 1" in shown

        await at_the_command_line(hive, "replay", letter["id"])
        _, again = await bot.got(2)
        assert (again.message_id, again.content, again.delivery) == (mail.message_id, mail.content, 2)
        assert await state_of(client, sent["id"]) == "pending"
        assert await letters(hive) == []

        assert isinstance(await bot.give_back(again, retryable=False), Committed)
        (letter,) = await letters(hive)
        await at_the_command_line(hive, "drop", letter["id"])
        assert await letters(hive) == []
        assert await state_of(client, sent["id"]) == "failed"
        await nc.close()
