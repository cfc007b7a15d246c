"""Who is let in when a queue fills or ages."""

import pytest

from services.gateway.backpressure import Load, PressedSend, load_of, refusal
from shared.contracts.gateway import RevokeKey
from shared.contracts.orchestrator.commands import CancelTask, SubmitTask
from shared.contracts.words import KeyId, Priority, TaskId
from shared.kernel.messages import Committed
from shared.runtime.commands import Sending
from shared.runtime.problems import QueueBusy

P0, P1, P2, P3 = Priority


@pytest.mark.parametrize(
    ("percent", "let_in"),
    [
        (0, [P0, P1, P2, P3]),
        (49, [P0, P1, P2, P3]),
        (50, [P0, P1, P2]),
        (69, [P0, P1, P2]),
        (70, [P0, P1]),
        (84, [P0, P1]),
        (85, [P0]),
        (94, [P0]),
        (95, []),
    ],
)
def test_a_fuller_queue_takes_only_the_more_urgent(percent: int, let_in: list[Priority]) -> None:
    load = Load(messages=1, bytes=percent * 10, bytes_max=1_000)
    assert [priority for priority in Priority if refusal(load, priority) is None] == let_in


def test_an_ageing_queue_takes_only_the_urgent() -> None:
    fresh, old = Load(messages=1, oldest_s=5.0), Load(messages=1, oldest_s=5.1)
    assert [priority for priority in Priority if refusal(fresh, priority) is None] == [P0, P1, P2, P3]
    assert [priority for priority in Priority if refusal(old, priority) is None] == [P0, P1]


def test_a_queue_without_a_limit_is_never_full() -> None:
    assert refusal(Load(messages=9, bytes=10**12, bytes_max=-1), P3) is None


def test_the_load_is_read_from_the_brokers_answer_by_the_brokers_clock() -> None:
    info = (
        b'{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"CMD_X","max_bytes":1000},'
        b'"state":{"messages":3,"bytes":400,"first_seq":7,"first_ts":"2030-01-01T12:00:00.5Z"},'
        b'"ts":"2030-01-01T12:00:08.75Z"}'
    )
    assert load_of(info) == Load(messages=3, bytes=400, bytes_max=1000, oldest_s=8.25)


def test_an_empty_queue_has_no_age() -> None:
    info = (
        b'{"config":{"max_bytes":-1},"state":{"messages":0,"bytes":0,"first_ts":"0001-01-01T00:00:00Z"},'
        b'"ts":"2030-01-01T12:00:08Z"}'
    )
    assert load_of(info) == Load(messages=0, bytes=0, bytes_max=-1, oldest_s=0.0)


class Sent:
    """A Send that takes everything."""

    def __init__(self) -> None:
        self.taken: list[object] = []

    async def __call__(self, command: object, **_: object) -> Committed:
        self.taken.append(command)
        return Committed(command_id="c", sequence=len(self.taken))

    async def many(self, sendings: list[Sending], **_: object) -> list[Committed]:
        return [await self(sending.command) for sending in sendings]


def submit(priority: Priority) -> SubmitTask:
    return SubmitTask(
        task_id=TaskId(f"t-{priority}"), content="x", body_hash="h", submitter="k", priority=priority
    )


async def test_what_is_not_let_in_is_not_sent() -> None:
    sent = Sent()
    send = PressedSend(sent, {"orchestrator": Load(messages=1, bytes=75, bytes_max=100)})  # type: ignore[arg-type]
    with pytest.raises(QueueBusy, match="75%"):
        await send(submit(P2), actor="a")
    await send(submit(P1), actor="a")
    assert sent.taken == [submit(P1)]


async def test_of_many_each_has_its_own_answer() -> None:
    sent = Sent()
    send = PressedSend(sent, {"orchestrator": Load(messages=1, bytes=75, bytes_max=100)})  # type: ignore[arg-type]
    outcomes = await send.many([Sending(command=submit(each), actor="a") for each in (P2, P0, P3, P1)])
    assert [type(outcome) for outcome in outcomes] == [QueueBusy, Committed, QueueBusy, Committed]
    assert sent.taken == [submit(P0), submit(P1)]


async def test_commands_without_a_priority_are_always_let_in() -> None:
    sent = Sent()
    full = Load(messages=1, bytes=100, bytes_max=100, oldest_s=100)
    send = PressedSend(sent, {"orchestrator": full, "gateway": full})  # type: ignore[arg-type]
    await send(CancelTask(task_id=TaskId("t")), actor="a")
    await send(RevokeKey(key_id=KeyId("k")), actor="a")
    assert len(sent.taken) == 2
