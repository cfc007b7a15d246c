"""How a bot behaves towards the hive: what it takes, what it says, and when it stops by itself."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bots.engines import Emit, Engine, Work
from bots.engines.echo import Echo
from bots.identity import Identity
from bots.runtime import BotProcess
from shared.contracts.orchestrator.commands import Done, End, Stopped, Undone
from shared.contracts.orchestrator.facts import BotSpec, FileRef, Output
from shared.contracts.orchestrator.protocol import CancelRun, Drain, HeartbeatAnswer
from shared.contracts.words import (
    BOT_IS_SILENT_AFTER,
    BOT_STOPS_ITSELF_AFTER,
    INLINE_BYTES_MAX,
    BotId,
    SideEffects,
    TaskId,
)
from shared.kernel.messages import Committed, Refused
from shared.runtime.clock import monotonic, now
from shared.runtime.connection import connect
from tests.bots.overseer import Overseer, live_chunks, oversee
from tests.support.nats_server import LocalBroker

SLOW = '{"delay_s": 600}'


class Watched:
    """The echo engine, and what it went through."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.begun: list[int] = []
        self.most_at_once = 0
        self.stopped_at: dict[int, float] = {}

    async def run(self, work: Work, out: Emit) -> End:
        token = work.task.token
        self.begun.append(token)
        self.running.add(token)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            return await Echo().run(work, out)
        finally:
            self.running.discard(token)
            self.stopped_at[token] = monotonic()


class Stage:
    """A broker, the stand-in, and one bot at work."""

    def __init__(self, broker: LocalBroker, overseer: Overseer, bot: BotProcess, engine: Watched) -> None:
        self.broker = broker
        self.overseer = overseer
        self.bot = bot
        self.engine = engine
        self.life: asyncio.Future[bool]


@asynccontextmanager
async def at_work(broker: LocalBroker, engine: Engine, slots: int = 2) -> AsyncIterator[BotProcess]:
    settings = broker.settings("bot-alpha")
    identity = Identity(
        bot_id=BotId("alpha"),
        generation=1,
        spec=BotSpec(engine="echo", slots=slots),
        workspace=Path.cwd(),
        environment={},
        settings=settings,
        stop_grace_s=0.3,
    )
    connection = await connect(settings)
    bot = BotProcess(identity, engine, connection)
    try:
        yield bot
    finally:
        await connection.close(drain=False)


@pytest.fixture
async def stage(broker: LocalBroker) -> AsyncIterator[Stage]:
    engine = Watched()
    async with oversee(broker, "alpha") as overseer, at_work(broker, engine) as bot:
        stage = Stage(broker, overseer, bot, engine)
        stage.life = asyncio.ensure_future(bot.live())
        yield stage
        bot.leave()
        async with asyncio.timeout(10):
            await stage.life


async def test_the_first_heartbeat_says_who_and_with_how_much_memory(stage: Stage) -> None:
    await stage.overseer.until(lambda: len(stage.overseer.heartbeats) >= 2)

    first, second = stage.overseer.heartbeats[:2]
    assert (first.bot_id, first.generation, first.host) == ("alpha", 1, "local")
    assert first.free_slots == 0  # it may not take anything before it was answered
    assert second.free_slots == 2
    assert second.rss_bytes > 1_000_000
    assert first.uptime_s < second.uptime_s < first.uptime_s + 1.5


async def test_a_task_is_done_and_reported(stage: Stage) -> None:
    await stage.overseer.assign(7, "hello")

    report = await stage.overseer.reported(7)

    assert report.task_id == "task-7"
    assert report.bot_id == "alpha"
    assert isinstance(report.end, Done)
    assert report.end.output == Output(text="hello", size_bytes=5)
    assert report.started_at <= report.ended_at


async def test_what_was_taken_is_named_at_once_and_not_only_after_a_second(stage: Stage) -> None:
    await stage.overseer.until(lambda: len(stage.overseer.heartbeats) == 2)

    await stage.overseer.assign(7, given=SLOW)

    await stage.overseer.until(lambda: stage.overseer.holding() == {7}, within_s=0.5)


async def test_an_assignment_that_comes_again_is_not_done_again(stage: Stage) -> None:
    for _ in range(3):
        await stage.overseer.assign(7)
    await stage.overseer.reported(7)
    await stage.overseer.assign(7)
    await stage.overseer.assign(8)

    await stage.overseer.reported(8)

    assert stage.engine.begun == [7, 8]
    assert [report.token for report in stage.overseer.reports] == [7, 8]


