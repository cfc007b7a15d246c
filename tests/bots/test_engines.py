"""What every engine keeps to: it starts, streams, stops when told, and stays within its limits."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bots import kernel, sandbox
from bots.engines import Engine, Work
from bots.engines.command import Command
from bots.engines.echo import Echo
from bots.engines.program import Programs, Room
from bots.engines.shell import Shell
from bots.output import Written
from bots.sandbox import SandboxReport, probe, readable, sandbox_report
from shared.contracts.orchestrator.commands import Done, Undone
from shared.contracts.orchestrator.protocol import Assignment
from shared.contracts.words import OUTPUT_BYTES_MAX, TaskId, TaskType
from shared.kernel.codec import encode
from shared.runtime.clock import monotonic
from shared.runtime.settings import SHELL_ALLOW

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
ALLOW = ("git", "ls", "cat", "echo", "pwd", "sh", "python3")
Job = tuple[Engine, Work]


class Stage:
    """A folder with a workspace, a hidden data directory, and engines to run."""

    def __init__(self, folder: Path, mechanism: str = kernel.OFF, memory_mb: int | None = None) -> None:
        self.data = folder / "data"
        self.workspace = self.data / "workspaces" / "alpha"
        self.workspace.mkdir(parents=True)
        self.secret = self.data / "secret"
        self.secret.write_text("a secret of the hive")
        self.room = Room(
            SandboxReport(mechanism, ()), (self.data,), readable(ENVIRONMENT), self.data / "tmp", memory_mb
        )
        self.programs = Programs(ENVIRONMENT, self.room)
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
    echo: dict[str, object] = {
        "chunks": ["partly"],
        "fail": {"code": "exit_nonzero", "detail": "exited with 3: partly"},
    }
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
    assert variables.keys() == {"PATH", "LANG", "HOME", "PWD", "TMPDIR"}
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
    async with asyncio.timeout(5):
        end = await stage.shell.run(stage.work("sh -c 'sleep 600 & echo $!'"), stage.out)

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
    "mechanism", [pytest.param(one, marks=works(one)) for one in (kernel.NAMESPACE, kernel.LANDLOCK)]
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
    stage.shell = Shell(ALLOW, Programs(ENVIRONMENT, replace(stage.room, hidden=(stage.data, keys))))

    await stage.shell.run(stage.work(f"sh -c 'cat {stage.secret} {keys}/key; ls; echo done'"), stage.out)

    assert "of the hive" not in stage.out.output().text
    assert stage.out.output().text.endswith("done\n")


def alike(mark: str) -> list[psutil.Process]:
    """The processes with this word on their command line."""
    return [one for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]


every_box = pytest.mark.parametrize(
    "mechanism",
    [*(pytest.param(one, marks=works(one)) for one in (kernel.NAMESPACE, kernel.LANDLOCK)), kernel.OFF],
)


@every_box
async def test_nobody_flees_from_a_program_that_has_ended(tmp_path: Path, mechanism: str) -> None:
    stage, mark = Stage(tmp_path, mechanism), f"600.{os.getpid()}1"
    script = f'setsid -f sleep {mark}; setsid -f sh -c "setsid -f sleep {mark}; exec sleep {mark}"; echo done'

    end = await stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out)

    assert isinstance(end, Done), end
    assert alike(mark) == []


@every_box
async def test_nobody_flees_from_a_program_that_is_stopped_and_it_may_say_goodbye(
    tmp_path: Path, mechanism: str
) -> None:
    stage, mark = Stage(tmp_path, mechanism), f"600.{os.getpid()}2"
    script = f'setsid -f sleep {mark}; trap "echo bye" TERM; echo up; while :; do sleep 0.02; done'
    running = asyncio.ensure_future(stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out))
    await until(lambda: ("out", "up\n") in [(channel, text) for channel, text in stage.heard])
    assert alike(mark)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert alike(mark) == []
    assert "bye" in "".join(text for _, text in stage.heard)


@every_box
async def test_a_program_dies_with_its_bot_and_so_does_all_that_it_started(
    tmp_path: Path, mechanism: str
) -> None:
    mark = f"600.{os.getpid()}3"
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.bots.test_engines import Stage\n"
        f"stage = Stage(Path(sys.argv[1]), '{mechanism}')\n"
        f"work = stage.work(\"sh -c 'setsid -f sleep {mark}; exec sleep 600'\")\n"
        "asyncio.run(stage.shell.run(work, stage.out))"
    )
    bot = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    try:  # it imports, and measures, first
        await until(lambda: any(one.name() == "sleep" for one in alike(mark)), 50)
    finally:
        bot.kill()
    await bot.wait()

    await until(lambda: alike(mark) == [])


@mechanisms
async def test_a_program_sees_no_other_hive_and_nothing_else_of_this_machine(
    tmp_path: Path, mechanism: str
) -> None:
    stage = Stage(tmp_path, mechanism)
    neighbour = tmp_path / "another hive" / "keys"
    neighbour.mkdir(parents=True)
    (neighbour / "key").write_text("a key of another hive")
    script = f'cat "{neighbour}/key" /etc/shadow; ls /home /var /srv "{tmp_path}"; cd ..; ls'

    await stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out)

    said = "".join(text for channel, text in stage.heard if channel == "out")
    assert "another" not in said
    assert "daemon:" not in said  # of /etc/shadow
    assert "secret" not in said


@mechanisms
@pytest.mark.parametrize("folder", ["/usr", "/etc", "/", "/dev"])
async def test_a_program_cannot_write_to_the_machine(tmp_path: Path, mechanism: str, folder: str) -> None:
    stage = Stage(tmp_path, mechanism)
    mark = f"{folder}/hive-test-{os.getpid()}"

    end = await stage.shell.run(stage.work(f"sh -c 'echo no > {mark}'"), stage.out)

    assert isinstance(end, Undone)
    assert not Path(mark).exists()


@mechanisms
async def test_each_run_has_a_temporary_folder_of_its_own_that_is_gone_afterwards(
    tmp_path: Path, mechanism: str
) -> None:
    stage = Stage(tmp_path, mechanism)
    mine = "$TMPDIR/mine"
    script = f"cat {mine}; mktemp > /dev/null && mkdir -m 0 $TMPDIR/shut && echo mine > {mine} && echo made"

    first = await stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out)
    second = await stage.shell.run(stage.work(f"sh -c '{script}'"), Written(lambda *_: None))

    assert isinstance(first, Done), first
    assert isinstance(second, Done), second
    assert [first.output.text.splitlines()[-1], second.output.text.splitlines()[-1]] == ["made", "made"]
    assert "mine" not in second.output.text.replace("/mine", "")
    assert list(stage.room.tmp.iterdir()) == []


@mechanisms
async def test_what_the_operator_shows_can_be_read_and_not_written(tmp_path: Path, mechanism: str) -> None:
    stage = Stage(tmp_path, mechanism)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tool").write_text("a tool\n")
    shown = replace(stage.room, readable=readable(ENVIRONMENT, (tools,)))
    shell = Shell(ALLOW, Programs(ENVIRONMENT, shown))

    await shell.run(stage.work(f"sh -c 'cat {tools}/tool; echo changed > {tools}/tool'"), stage.out)

    assert ("out", "a tool\n") in stage.heard
    assert (tools / "tool").read_text() == "a tool\n"


@mechanisms
async def test_a_program_that_cannot_be_seen_is_refused_with_the_setting_that_shows_it(
    tmp_path: Path, mechanism: str
) -> None:
    stage = Stage(tmp_path, mechanism)
    tool = tmp_path / "tools" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho ran\n")
    tool.chmod(0o755)

    end = await Command((str(tool),), stage.programs).run(stage.work("x"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "program_not_started"
    assert "HIVE_SANDBOX_READ" in end.error.detail


@mechanisms
async def test_the_usual_tools_work_in_the_box(tmp_path: Path, mechanism: str) -> None:
    stage = Stage(tmp_path, mechanism)
    script = (
        "import json, multiprocessing, os, socket, ssl, subprocess, tempfile, uuid\n"
        "tempfile.NamedTemporaryFile().write(b'x'); print(len(os.urandom(3)), file=open('/dev/null', 'w'))\n"
        "print(subprocess.run(['git', '--version'], capture_output=True, text=True, check=True).stdout[:3])"
    )
    (stage.workspace / "try.py").write_text(script)

    end = await stage.shell.run(stage.work("python3 try.py"), stage.out)

    assert isinstance(end, Done), end
    assert end.output.text == "git\n"


GREEDY = "python3 -c 'x = bytearray({mb} * 1024 * 1024); print(len(x))'"


@every_box
async def test_a_program_over_its_memory_limit_fails_and_names_the_setting(
    tmp_path: Path, mechanism: str
) -> None:
    stage = Stage(tmp_path, mechanism, memory_mb=256)

    end = await stage.shell.run(stage.work(GREEDY.format(mb=512)), stage.out)
    modest = await stage.shell.run(stage.work(GREEDY.format(mb=16)), Written(lambda *_: None))

    assert isinstance(end, Undone)
    assert end.error.code == "memory_exceeded"
    assert "256 MB" in end.error.detail
    assert "memory_mb" in end.error.detail
    assert "--memory" in end.error.detail
    assert not end.retryable
    assert isinstance(modest, Done), modest


async def test_without_a_limit_running_out_of_memory_is_a_failure_like_any_other(stage: Stage) -> None:
    end = await stage.shell.run(stage.work(GREEDY.format(mb=10**6)), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "exit_nonzero"


# The list of programs is a convenience, and git shows why: it starts any other. The box is what holds.
ESCAPES = [
    "git -c core.pager='cat {secret}; true' -p log",
    "git -c alias.out='!cat {secret}' out",
    "git -c core.fsmonitor='cat {secret} >&2; true' status",
    "git -c core.hooksPath=hooks commit --allow-empty -m x",
    "git -c core.editor='cat {secret} >&2; true' commit --allow-empty",
    "git --exec-path=hooks out",
    "git -c core.sshCommand='cat {secret} >&2; true' ls-remote ssh://x/y",
    "git -c diff.external='cat {secret}' diff --no-index --ext-diff pre-commit try",
    "git config --global alias.out '!cat {secret}'",
    "git clone {data} stolen",
    "git -C {data} status",
    "git --git-dir={data}/.git log",
    "python3 -c 'print(open(\"{secret}\").read())'",
    "make --eval='x:; cat {secret}' x",
]


@mechanisms
@pytest.mark.parametrize("content", ESCAPES)
async def test_programs_of_the_list_that_start_others_do_not_leave_the_box(
    tmp_path: Path, mechanism: str, content: str
) -> None:
    stage = Stage(tmp_path, mechanism)
    git = (("init", "-q"), ("config", "user.name", "x"), ("config", "user.email", "x@example.org"))
    for place in (stage.workspace, stage.data):
        for words in git:
            subprocess.run(["git", *words], cwd=place, check=True)  # noqa: ASYNC221  nobody waits
    hooks = stage.workspace / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "git-out"):
        (hooks / name).write_text(f"#!/bin/sh\ncat {stage.secret} >&2\necho ran >&2\n")
        (hooks / name).chmod(0o755)
    shell = Shell(SHELL_ALLOW, stage.programs)

    await shell.run(stage.work(content.format(secret=stage.secret, data=stage.data)), stage.out)
    if "--global" in content:
        await shell.run(stage.work("git out"), stage.out)

    assert "a secret of the hive" not in stage.out.output().text
    assert stage.secret.read_text() == "a secret of the hive"


async def test_without_a_box_git_does_start_any_program(stage: Stage) -> None:
    """What the tests above hold against: were the box not there, they would fail."""
    shell = Shell(SHELL_ALLOW, stage.programs)

    await shell.run(stage.work(f"git -c alias.out='!cat {stage.secret}' out"), stage.out)

    assert "a secret of the hive" in stage.out.output().text


def test_the_report_says_what_was_measured_and_what_the_list_of_programs_is_worth() -> None:
    report = sandbox_report()

    assert report.mechanism == "none" or "measured: a program saw its workspace" in report.sentence
    assert report.mechanism == "none" or "git and python3 of it start any other" in report.sentence


@mechanisms
def test_a_probe_notices_a_box_that_shows_too_much(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SYSTEM", (*sandbox.SYSTEM, tempfile.gettempdir()))

    found = probe(mechanism)

    assert not found.hides
    assert "a folder beside the hive's could be read" in found.detail


@works(kernel.NAMESPACE)
@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -9), ("kill -SEGV $$", -11)])
async def test_a_program_in_a_namespace_ends_as_it_ended(tmp_path: Path, script: str, code: int) -> None:
    stage = Stage(tmp_path, kernel.NAMESPACE)

    end = await stage.shell.run(stage.work(f"sh -c '{script}'"), stage.out)

    assert isinstance(end, Undone)
    assert end.output.exit_code == code


@works(kernel.NAMESPACE)
async def test_a_program_in_a_namespace_cannot_signal_its_bot(tmp_path: Path) -> None:
    stage = Stage(tmp_path, kernel.NAMESPACE)

    end = await stage.shell.run(stage.work(f"sh -c 'kill -0 {os.getpid()}'"), stage.out)

    assert isinstance(end, Undone)


async def test_without_a_box_that_works_nothing_is_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "none")

    end = await stage.shell.run(stage.work("pwd"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "sandbox_unavailable"
    assert "HIVE_SANDBOX=off" in end.error.detail


async def test_a_box_that_fails_at_the_last_moment_runs_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, kernel.NAMESPACE)
    work = stage.work("pwd")

    end = await stage.shell.run(replace(work, workspace=tmp_path / "not-there"), stage.out)

    assert isinstance(end, Undone)
    assert end.error.code == "program_not_started"
    assert not end.output.text


def test_the_report_says_off_only_when_it_was_asked_for() -> None:
    assert sandbox_report("off").mechanism == "off"
    assert "can read the data directory" in sandbox_report("off").sentence
    assert sandbox_report().mechanism != "off"
