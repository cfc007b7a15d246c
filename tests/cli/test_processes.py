"""How the supervisor keeps services running. The services are fakes, the processes are real."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli import plan as plans
from cli import ports
from cli.data_dir import DataDir
from cli.plan import Plan, Service
from cli.processes import Child, Processes
from shared.runtime.zygote import Zygote

FAKES = "tests.cli.fake_services"
WITHIN_S = 20.0


def service(name: str, does: str = "ready", *, grace_s: float = 5.0, holds_http: bool = False) -> Service:
    return Service(name, f"{FAKES}:{does}", f"svc-{name}", grace_s, holds_http=holds_http)


@pytest.fixture
def http() -> Iterator[socket.socket]:
    with ports.reserve() as held, ports.listen(ports.port_of(held)) as listening:
        yield listening


class Told:
    """What was said, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, text: str) -> None:
        self.lines.append(text)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._said:
            self._said.notify_all()

    async def until(self, *words: str) -> str:
        """The first line that holds all these words."""
        async with asyncio.timeout(WITHIN_S), self._said:
            while not (found := [line for line in self.lines if all(word in line for word in words)]):
                await self._said.wait()
            return found[0]


class End(Exception):
    pass


@asynccontextmanager
async def running(
    tmp_path: Path, http: socket.socket, told: Told, *services: Service
) -> AsyncIterator[Processes]:
    plan = Plan(
        data=tmp_path,
        services=services,
        stop_order=[service.name for service in reversed(services)],
        environment={"PATH": os.environ["PATH"]},
    )
    DataDir(tmp_path).make()
    log = DataDir(tmp_path).log_of("zygote")

    def make_zygote() -> Zygote:
        return Zygote.start([FAKES], name="zygote", log=log)

    processes = Processes(plan, make_zygote(), make_zygote=make_zygote, http=http, say=told.say)
    try:
        async with asyncio.TaskGroup() as tasks:
            await processes.start("nats://127.0.0.1:1", tasks)
            async with asyncio.timeout(WITHIN_S):
                yield processes
            await processes.stop()
            processes.close()
            raise End  # noqa: TRY301
    except* End:
        pass
    finally:
        processes.kill()
        processes.close()


async def new_pid(child: Child, old: int | None) -> int:
    async with asyncio.timeout(WITHIN_S):
        await child.ready.wait()
    assert child.pid is not None
    assert child.pid != old
    return child.pid


async def test_services_are_ready_side_by_side(tmp_path: Path, http: socket.socket) -> None:
    async with running(tmp_path, http, Told(), service("one"), service("two")) as processes:
        await processes.until_ready()

        assert {"one", "two"} == processes.pids.keys()
        assert len({*processes.pids.values(), os.getpid()}) == 3


async def test_a_killed_service_is_started_again_and_that_is_said(
    tmp_path: Path, http: socket.socket
) -> None:
    told = Told()
    async with running(tmp_path, http, told, service("one"), service("two")) as processes:
        await processes.until_ready()
        before = dict(processes.pids)

        os.kill(before["one"], signal.SIGKILL)

        assert "starting it again in 0.2 s" in await told.until("one", "signal 9")
        await told.until("one", "ready again")
        assert before["one"] != processes.pids["one"]
        assert before["two"] == processes.pids["two"]


async def test_who_cannot_begin_is_tried_again_more_and_more_slowly(
    tmp_path: Path, http: socket.socket
) -> None:
    told = Told()
    async with running(tmp_path, http, told, service("one", "ends_at_once")):
        await told.until("exit 7: a setting is missing", "again in 0.2 s")
        await told.until("exit 7", "again in 0.4 s")
        await told.until("exit 7", "again in 0.8 s")