async def test_no_more_is_taken_than_there_are_slots(stage: Stage) -> None:
    for token in range(1, 11):
        await stage.overseer.assign(token, given='{"delay_s": 0.05}')

    for token in range(1, 11):
        await stage.overseer.reported(token)

    assert stage.engine.most_at_once == 2


async def test_it_is_stopped_at_once_when_told_and_reports_nothing(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW)
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    await stage.overseer.tell(CancelRun(task_id=TaskId("task-7"), token=7, reason="asked"))

    await stage.overseer.until(lambda: stage.overseer.holding() == set())
    assert not stage.engine.running
    assert stage.overseer.report(7) is None


async def test_what_the_answer_does_not_name_is_stopped_and_the_rest_goes_on(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW)
    await stage.overseer.assign(8, given=SLOW)
    await stage.overseer.until(lambda: stage.overseer.holding() == {7, 8})

    stage.overseer.held = {8}

    await stage.overseer.until(lambda: stage.overseer.holding() == {8})
    assert stage.engine.running == {8}
    assert stage.overseer.report(7) is None


async def test_a_bot_that_is_cut_off_stops_itself_before_its_owner_may_call_it_silent(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW)
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})
    before = monotonic()

    stage.overseer.answering = False
    report = await stage.overseer.reported(7)

    stopped_after = stage.engine.stopped_at[7] - before
    assert BOT_STOPS_ITSELF_AFTER.total_seconds() - 1.1 < stopped_after < BOT_IS_SILENT_AFTER.total_seconds()
    assert isinstance(report.end, Stopped)
    assert (report.end.reason, report.end.begun) == ("cut_off", True)


async def test_a_bot_that_was_cut_off_works_again_when_it_is_answered_again(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW)
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})
    stage.overseer.answering = False
    await stage.overseer.reported(7)
    await stage.overseer.until(lambda: stage.overseer.heartbeats[-1].free_slots == 0)

    stage.overseer.answering = True
    await stage.overseer.until(lambda: stage.overseer.heartbeats[-1].free_slots == 2)
    await stage.overseer.assign(8)

    assert isinstance((await stage.overseer.reported(8)).end, Done)


async def test_a_report_survives_a_restart_of_the_broker(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 1.0, "output": "kept"}')
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    stage.broker.kill()
    async with asyncio.timeout(10):
        while stage.engine.running:
            await asyncio.sleep(0.01)
    stage.broker.restart()

    report = await stage.overseer.reported(7, within_s=20)
    assert isinstance(report.end, Done)
    assert report.end.output.text == "kept"


async def test_work_that_must_not_be_done_twice_is_claimed_first(stage: Stage) -> None:
    stage.overseer.decide = lambda envelope: Committed(command_id=envelope.id, sequence=9)

    await stage.overseer.assign(7, side_effects=SideEffects.ASK)
    await stage.overseer.reported(7)

    assert [claim.token for claim in stage.overseer.claims] == [7]


async def test_work_whose_claim_is_refused_is_never_begun(stage: Stage) -> None:
    stage.overseer.decide = lambda envelope: Refused(command_id=envelope.id, code="stale_token", detail="no")
    await stage.overseer.assign(7, side_effects=SideEffects.ASK)
    await stage.overseer.until(lambda: bool(stage.overseer.claims))
    await stage.overseer.assign(8)

    await stage.overseer.reported(8)

    await stage.overseer.until(lambda: stage.overseer.holding() == set())
    assert stage.engine.begun == [8]
    assert stage.overseer.report(7) is None


async def test_a_claim_whose_outcome_was_lost_is_asked_again(stage: Stage) -> None:
    def second_time(envelope):
        return Committed(command_id=envelope.id, sequence=9) if len(stage.overseer.claims) > 1 else None

    stage.overseer.decide = second_time

    await stage.overseer.assign(7, side_effects=SideEffects.ASK)
    await stage.overseer.reported(7)

    assert len(stage.overseer.claims) == 2


async def test_a_time_limit_ends_the_attempt_with_what_was_said(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 10, "chunks": ["said", "never"]}', timeout_s=0.5)
    await stage.overseer.assign(8, given='{"delay_s": 1, "chunks": ["said", "never"]}', timeout_s=0.7)

    for token, text in ((7, ""), (8, "said")):
        end = (await stage.overseer.reported(token)).end
        assert isinstance(end, Undone)
        assert end.error.code == "timed_out"
        assert end.output.text == text


