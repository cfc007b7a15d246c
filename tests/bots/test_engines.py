"""What every engine keeps to: it starts, streams, stops when told, and stays within its limits."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bots import jail
from bots.engines import Engine, Work
from bots.engines.command import Command
from bots.engines.echo import Echo
from bots.engines.program import Programs
from bots.engines.shell import Shell
from bots.output import Written
from bots.sandbox import SandboxReport, probe, sandbox_report
from shared.contracts.orchestrator.commands import Done, Undone
from shared.contracts.orchestrator.protocol import Assignment
from shared.contracts.words import OUTPUT_BYTES_MAX, TaskId, TaskType
from shared.kernel.codec import encode
from shared.runtime.clock import monotonic

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
ALLOW = ("git", "ls", "cat", "echo", "pwd", "sh", "python3")
Job = tuple[Engine, Work]


class Stage:
    """A folder with a workspace, a hidden data directory, and engines to run."""

    def __init__(self, folder: Path, mechanism: str = jail.OFF) -> None:
        self.data = folder / "data"
        self.workspace = self.data / "workspaces" / "alpha"
        self.workspace.mkdir(parents=True)
        self.secret = self.data / "secret"
        self.secret.write_text("a secret of the hive")
        self.programs = Programs(ENVIRONMENT, [self.data], SandboxReport(mechanism, ()))
        self.shell = Shell(ALLOW, self.programs)
        self.heard: list[tuple[str, str]] = []
        self.out = Written(lambda text, channel: self.heard.append((channel, text)))

    def work(self, content: str, given: str | None = None, timeout_s: float = 20.0) -> Work:
        task = Assignment(
            task_id=TaskId("t1"),
            token=7,
            attempt=1,
            type=TaskType.OTHER,
            content=content,
            timeout_s=timeout_s,
            chain="c",
        )
        return Work(task, self.workspace, given, monotonic() + timeout_s)

    def scripted(self, kind: str, script: str, echo: dict[str, object]) -> Job:
        """The same behaviour for each engine: a shell script, or an echo script."""
        match kind:
            case "echo":
                return Echo(), self.work("an echo", encode(echo).decode())
            case "shell":
                return self.shell, self.work(f"sh -c '{script}'")
            case _:
                return Command(("sh", "-c", script), self.programs), self.work("a command")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


engines = pytest.mark.parametrize("kind", ["echo", "shell", "command"])


async def until(true: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


@engines
async def test_an_engine_ends_with_the_whole_output(stage: Stage, kind: str) -> None:
    engine, work = stage.scripted(kind, "echo one; echo two", {"chunks": ["one\n", "two\n"]})

    end = await engine.run(work, stage.out)

    assert isinstance(end, Done)
    assert end.output.text == "one\ntwo\n"
    assert end.output.size_bytes == 8
    assert end.output.exit_code == (None if kind == "echo" else 0)


@engines
async def test_output_is_heard_before_the_end(stage: Stage, kind: str) -> None:
    engine, work = stage.scripted(
        kind, "echo first; exec sleep 60", {"chunks": ["first\n", "last"], "delay_s": 0.1}
    )
    running = asyncio.ensure_future(engine.run(work, stage.out))

    await until(lambda: bool(stage.heard))

    assert stage.heard[0] == ("out", "first\n")
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@engines
async def test_cancelling_stops_within_half_a_second_and_leaves_nobody(stage: Stage, kind: str) -> None:
    script = 'sleep 600 & echo $!; trap "" TERM; echo $$; sleep 600'
    engine, work = stage.scripted(kind, script, {"chunks": ["1\n", "never"], "delay_s": 1200})
    running = asyncio.ensure_future(engine.run(work, stage.out))
    if kind != "echo":
        await until(lambda: "".join(text for _, text in stage.heard).count("\n") == 2)
    pids = [int(pid) for pid in "".join(text for _, text in stage.heard).split()]
    began = monotonic()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert monotonic() - began < 0.5 * 5
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


@engines
async def test_a_time_limit_stops_it_and_keeps_what_it_said(stage: Stage, kind: str) -> None:
    engine, work = stage.scripted(
        kind, "echo said; exec sleep 600", {"chunks": ["said\n", "never"], "delay_s": 1}
    )

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.75):
            await engine.run(work, stage.out)

    assert stage.out.output().text == "said\n"


@engines
async def test_more_than_the_limit_is_cut_and_said(stage: Stage, kind: str) -> None:
    pieces = ["x" * 100_000] * 11
    engine, work = stage.scripted(kind, "yes x | head -c 1100000", {"chunks": pieces})

    end = await engine.run(work, stage.out)

    assert isinstance(end, Done)
    assert end.output.truncated
    assert end.output.size_bytes == len(end.output.text.encode()) == OUTPUT_BYTES_MAX


@engines
async def test_failure_carries_its_code_and_the_output(stage: Stage, kind: str) -> None:
    echo = {"chunks": ["partly"], "fail": {"code": "exit_nonzero", "detail": "exited with 3: partly"}}
    engine, work = stage.scripted(kind, "printf partly; exit 3", echo)

    end = await engine.run(work, stage.out)

    assert isinstance(end, Undone)
    assert end.retryable
    assert end.error.code == "exit_nonzero"
    assert "exited with 3: partly" in end.error.detail
    assert end.output.text == "partly"
    assert end.output.exit_code == (None if kind == "echo" else 3)


async def test_echo_answers_the_content(stage: Stage) -> None:
    end = await Echo().run(stage.work("grüß dich", "just words"), stage.out)

    assert isinstance(end, Done)
    assert end.output.text == "grüß dich"
    assert end.output.size_bytes == 11


async def test_echo_reports_the_scripted_usage_and_output(stage: Stage) -> None:
    script = '{"tokens_in": 3, "tokens_out": 4, "cost_usd": 0.5, "output": "so"}'
    end = await Echo().run(stage.work("x", script), stage.out)

    assert isinstance(end, Done)
    assert end.output.text == "so"
    assert (end.usage.tokens_in, end.usage.tokens_out, end.usage.cost_usd) == (3, 4, 0.5)


async def test_an_invalid_script_is_refused_with_the_field(stage: Stage) -> None:
    end = await Echo().run(stage.work("x", '{"delay_s": "soon"}'), stage.out)

    assert isinstance(end, Undone)
    assert not end.retryable
    assert "$.delay_s" in end.error.detail


async def test_shell_interprets_nothing(stage: Stage) -> None:
    end = await stage.shell.run(stage.work("echo '$HOME' `id` $(id) a && b | c > d; e"), stage.out)

    assert isinstance(end, Done)
    assert end.output.text == "$HOME `id` $(id) a && b | c > d; e\n"
    assert not list(stage.workspace.iterdir())


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("rm -rf .", "program_not_allowed"),
        ("./git status", "program_not_allowed"),
        ("/usr/bin/env git status", "program_not_allowed"),
        ("echo 'unclosed", "content_not_splittable"),
        ("echo a\0b", "content_not_splittable"),
        ("   ", "no_program"),
    ],
)
async def test_shell_refuses_for_good_and_says_why(stage: Stage, content: str, code: str) -> None:
    end = await stage.shell.run(stage.work(content), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == code
    assert not end.retryable


async def test_a_refused_program_names_both_settings(stage: Stage) -> None:
    end = await stage.shell.run(stage.work("curl example.org"), stage.out)

    assert isinstance(end, Undone)
    assert "--allow curl" in end.error.detail
    assert "HIVE_SHELL_ALLOW" in end.error.detail


async def test_a_program_that_is_not_installed_is_said(stage: Stage) -> None:
    shell = Shell(["no-such-program"], stage.programs)

    end = await shell.run(stage.work("no-such-program"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "program_not_started"
    assert not end.retryable


async def test_a_program_gets_only_the_environment_it_may_have(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVE_CREDS", "/secret")

    end = await stage.shell.run(stage.work("cat /proc/self/environ"), stage.out)

    assert isinstance(end, Done)
    variables = dict(pair.split("=", 1) for pair in end.output.text.strip("\0").split("\0"))
    assert variables.keys() == {"PATH", "LANG", "HOME", "PWD"}
    assert variables["HOME"] == str(stage.workspace)


async def test_the_tasks_input_is_the_programs_standard_input(stage: Stage) -> None:
    end = await stage.shell.run(stage.work("cat", "from the input"), stage.out)

    assert isinstance(end, Done)
    assert end.output.text == "from the input"


async def test_a_program_need_not_read_its_input(stage: Stage) -> None:
    end = await stage.shell.run(stage.work("pwd", "x" * 1_000_000), stage.out)

    assert isinstance(end, Done)


async def test_standard_error_is_heard_on_its_own_channel(stage: Stage) -> None:
    await stage.shell.run(stage.work("sh -c 'echo oh >&2'"), stage.out)

    assert stage.heard == [("err", "oh\n")]


async def test_a_program_left_in_the_background_does_not_hold_up_the_end(stage: Stage) -> None:
    end = await asyncio.wait_for(stage.shell.run(stage.work("sh -c 'sleep 600 & echo $!'"), stage.out), 5)

    assert isinstance(end, Done)
    await until(lambda: not psutil.pid_exists(int(end.output.text)))


async def test_a_killed_program_says_by_which_signal(stage: Stage) -> None:
    end = await stage.shell.run(stage.work("sh -c 'kill -9 $$'"), stage.out)

    assert isinstance(end, Undone)
    assert end.output.exit_code == -9
    assert "signal 9" in end.error.detail


async def test_a_command_takes_the_words_as_an_argument_or_on_its_input(stage: Stage) -> None:
    by_argument = Command(("echo", "--", "<{input}>"), stage.programs)
    by_input = Command(("cat",), stage.programs)

    one = await by_argument.run(stage.work("do $this; 'now'"), stage.out)
    other = await by_input.run(stage.work("do that", "with this"), Written(lambda *_: None))

    assert isinstance(one, Done)
    assert one.output.text == "-- <do $this; 'now'>\n"
    assert isinstance(other, Done)
    assert other.output.text == "do that\n\nwith this"


async def test_a_bot_that_is_killed_takes_its_programs_along(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.bots.test_engines import Stage\n"
        "stage = Stage(Path(sys.argv[1]))\n"
        "stage.out._show = lambda text, channel: print(text, flush=True)\n"
        "asyncio.run(stage.shell.run(stage.work(\"sh -c 'echo $$; exec sleep 600'\"), stage.out))"
    )
    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(tmp_path)), stdout=subprocess.PIPE
    )
    assert bot.stdout is not None
    program = int(await bot.stdout.readline())

    bot.kill()
    await bot.wait()

    await until(lambda: not psutil.pid_exists(program))


# The sandbox: measured by what a program can do, for each mechanism that works here.


def works(mechanism: str) -> pytest.MarkDecorator:
    found = probe(mechanism)
    return pytest.mark.skipif(not found.hides, reason=f"{mechanism}: {found.detail}")


mechanisms = pytest.mark.parametrize(
    "mechanism", [pytest.param(one, marks=works(one)) for one in (jail.NAMESPACE, jail.LANDLOCK)]
)
STEAL = [
    "cat {data}/secret",
    "cat ../../secret",
    "sh -c 'cat /proc/{bot}/root{data}/secret'",
    "sh -c 'umount {data}; cat {data}/secret'",
    "sh -c 'unshare --map-root-user --mount sh -c \"umount {data}; cat {data}/secret\"'",
    "sh -c 'ln -s {data}/secret here; cat here'",
    "sh -c 'echo changed > {data}/secret; cat {data}/secret'",
    "sh -c 'cp -r {data}/. copy; cat copy/secret'",
]


@mechanisms
@pytest.mark.parametrize("steal", STEAL)
async def test_a_program_cannot_reach_the_data_directory(tmp_path: Path, mechanism: str, steal: str) -> None:
    stage = Stage(tmp_path, mechanism)

    await stage.shell.run(stage.work(steal.format(data=stage.data, bot=os.getpid())), stage.out)

    assert "a secret of the hive" not in stage.out.output().text
    assert stage.secret.read_text() == "a secret of the hive"


@mechanisms
async def test_a_program_in_a_box_works_in_its_workspace(tmp_path: Path, mechanism: str) -> None:
    stage = Stage(tmp_path, mechanism)

    end = await stage.shell.run(
        stage.work(
            "sh -c 'mkdir -p a && echo made > a/b && mv a/b c && cat c && git init -q . && git status -s'"
        ),
        stage.out,
    )

    assert isinstance(end, Done), end
    assert end.output.text == "made\n?? c\n"
    assert (stage.workspace / "c").read_text() == "made\n"


@mechanisms
async def test_a_workspace_outside_the_data_directory_works_too(tmp_path: Path, mechanism: str) -> None:
    stage = Stage(tmp_path, mechanism)
    project = tmp_path / "project"
    project.mkdir()
    work = stage.work("sh -c 'echo made > b; ls; cat ../data/secret'")

    await stage.shell.run(Work(work.task, project, None, work.deadline), stage.out)

    assert stage.out.output().text.startswith("b\n")
    assert "a secret of the hive" not in stage.out.output().text


@mechanisms
async def test_a_workspace_that_holds_the_data_directory_does_not_show_it(
    tmp_path: Path, mechanism: str
) -> None:
    stage = Stage(tmp_path, mechanism)
    work = stage.work("sh -c 'cat data/secret; ls data; echo done'")

    await stage.shell.run(Work(work.task, tmp_path, None, work.deadline), stage.out)

    assert "a secret of the hive" not in stage.out.output().text
    assert ("out", "done\n") in stage.heard


@mechanisms
async def test_more_folders_than_one_can_be_hidden(tmp_path: Path, mechanism: str) -> None:
    stage = Stage(tmp_path, mechanism)
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key").write_text("a key of the hive")
    stage.programs._hidden = (stage.data, keys)

    await stage.shell.run(stage.work(f"sh -c 'cat {stage.secret} {keys}/key; ls; echo done'"), stage.out)

    assert "of the hive" not in stage.out.output().text
    assert stage.out.output().text.endswith("done\n")


def alike(mark: str) -> list[psutil.Process]:
    """The processes with this word on their command line."""
    return [one for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]


@works(jail.NAMESPACE)
async def test_nobody_flees_from_a_program_that_has_ended(tmp_path: Path) -> None:
    stage, mark = Stage(tmp_path, jail.NAMESPACE), f"600.{os.getpid()}1"

    end = await stage.shell.run(stage.work(f"sh -c 'setsid -f sleep {mark}; echo done'"), stage.out)

    assert isinstance(end, Done), end
    assert alike(mark) == []


@works(jail.NAMESPACE)
async def test_nobody_flees_from_a_program_that_is_stopped_and_it_may_say_goodbye(tmp_path: Path) -> None:
    stage, mark = Stage(tmp_path, jail.NAMESPACE), f"600.{os.getpid()}2"
    script = f'setsid -f sleep {mark}; trap "echo bye" TERM; echo up; while :; do sleep 0.02; done'
    running = asyncio.ensure_future(stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out))
    await until(lambda: ("out", "up\n") in [(channel, text) for channel, text in stage.heard])
    assert alike(mark)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until(lambda: alike(mark) == [])
    assert "bye" in "".join(text for _, text in stage.heard)


@works(jail.NAMESPACE)
async def test_a_program_in_a_namespace_dies_with_its_bot(tmp_path: Path) -> None:
    mark = f"600.{os.getpid()}3"
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.bots.test_engines import Stage\n"
        "stage = Stage(Path(sys.argv[1]), 'namespace')\n"
        f"work = stage.work(\"sh -c 'setsid -f sleep {mark}; exec sleep 600'\")\n"
        "asyncio.run(stage.shell.run(work, stage.out))"
    )
    bot = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    await until(lambda: any(one.name() == "sleep" for one in alike(mark)))

    bot.kill()
    await bot.wait()

    await until(lambda: alike(mark) == [])


@works(jail.NAMESPACE)
@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -9), ("kill -SEGV $$", -11)])
async def test_a_program_in_a_namespace_ends_as_it_ended(tmp_path: Path, script: str, code: int) -> None:
    stage = Stage(tmp_path, jail.NAMESPACE)

    end = await stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out)

    assert isinstance(end, Undone)
    assert end.output.exit_code == code


@works(jail.NAMESPACE)
async def test_a_program_in_a_namespace_cannot_signal_its_bot(tmp_path: Path) -> None:
    stage = Stage(tmp_path, jail.NAMESPACE)

    end = await stage.shell.run(stage.work(f"sh -c 'kill -0 {os.getpid()}'"), stage.out)

    assert isinstance(end, Undone)


async def test_without_a_box_that_works_nothing_is_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "none")

    end = await stage.shell.run(stage.work("pwd"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "sandbox_unavailable"
    assert "HIVE_SANDBOX=off" in end.error.detail


async def test_a_box_that_fails_at_the_last_moment_runs_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, jail.NAMESPACE)
    stage.programs._hidden = (tmp_path / "not-there",)

    end = await stage.shell.run(stage.work("pwd"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "program_not_started"
    assert not end.output.text


def test_the_report_says_off_only_when_it_was_asked_for() -> None:
    assert sandbox_report("off").mechanism == "off"
    assert "can read the data directory" in sandbox_report("off").sentence
    assert sandbox_report().mechanism != "off"
