"""How bots are launched, watched and ended on one machine."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from bots import jail
from bots.__main__ import WARM
from bots.host import Host
from bots.launch import Ground
from bots.sandbox import SandboxReport
from bots.users import Users
from shared.contracts.orchestrator.commands import Done, Stopped
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import HostAnswer, RetireOrder, StartOrder, StopOrder
from shared.contracts.words import BotId
from shared.runtime.clock import monotonic
from shared.runtime.connection import connect
from shared.runtime.zygote import Zygote
from tests.bots.overseer import Overseer, oversee
from tests.support.nats_server import LocalBroker

ALPHA = BotId("alpha")
BETA = BotId("beta")
FIVE = tuple(BotId(f"bot-{n}") for n in range(5))
ECHO = BotSpec(engine="echo")
SHELL = BotSpec(engine="shell", allow=("sh", "env"))


class Stage:
    """A host with a zygote of its own, under the stand-in's orders."""

    def __init__(self, overseer: Overseer, host: Host, ground: Ground, users: Users, zygote: Zygote) -> None:
        self.overseer = overseer
        self.host = host
        self.data = ground.settings.data
        self.users = users
        self.zygote = zygote
        self.stop = asyncio.Event()
        self.revoked: list[str] = []
        self.serving: asyncio.Future[bool]

    async def start(self, bot_id: BotId = ALPHA, spec: BotSpec = ECHO, generation: int = 1) -> HostAnswer:
        return await self.overseer.order(StartOrder(bot_id=bot_id, generation=generation, spec=spec))

    def log(self, bot_id: str = "alpha") -> str:
        return (self.data / "logs" / "bots" / f"{bot_id}.log").read_text()


