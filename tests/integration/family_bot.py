"""A bot of the SDK, a process of its own: it spawns five tasks and joins them, or does such tasks."""

import asyncio
import sys
from pathlib import Path

from bots.sdk import Bot, Task

PARTS = 5
LOOK_S = 0.02


async def spawn_and_join(task: Task, folder: Path) -> str:
    """Five parts at once; a note when any has ended; the results of all."""
    ids = [await task.spawn(f"part {number}", key=f"part-{number}", bot="hand") for number in range(PARTS)]
    ended = await task.join(ids, all=False, within_s=60)
    with (folder / "any").open("a") as notes:
        notes.write(f"{task.attempt}: {len(ended)}\n")
    every = await task.join(ids, within_s=60)
    assert {child.id for child in await task.children()} == set(ids)
    return " ".join(child.output.text if child.output else child.state for child in every)


async def do_part(task: Task, folder: Path) -> str:
    """The first at once, the others when they may."""
    while task.content != "part 0" and not (folder / "go").exists():
        await asyncio.sleep(LOOK_S)
    return task.content.upper()


async def main(role: str, folder: Path) -> None:
    async def work(task: Task) -> str:
        return await (spawn_and_join if role == "parent" else do_part)(task, folder)

    await Bot.from_env(slots=PARTS).run(work)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