async def test_a_deadline_ends_the_attempt_too(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW, deadline=now() + timedelta(seconds=0.3))

    end = (await stage.overseer.reported(7)).end

    assert isinstance(end, Undone)
    assert end.error.code == "timed_out"


async def test_a_failing_engine_ends_the_attempt_and_not_the_bot(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fall(_self: Echo, _work: Work, _out: Emit) -> End:
        raise ZeroDivisionError("an engine's own trouble")

    with monkeypatch.context() as patch:
        patch.setattr(Echo, "run", fall)
        await stage.overseer.assign(7)
        end = (await stage.overseer.reported(7)).end
    await stage.overseer.assign(8)

    assert isinstance(end, Undone)
    assert end.error.code == "engine_failed"
    assert "ZeroDivisionError" in end.error.detail
    assert isinstance((await stage.overseer.reported(8)).end, Done)


async def test_output_is_published_while_it_appears(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 0.2, "chunks": ["one ", "two ", "three"]}')
    await stage.overseer.reported(7)

    chunks = await live_chunks(stage.broker, "task-7")

    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert list(range(len(chunks))) == [chunk.index for chunk in chunks]
    assert len(chunks) > 1
    assert {7} == {chunk.token for chunk in chunks}


async def test_progress_stands_in_the_heartbeat(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 3, "chunks": ["a", "b"]}')

    await stage.overseer.until(
        lambda: any(held.progress == 0.5 for beat in stage.overseer.heartbeats for held in beat.held)
    )


async def test_a_long_output_lies_in_a_file_and_its_beginning_in_the_report(stage: Stage) -> None:
    text = "ü" * INLINE_BYTES_MAX
    await stage.overseer.assign(7, text)

    end = (await stage.overseer.reported(7)).end

    assert isinstance(end, Done)
    assert end.output.file is not None
    assert stage.overseer.files[end.output.file.sha256].decode() == text
    assert end.output.file.size_bytes == end.output.size_bytes == 2 * INLINE_BYTES_MAX
    assert len(end.output.text.encode()) == INLINE_BYTES_MAX
    assert not end.output.truncated


async def test_an_output_whose_file_is_refused_is_cut_and_says_so(stage: Stage) -> None:
    stage.overseer.file_trouble = "stale_token"
    await stage.overseer.assign(7, "x" * (INLINE_BYTES_MAX + 1))

    end = (await stage.overseer.reported(7)).end

    assert isinstance(end, Done)
    assert end.output.file is None
    assert end.output.truncated
    assert len(end.output.text) == INLINE_BYTES_MAX


async def test_a_long_input_is_fetched(stage: Stage) -> None:
    data = b'{"output": "from the file"}'
    digest = hashlib.sha256(data).hexdigest()
    stage.overseer.files[digest] = data

    await stage.overseer.assign(7, input_file=FileRef(sha256=digest, size_bytes=len(data)))

    end = (await stage.overseer.reported(7)).end
    assert isinstance(end, Done)
    assert end.output.text == "from the file"


async def test_an_assignment_that_cannot_be_read_is_put_away(stage: Stage) -> None:
    await stage.overseer.publisher.publish("run.alpha", b'{"task_id": 5}')
    await stage.overseer.assign(8)

    assert isinstance((await stage.overseer.reported(8)).end, Done)


async def test_draining_finishes_what_is_held_takes_nothing_and_leaves(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 0.5}')
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    await stage.overseer.tell(Drain())
    await stage.overseer.until(lambda: stage.overseer.heartbeats[-1].free_slots == 0)
    await stage.overseer.assign(8)

    async with asyncio.timeout(10):
        assert await stage.life
    assert isinstance((await stage.overseer.reported(7)).end, Done)
    assert stage.engine.begun == [7]


async def test_a_stop_signal_gives_a_grace_then_reports_what_was_stopped(stage: Stage) -> None:
    await stage.overseer.assign(7, given='{"delay_s": 0.1}')
    await stage.overseer.assign(8, given=SLOW)
    await stage.overseer.until(lambda: stage.engine.running == {8} and 8 in stage.overseer.holding())

    stage.bot.on_stop_signal()

    async with asyncio.timeout(10):
        assert await stage.life
    end = (await stage.overseer.reported(8)).end
    assert isinstance(end, Stopped)
    assert (end.reason, end.begun) == ("shut_down", True)


async def test_told_to_leave_by_an_answer_it_leaves(stage: Stage) -> None:
    await stage.overseer.assign(7, given=SLOW)
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    stage.overseer.answer = HeartbeatAnswer(stop=True)

    async with asyncio.timeout(10):
        assert await stage.life
    assert not stage.engine.running