@pytest.fixture
async def stage(broker: LocalBroker, tmp_path: Path) -> AsyncIterator[Stage]:
    root = tmp_path / "root"
    root.mkdir()
    settings = broker.settings(
        "svc-bots", roots=(root,), env_allow=("ALLOWED", "NOT_SET"), shell_allow=("cat", "pwd", "git")
    )
    mechanism = jail.NAMESPACE
    ground = Ground(
        settings,
        {"PATH": os.environ["PATH"], "ALLOWED": "handed on", "HIDDEN": "not handed on"},
        SandboxReport(mechanism, ()),
        (settings.data.resolve(),),
    )
    users = Users(settings.data / "bots", broker.signer)
    zygote = Zygote.start(WARM, name="bot zygote")
    connection = await connect(settings)
    async with oversee(broker, "alpha", "beta", *FIVE) as overseer:
        revoked: list[str] = []

        async def revoke(key: str) -> None:
            revoked.append(key)

        host = Host(ground, connection, zygote, users, revoke)
        stage = Stage(overseer, host, ground, users, zygote)
        stage.revoked = revoked
        stage.serving = asyncio.ensure_future(host.serve(stage.stop, grace_s=2.5))
        await overseer.until(lambda: bool(overseer.host_reports))
        yield stage
        stage.stop.set()
        async with asyncio.timeout(20):
            await stage.serving
    await connection.close()
    zygote.close()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def until(true: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_launched_bot_answers_as_a_process_of_its_own(stage: Stage) -> None:
    assert (await stage.start()).ok

    beat = await stage.overseer.up("alpha")

    assert beat.pid not in {os.getpid(), stage.zygote.pid}
    assert os.getpgid(beat.pid) == beat.pid


async def test_five_idle_bots_are_small(stage: Stage) -> None:
    for name in FIVE:
        await stage.start(name)
    pids = [(await stage.overseer.up(name)).pid for name in FIVE]

    memory = [psutil.Process(pid).memory_full_info() for pid in pids]

    rss, pss = max(each.rss for each in memory), max(each.pss for each in memory)
    print(f"\nidle bot, one of five: {pss / 1e6:.1f} MB PSS, {rss / 1e6:.1f} MB RSS")
    assert rss < 30_000_000
    assert pss < 12_000_000


async def test_five_commands_to_five_bots_are_each_answered_by_its_own(stage: Stage) -> None:
    commands = ["pwd", "git --version", "cat /proc/self/environ", "pwd", "sh -c 'echo $PPID'"]
    for name in FIVE:
        await stage.start(name, SHELL)
    for name in FIVE:
        await stage.overseer.up(name)

    for n, (name, command) in enumerate(zip(FIVE, commands, strict=True)):
        await stage.overseer.assign(100 + n, command, bot=name)
    reports = [await stage.overseer.reported(100 + n) for n in range(5)]

    assert [report.bot_id for report in reports] == list(FIVE)
    assert all(isinstance(report.end, Done) for report in reports), reports
    own = [str(stage.data / "workspaces" / name) for name in FIVE]
    texts = [report.end.output.text for report in reports if isinstance(report.end, Done)]
    assert (texts[0].strip(), texts[3].strip()) == (own[0], own[3])
    assert texts[1].startswith("git version")
    assert f"HOME={own[2]}\0" in texts[2]


async def test_an_order_that_comes_again_changes_nothing(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid

    assert (await stage.start()).ok

    assert [pid] == [running.pid for running in stage.host.report().running]


async def test_the_report_says_what_runs_and_which_engines_there_are(stage: Stage) -> None:
    await stage.start()
    await stage.start(BETA)

    await stage.overseer.until(lambda: len(stage.overseer.host_reports[-1].running) == 2)

    report = stage.overseer.host_reports[-1]
    assert report.host_id == "local"
    assert {running.bot_id for running in report.running} == {"alpha", "beta"}
    assert all(running.rss_bytes > 1_000_000 for running in report.running)
    assert report.engines == ("command", "echo", "shell", "external")


async def test_a_bot_that_dies_is_reported_at_once_and_the_other_never_notices(stage: Stage) -> None:
    await stage.start()
    await stage.start(BETA)
    pid = (await stage.overseer.up("alpha")).pid
    other = (await stage.overseer.up("beta")).pid
    began = monotonic()

    os.kill(pid, signal.SIGKILL)
    report = await stage.overseer.exited("alpha")

    assert monotonic() - began < 0.2 * 5
    assert (report.generation, report.reason) == (1, "signal 9")
    assert alive(other)
    assert [other] == [running.pid for running in stage.host.report().running]


async def test_a_stopped_bot_finishes_what_it_does_within_its_grace(stage: Stage) -> None:
    await stage.start()
    await stage.overseer.up("alpha")
    await stage.overseer.assign(7, given='{"delay_s": 0.5, "output": "finished"}')
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    await stage.overseer.order(StopOrder(bot_id=ALPHA, generation=1, grace_s=20))

    assert isinstance((await stage.overseer.reported(7)).end, Done)
    assert (await stage.overseer.exited("alpha")).reason == "exit 0"


async def test_what_cannot_finish_in_time_is_stopped_and_reported(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid
    await stage.overseer.assign(7, given='{"delay_s": 600}')
    await stage.overseer.until(lambda: stage.overseer.holding() == {7})

    await stage.overseer.order(StopOrder(bot_id=ALPHA, generation=1, grace_s=2.2))

    end = (await stage.overseer.reported(7)).end
    assert isinstance(end, Stopped)
    assert end.reason == "shut_down"
    assert (await stage.overseer.exited("alpha")).reason == "exit 0"
    assert not alive(pid)


async def test_a_bot_that_hangs_is_killed_when_its_grace_is_over(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid
    os.kill(pid, signal.SIGSTOP)

    await stage.overseer.order(StopOrder(bot_id=ALPHA, generation=1, grace_s=0.3))

    assert (await stage.overseer.exited("alpha")).reason == "signal 9"


async def test_stopping_an_older_generation_leaves_the_newer_one_alone(stage: Stage) -> None:
    await stage.start(generation=2)
    pid = (await stage.overseer.up("alpha", 2)).pid

    assert (await stage.overseer.order(StopOrder(bot_id=ALPHA, generation=1))).ok

    assert alive(pid)
    assert not (await stage.overseer.order(RetireOrder(bot_id=ALPHA, generation=1))).code
    assert alive(pid)


async def test_a_newer_generation_replaces_the_older_one(stage: Stage) -> None:
    await stage.start()
    old = (await stage.overseer.up("alpha")).pid

    await stage.start(generation=2)
    await stage.overseer.exited("alpha")
    await stage.start(generation=2)

    new = (await stage.overseer.up("alpha", 2)).pid
    assert not alive(old)
    assert alive(new)


async def test_retiring_ends_the_process_revokes_its_user_and_forgets_its_credentials(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid
    folder = stage.data / "bots" / "alpha"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "bot.creds").stat().st_mode) == 0o600
    keys = list(stage.users.keys(ALPHA))

    answer = await stage.overseer.order(RetireOrder(bot_id=ALPHA, generation=1))

    assert answer.ok
    assert not alive(pid)
    assert stage.revoked == keys
    assert len(keys) == 1
    assert not folder.exists()
    assert (stage.data / "workspaces" / "alpha").is_dir()


async def test_a_restarted_bot_keeps_its_user_and_its_workspace(stage: Stage) -> None:
    await stage.start()
    await stage.overseer.up("alpha")
    creds = (stage.data / "bots" / "alpha" / "bot.creds").read_text()
    (stage.data / "workspaces" / "alpha" / "kept").touch()
    await stage.overseer.order(StopOrder(bot_id=ALPHA, generation=1, grace_s=1))
    await stage.overseer.exited("alpha")

    await stage.start(generation=2)
    await stage.overseer.up("alpha", 2)

    assert creds == (stage.data / "bots" / "alpha" / "bot.creds").read_text()
    assert (stage.data / "workspaces" / "alpha" / "kept").exists()


async def test_a_shell_bot_works_in_its_workspace_with_what_it_may_know(stage: Stage, tmp_path: Path) -> None:
    workspace = tmp_path / "root" / "project"
    workspace.mkdir()
    spec = msgspec.structs.replace(SHELL, workspace=str(workspace), env=("ALLOWED",))
    await stage.start(spec=spec)
    await stage.overseer.up("alpha")

    await stage.overseer.assign(7, "env")
    end = (await stage.overseer.reported(7)).end

    assert isinstance(end, Done), end
    variables = dict(line.split("=", 1) for line in end.output.text.strip().splitlines())
    assert variables["ALLOWED"] == "handed on"
    assert variables["HOME"] == str(workspace)
    assert variables.keys() <= {"ALLOWED", "HOME", "PWD", "PATH", "LANG", "TMPDIR"}


async def test_a_shell_bot_cannot_read_credentials_not_even_its_own(stage: Stage) -> None:
    await stage.start(spec=SHELL)
    await stage.overseer.up("alpha")
    creds = stage.data / "bots" / "alpha" / "bot.creds"
    assert "BEGIN NATS USER JWT" in creds.read_text()

    await stage.overseer.assign(7, f"sh -c 'pwd; cat {creds} ../../bots/alpha/bot.creds; echo done'")
    end = (await stage.overseer.reported(7)).end

    assert isinstance(end, Done)
    assert end.output.text.startswith(f"{stage.data}/workspaces/alpha\n")
    assert "JWT" not in end.output.text


@pytest.mark.parametrize(
    ("spec", "code", "remedy"),
    [
        (BotSpec(engine="telepathy"), "engine_unknown", "command, echo, external, shell"),
        (BotSpec(engine="command"), "argv_missing", "--argv"),
        (BotSpec(engine="echo", env=("SECRET",)), "env_not_allowed", "HIVE_ENV_ALLOW"),
        (BotSpec(engine="echo", env=("NOT_SET",)), "env_missing", "NOT_SET"),
        (BotSpec(engine="echo", workspace="/etc"), "workspace_not_allowed", "HIVE_ROOTS"),
        (BotSpec(engine="echo", workspace="here"), "workspace_not_allowed", "absolute"),
        (BotSpec(engine="echo", workspace="{root}/../data"), "workspace_not_allowed", "HIVE_ROOTS"),
        (BotSpec(engine="echo", workspace="{root}/none"), "workspace_missing", "create it"),
    ],
)
async def test_what_may_not_be_is_refused_with_the_field_and_the_remedy(
    stage: Stage, tmp_path: Path, spec: BotSpec, code: str, remedy: str
) -> None:
    if spec.workspace is not None:
        place = spec.workspace.format(root=tmp_path / "root")
        spec = msgspec.structs.replace(spec, workspace=place)

    answer = await stage.start(spec=spec)

    assert not answer.ok
    assert answer.code == code
    assert remedy in answer.detail
    assert not stage.host.report().running


async def test_a_link_out_of_the_root_does_not_lead_out(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "root" / "link").symlink_to("/etc")

    answer = await stage.start(spec=BotSpec(engine="echo", workspace=str(tmp_path / "root" / "link")))

    assert answer.code == "workspace_not_allowed"


async def test_somebody_elses_bot_gets_credentials_and_no_process(stage: Stage) -> None:
    assert (await stage.start(spec=BotSpec(engine="external"))).ok
    assert (await stage.start(BETA, spec=BotSpec(engine="mine", host="external"))).ok

    assert (stage.data / "bots" / "alpha" / "bot.creds").exists()
    assert (stage.data / "bots" / "beta" / "bot.creds").exists()
    assert not stage.host.report().running


async def test_an_order_that_cannot_be_read_is_refused(stage: Stage) -> None:
    answer = await stage.overseer.connection.request("host.local.order", b'{"order":"dance"}', timeout=5)

    assert b"order_invalid" in answer.data


async def test_a_host_that_leaves_ends_its_bots_and_says_so(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid

    stage.stop.set()

    async with asyncio.timeout(20):
        assert await stage.serving
    assert not alive(pid)
    assert (await stage.overseer.exited("alpha")).reason == "exit 0"


async def test_a_zygote_that_is_killed_takes_the_bots_along_and_ends_the_host(stage: Stage) -> None:
    await stage.start()
    pid = (await stage.overseer.up("alpha")).pid

    os.kill(stage.zygote.pid, signal.SIGKILL)

    async with asyncio.timeout(20):
        assert not await stage.serving
    await until(lambda: not alive(pid))
    assert (await stage.overseer.exited("alpha")).reason == "signal 9"


async def test_a_bots_log_tells_what_it_said(stage: Stage) -> None:
    await stage.start()
    await stage.overseer.up("alpha")
    await stage.overseer.publisher.publish("run.alpha", b"nonsense")

    await until(lambda: "an assignment cannot be read" in stage.log())
