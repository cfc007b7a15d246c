"""A person writes to bots of a whole hive, and their engines answer."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.embedded import EmbeddedHive, embedded_hive, eventually, kill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ONCE_SLOWLY = """
import pathlib, sys, time
begun = pathlib.Path("begun")
if not begun.exists():
    begun.touch()
    time.sleep(600)
print("done at last")
"""


async def say(client: httpx.AsyncClient, to: str, content: str, **more: Any) -> dict[str, Any]:
    body = {"to": to, "content": content, "kind": "chat", **more}
    sent = await client.post("/v1/messages", json=body)
    assert sent.status_code == 201, sent.text
    said: dict[str, Any] = sent.json()
    return said


async def answers(client: httpx.AsyncClient, question: dict[str, Any]) -> list[dict[str, Any]]:
    inbox = (await client.get("/v1/inbox")).json()
    return [each for each in inbox["items"] if each.get("in_reply_to") == question["id"]]


async def answer_to(
    client: httpx.AsyncClient, question: dict[str, Any], within_s: float = 20
) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def answered() -> bool:
        found[:] = await answers(client, question)
        return bool(found)

    await eventually(answered, within_s)
    [answer] = found
    return answer


async def state_of(client: httpx.AsyncClient, message: dict[str, Any]) -> str:
    state: str = (await client.get(f"/v1/messages/{message['id']}")).json()["state"]
    return state


async def until_read(client: httpx.AsyncClient, message: dict[str, Any]) -> None:
    async def read() -> bool:
        return await state_of(client, message) == "read"

    await eventually(read, within_s=10)


async def test_engines_answer_and_a_turn_survives_the_death_of_its_bot(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "slow.py").write_text(ONCE_SLOWLY)
    async with embedded_hive(tmp_path, roots=(workspace,)) as hive, hive.client() as client:
        await hive.launch("parrot", engine="echo")
        await hive.launch("sheller", engine="shell", workspace=str(workspace))

        await an_echo_bot_answers(client)
        await a_shell_bot_answers_and_says_what_it_refuses(client)
        await a_note_lies_in_the_inbox(client)
        await a_bot_that_is_killed_answers_once_when_it_is_back(hive, client, workspace)


async def an_echo_bot_answers(client: httpx.AsyncClient) -> None:
    question = await say(client, "parrot", "hello", priority="P1")

    answer = await answer_to(client, question)

    assert (answer["content"], answer["sender"], answer["priority"]) == ("hello", "parrot", "P1")
    assert answer["kind"] == "note"
    await until_read(client, question)


async def a_shell_bot_answers_and_says_what_it_refuses(client: httpx.AsyncClient) -> None:
    listed = await answer_to(client, await say(client, "sheller", "ls"))
    refused = await answer_to(client, await say(client, "sheller", "rm -rf ."))

    assert listed["content"] == "slow.py\n"
    assert refused["error"]["code"] == "program_not_allowed", refused
    assert refused["error"]["detail"] in refused["content"]


async def a_note_lies_in_the_inbox(client: httpx.AsyncClient) -> None:
    note = await say(client, "parrot", "for your information", kind="note")

    async def delivered() -> bool:
        return await state_of(client, note) == "delivered"

    await eventually(delivered, within_s=10)
    assert await answers(client, note) == []


async def a_bot_that_is_killed_answers_once_when_it_is_back(
    hive: EmbeddedHive, client: httpx.AsyncClient, workspace: Path
) -> None:
    question = await say(client, "sheller", "python3 slow.py")

    async def begun() -> bool:
        return (workspace / "begun").exists() and await state_of(client, question) == "delivered"

    await eventually(begun, within_s=20)
    process = (await client.get("/v1/bots/sheller")).json()["pid"]
    assert kill(process)

    answer = await answer_to(client, question, within_s=40)

    assert answer["content"] == "done at last\n"
    await until_read(client, question)
    shown = (await client.get(f"/v1/messages/{question['id']}")).json()
    assert shown["deliveries"] == 2
    assert len(await answers(client, question)) == 1
