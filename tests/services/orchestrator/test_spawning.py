"""Tasks that a bot spawns: whose they are, what becomes of them, and what their parent's bot is told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.commands import LoseAttempt
from services.orchestrator.joining import TOLD_BYTES_MAX
from shared.contracts.config import Config
from shared.contracts.orchestrator.commands import CancelTask, SpawnTask
from shared.contracts.orchestrator.facts import BotSpec, RetryPolicy
from shared.contracts.orchestrator.protocol import Assignment, ChildrenAsked
from shared.contracts.orchestrator.queries import GetTimeline, GetTree, GetWhy
from shared.contracts.words import BotId, Priority, TaskId
from shared.kernel.errors import NotFound, Rejected, Unavailable
from shared.kernel.messages import AlreadySo, Committed, Outcome, Refused
from shared.runtime.memory import MemoryStore
from tests.services.orchestrator.builders import ALPHA, done, report, submit, undone
from tests.services.orchestrator.workshop import CAUSE, Workshop, workshop

P = TaskId("parent")


def spawn(parent: Assignment, child: str = "child", bot_id: str = ALPHA, **changes: Any) -> SpawnTask:
    fields: dict[str, Any] = {
        "task_id": TaskId(child),
        "bot_id": BotId(bot_id),
        "parent": parent.task_id,
        "token": parent.token,
        "content": "a part of it",
    }
    return SpawnTask(**fields | changes)


def asked(parent: Assignment, *ids: str, **changes: Any) -> ChildrenAsked:
    named = tuple(map(TaskId, ids))
    return ChildrenAsked(task_id=parent.task_id, token=parent.token, ids=named, **changes)


async def begun(shop: Workshop, task_id: str = P, bot_id: str = ALPHA, **changes: Any) -> Assignment:
    """A task that a bot works on."""
    await shop.send(submit(task_id, **changes))
    assignment = await shop.assigned(bot_id, task_id)
    shop.beating[BotId(bot_id)].add(assignment.token)
    return assignment


async def end(shop: Workshop, task_id: str, bot_id: str = ALPHA, how: Any = None) -> Outcome:
    assignment = await shop.assigned(bot_id, task_id)
    shop.beating[BotId(bot_id)].discard(assignment.token)
    return await shop.send(report(how or done(), assignment.token, bot_id, task_id))


async def states(shop: Workshop, *task_ids: str) -> list[str]:
    return [(await shop.task(task_id)).state for task_id in task_ids]


def refusal(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


# Spawning.


async def test_a_spawned_task_is_the_submitters_and_says_where_it_comes_from(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop, submitter="key-7", priority=Priority.P1)
        assert isinstance(await shop.send(spawn(parent)), Committed)
        child = await begun_child(shop, "child")
        await shop.send(spawn(child, "grandchild", priority=Priority.P3))

        doc = await shop.task("child")
        assert (doc.submitter, doc.priority, doc.parent, doc.root) == ("key-7", Priority.P1, P, P)
        grandchild = await shop.task("grandchild")
        assert (grandchild.submitter, grandchild.priority) == ("key-7", Priority.P3)
        assert (grandchild.parent, grandchild.root) == ("child", P)


async def begun_child(shop: Workshop, task_id: str, bot_id: str = ALPHA) -> Assignment:
    assignment = await shop.assigned(bot_id, task_id)
    shop.beating[BotId(bot_id)].add(assignment.token)
    return assignment


async def test_the_same_spawn_again_is_the_same_task_whichever_attempt_asks(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        await shop.send(spawn(parent))
        assert isinstance(await shop.send(spawn(parent)), AlreadySo)
        assert isinstance(await shop.send(spawn(parent, token=parent.token + 99)), AlreadySo)
        assert refusal(await shop.send(spawn(parent, content="other"))) == "idempotency_key_reused"
        await end(shop, "child")
        assert isinstance(await shop.send(spawn(parent)), AlreadySo)


async def test_only_the_bot_that_has_the_parent_now_may_spawn(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        assert refusal(await shop.send(spawn(parent, bot_id="beta"))) == "stale_token"
        assert refusal(await shop.send(spawn(parent, token=1))) == "stale_token"
        newer = spawn(parent, token=parent.token + 1_000)  # perhaps we have only not heard of it yet
        assert refusal(await shop.send(newer)) == "not_seen_yet"
        await end(shop, P)
        assert refusal(await shop.send(spawn(parent))) == "stale_token"


async def test_trees_are_bounded_in_depth_and_breadth(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.config = Config(spawn_depth_max=1, spawn_children_max=2)
        await shop.up("alpha", BotSpec(engine="echo", slots=9))
        parent = await begun(shop)
        await shop.send(spawn(parent, "c1"))
        await shop.send(spawn(parent, "c2"))
        assert refusal(await shop.send(spawn(parent, "c3"))) == "too_many_children"
        assert isinstance(await shop.send(spawn(parent, "c2")), AlreadySo)
        child = await begun_child(shop, "c1")
        assert refusal(await shop.send(spawn(child, "deep"))) == "spawn_too_deep"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", ""),
        ("content", "x" * 10_001),
        ("task_id", TaskId("x y")),
        ("engine", "a b"),
        ("bot", BotId("")),
        ("pool", "x" * 51),
        ("input", "x" * 16_385),
        ("timeout_s", 0.0),
        ("after", (TaskId("a b"),)),
        ("retry", RetryPolicy(attempts_max=0)),
        ("retry", RetryPolicy(backoff_first_s=0.0)),
    ],
)
async def test_what_the_gateway_would_not_let_pass_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        assert refusal(await shop.send(spawn(parent, **{field: value}))) == f"bad_{field}"


async def test_children_go_to_other_bots_where_there_are_any(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha", BotSpec(engine="echo", slots=9))
        parent = await begun(shop)
        await shop.up("beta", BotSpec(engine="echo", slots=1))
        await shop.send(spawn(parent, "c1"))
        await shop.send(spawn(parent, "c2"))
        assert [(await shop.task(each)).bot for each in ("c1", "c2")] == ["beta", "alpha"]


async def test_why_a_child_waits_while_parents_hold_all_slots(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha", BotSpec(engine="echo", slots=1))
        parent = await begun(shop)
        await shop.send(spawn(parent))
        why = await shop.answers.get_why(GetWhy(task_id=TaskId("child")))
        assert why.waits_for == "a_slot"
        assert "1 of the 1 tasks there have spawned others, among them one from which it" in why.explanation


# What becomes of them.


async def family(shop: Workshop) -> Assignment:
    """A parent with a child that has completed, whose own child has not, and a child that waits."""
    await shop.up("alpha", BotSpec(engine="echo", slots=9))
    parent = await begun(shop, retry=RetryPolicy(attempts_max=2, backoff_first_s=0.05, backoff_max_s=0.05))
    await shop.send(spawn(parent, "done"))
    child = await begun_child(shop, "done")
    await shop.send(spawn(child, "below"))
    await begun_child(shop, "below")
    await end(shop, "done")
    await shop.send(spawn(parent, "waiting", bot=BotId("nobody")))
    return parent


FAMILY = (P, "done", "below", "waiting")


async def test_a_cancelled_task_takes_all_that_descends_from_it_along(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await family(shop)
        await shop.send(CancelTask(task_id=P))
        await shop.until(lambda: shop.is_in("below", "cancelled"))
        await shop.until(lambda: shop.is_in("waiting", "cancelled"))
        assert (await shop.task("below")).reason == "its ancestor parent is cancelled"
        assert (await shop.task("waiting")).reason == "its parent parent is cancelled"
        assert await states(shop, *FAMILY) == ["cancelled", "completed", "cancelled", "cancelled"]


async def test_an_attempt_that_is_only_repeated_keeps_its_children(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        parent = await family(shop)
        await shop.tasks.handle(LoseAttempt(task_id=P, token=parent.token, reason="bot_silent"), CAUSE)
        again: list[Assignment] = []

        def tried_again() -> bool:
            again[:] = [each for each in shop.street.assignments[ALPHA] if each.task_id == P]
            return len(again) == 2

        await shop.until(tried_again)
        assert isinstance(await shop.send(spawn(again[-1], "waiting", bot=BotId("nobody"))), AlreadySo)
        told = await shop.answers.joining.tell(ALPHA, asked(again[-1]))
        assert [(child.id, child.state) for child in told.children] == [
            ("done", "completed"),
            ("waiting", "queued"),
        ]


async def test_a_task_that_failed_for_good_takes_its_children_along(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await family(shop)
        await end(shop, P, how=undone(retryable=False))
        await shop.until(lambda: shop.is_in("below", "cancelled"))
        await shop.until(lambda: shop.is_in("waiting", "cancelled"))


async def test_children_of_a_completed_task_go_on_until_their_tree_is_cancelled(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await family(shop)
        await end(shop, P)
        assert await states(shop, *FAMILY) == ["completed", "completed", "assigned", "queued"]
        assert refusal(await shop.send(CancelTask(task_id=P))) == "task_ended"
        assert isinstance(await shop.send(CancelTask(task_id=P, tree=True)), Committed)
        assert isinstance(await shop.send(CancelTask(task_id=P, tree=True)), AlreadySo)
        await shop.until(lambda: shop.is_in("below", "cancelled"))
        await shop.until(lambda: shop.is_in("waiting", "cancelled"))
        assert (await shop.task(P)).state == "completed"
        assert (await shop.task(P)).tree_cancelled
        facts = (await shop.answers.get_timeline(GetTimeline(task_id=P))).entries
        assert facts[-1].fact == "TreeCancelled"


@pytest.mark.parametrize("completed", [True, False])
async def test_a_tree_that_was_being_cancelled_is_cancelled_after_a_restart(
    tmp_path: Path, *, completed: bool
) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await family(shop)
        if completed:
            await end(shop, P)
        shop.owned = frozenset()  # the process is as good as dead: it decides nothing any more
        shop.orchestrator._look_at_ownership(frozenset(), shop.moment())
        await shop.send(CancelTask(task_id=P, tree=True))
        await shop.follower.reached(await store.last_sequence())
        assert await states(shop, "below", "waiting") == ["assigned", "queued"]
    async with workshop(tmp_path, store) as shop:
        assert P not in shop.scene.board.tasks
        await shop.until(lambda: shop.is_in("below", "cancelled"))
        await shop.until(lambda: shop.is_in("waiting", "cancelled"))
        assert P not in shop.scene.board.tasks


async def test_a_tree_is_shown_each_after_its_parent(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await family(shop)
        tree = await shop.answers.get_tree(GetTree(task_id=P))
        assert [(node.depth, node.id, node.parent, node.state) for node in tree.nodes] == [
            (0, P, None, "assigned"),
            (1, "done", P, "completed"),
            (2, "below", "done", "assigned"),
            (1, "waiting", P, "queued"),
        ]
        below = await shop.answers.get_tree(GetTree(task_id=TaskId("done")))
        assert [(node.depth, node.id, node.parent) for node in below.nodes] == [
            (0, "done", P),
            (1, "below", "done"),
        ]
        with pytest.raises(NotFound):
            await shop.answers.get_tree(GetTree(task_id=TaskId("nobody")))


# What the parent's bot is told.


async def test_all_or_any_are_waited_for_and_bring_their_results(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha", BotSpec(engine="echo", slots=9))
        parent = await begun(shop)
        joining = shop.answers.joining
        for child in ("c1", "c2"):
            await shop.send(spawn(parent, child))
            await begun_child(shop, child)
        either = asyncio.ensure_future(
            joining.tell(ALPHA, asked(parent, "c1", "c2", until="any", within_s=9))
        )
        both = asyncio.ensure_future(joining.tell(ALPHA, asked(parent, until="all", within_s=9)))
        await asyncio.sleep(0)

        await end(shop, "c2", how=done("two"))
        told = (await either).children
        assert [(child.id, child.state) for child in told] == [("c1", "assigned"), ("c2", "completed")]
        assert told[1].output is not None
        assert told[1].output.text == "two"
        assert not both.done()

        await end(shop, "c1", how=undone(retryable=False))
        told = (await both).children
        assert [(child.state, child.error.code if child.error else None) for child in told] == [
            ("failed", "exit"),
            ("completed", None),
        ]


async def test_a_wait_is_bounded_and_then_says_how_they_are(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        await shop.send(spawn(parent))
        told = await shop.answers.joining.tell(ALPHA, asked(parent, until="all", within_s=0.05))
        assert [child.state for child in told.children] == ["assigned"]
        assert not shop.answers.joining._waiting


async def test_who_waits_is_told_when_the_attempt_is_over(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        await shop.send(spawn(parent))
        waiting = asyncio.ensure_future(
            shop.answers.joining.tell(ALPHA, asked(parent, until="all", within_s=9))
        )
        await asyncio.sleep(0)
        await shop.send(CancelTask(task_id=P))
        with pytest.raises(Rejected, match="stale_token"):
            await waiting


async def test_a_bot_hears_of_its_own_tasks_children_and_of_no_others(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        parent = await begun(shop)
        other = await begun(shop, "other")
        await shop.send(spawn(parent))
        joining = shop.answers.joining
        with pytest.raises(NotFound, match="child_not_found"):
            await joining.tell(ALPHA, asked(other, "child"))
        with pytest.raises(Rejected, match="stale_token"):
            await joining.tell(BotId("beta"), asked(parent, "child"))
        with pytest.raises(Unavailable):
            await joining.tell(ALPHA, ChildrenAsked(task_id=P, token=parent.token + 1_000))
        with pytest.raises(Rejected, match="bad_question"):
            await joining.tell(ALPHA, asked(parent, until="never"))
        assert (await joining.tell(ALPHA, asked(other))).children == ()


async def test_results_that_do_not_fit_into_one_answer_are_asked_for_alone(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha", BotSpec(engine="echo", slots=64))
        parent = await begun(shop)
        count = TOLD_BYTES_MAX // 16_000 + 2
        for number in range(count):
            await shop.send(spawn(parent, f"c{number}"))
            await end(shop, f"c{number}", how=done("x" * 16_000))
        told = (await shop.answers.joining.tell(ALPHA, asked(parent, until="all", within_s=9))).children
        assert len(told) == count
        left = [child for child in told if child.more]
        assert left
        assert all(child.output is None for child in left)
        alone = (await shop.answers.joining.tell(ALPHA, asked(parent, left[-1].id))).children
        assert alone[0].output is not None


async def test_children_that_ended_before_a_restart_are_known_after_it(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await family(shop)
        await shop.follower.reached(await store.last_sequence())
    async with workshop(tmp_path, store) as shop:
        assert shop.scene.board.families.of(P) == {"done": "completed", "waiting": None}
