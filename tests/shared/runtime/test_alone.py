"""A suspect command is worked on by itself, and others wait for it no longer than that."""

import asyncio

from shared.runtime.alone import Alone


async def test_who_gives_up_waiting_to_be_alone_keeps_nobody_out() -> None:
    gate = Alone()
    async with gate.with_others():
        suspect = asyncio.ensure_future(_by_itself(gate))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        suspect.cancel()
        await asyncio.wait([suspect])

    async with asyncio.timeout(5), gate.with_others():
        pass


async def test_who_is_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    gate, order = Alone(), list[str]()

    async def other(name: str, leave: asyncio.Event) -> None:
        async with gate.with_others():
            order.append(f"{name} in")
            await leave.wait()
            order.append(f"{name} out")

    async def suspect() -> None:
        async with gate.by_itself():
            order.append("alone")

    leave = asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(other("first", leave))
        await asyncio.sleep(0)
        group.create_task(suspect())
        await asyncio.sleep(0)
        group.create_task(other("second", leave))
        await asyncio.sleep(0)
        leave.set()

    assert order == ["first in", "first out", "alone", "second in", "second out"]


async def _by_itself(gate: Alone) -> None:
    async with gate.by_itself():
        raise AssertionError("someone is inside")