def test_the_wait_between_starts_doubles_up_to_ten_seconds() -> None:
    assert [plans.backoff_s(crashes) for crashes in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert plans.backoff_s(10_000) == 5.0


async def test_services_stop_in_order_each_when_the_one_before_has_ended(
    tmp_path: Path, http: socket.socket
) -> None:
    async with running(tmp_path, http, Told(), service("one"), service("two"), service("three")) as processes:
        await processes.until_ready()

    assert (tmp_path / "left").read_text().split() == ["svc-three", "svc-two", "svc-one"]


async def test_who_does_not_hear_is_killed_after_its_grace(tmp_path: Path, http: socket.socket) -> None:
    told = Told()
    async with running(tmp_path, http, told, service("one", "deaf", grace_s=0.2)) as processes:
        await processes.until_ready()

    assert any("did not stop within 0.2 s" in line for line in told.lines)


async def test_a_service_that_ends_while_all_are_stopping_is_not_started_again(
    tmp_path: Path, http: socket.socket
) -> None:
    told = Told()
    async with running(tmp_path, http, told, service("one")) as processes:
        await processes.until_ready()

    assert not any("starting it again" in line for line in told.lines)
    assert processes.pids == {}


async def test_a_service_that_is_not_ready_says_why(
    tmp_path: Path, http: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.processes.SLOW_START_S", 0.2)
    told = Told()
    async with running(tmp_path, http, told, service("one", "never_ready", grace_s=0.2)) as processes:
        waiting = asyncio.ensure_future(processes.until_ready())

        assert "views are catching up" in await told.until("one is not ready yet")
        waiting.cancel()


async def test_a_restarted_gateway_answers_on_the_same_socket(tmp_path: Path, http: socket.socket) -> None:
    async with running(
        tmp_path, http, Told(), service("gateway", "answers_http", holds_http=True)
    ) as processes:
        await processes.until_ready()
        child = processes.children["gateway"]
        before = child.pid
        assert before == await answered_by(http)

        os.kill(before, signal.SIGKILL)
        await child.ended.wait()
        waiting = asyncio.ensure_future(answered_by(http))
        after = await new_pid(child, before)

        assert after == await waiting


async def answered_by(http: socket.socket) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports.port_of(http))
    answer = await reader.read()
    writer.close()
    return int(answer)


async def test_when_the_zygote_dies_everything_is_started_from_a_new_one(
    tmp_path: Path, http: socket.socket
) -> None:
    told = Told()
    async with running(tmp_path, http, told, service("one"), service("two")) as processes:
        await processes.until_ready()
        before, zygote = dict(processes.pids), processes.zygote_pid

        os.kill(zygote, signal.SIGKILL)

        await told.until("the zygote ended")
        await told.until("one", "ready again")
        await told.until("two", "ready again")
        assert zygote != processes.zygote_pid
        assert not set(before.values()) & set(processes.pids.values())


def test_services_get_no_more_of_the_environment_than_they_need(tmp_path: Path) -> None:
    plan = Plan(
        data=tmp_path,
        env_allow=("TOKEN", "ABSENT"),
        roots=(Path("/a"), Path("/b")),
        environment={"PATH": "/bin", "LC_ALL": "C", "SECRET": "s", "TOKEN": "t", "HIVE_KEY": "k"},
    )
    gateway, host = (next(one for one in plans.SERVICES if one.name == name) for name in ("gateway", "bots"))

    of_gateway = plan.env_of(gateway, nats_url="nats://n", probe_port=1)
    of_host = plan.env_of(host, nats_url="nats://n", probe_port=1)

    assert not {"SECRET", "TOKEN", "HIVE_KEY", "HIVE_ROOTS"} & of_gateway.keys()
    assert (of_gateway["PATH"], of_gateway["LC_ALL"], of_gateway["HIVE_SENDER"]) == ("/bin", "C", "gateway")
    assert str(tmp_path / "admin.key") == of_gateway["HIVE_ADMIN_KEY_FILE"]
    assert (
        of_host["TOKEN"],
        of_host["HIVE_ROOTS"],
        of_host["HIVE_ENV_ALLOW"],
    ) == ("t", "/a:/b", "TOKEN,ABSENT")
    assert not {"SECRET", "HIVE_KEY", "ABSENT"} & of_host.keys()
