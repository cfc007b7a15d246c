"""`hive down`: stop the hive that runs on this machine."""

from typing import Final

import click
import psutil

from cli import screen
from cli.data_dir import Running
from cli.failure import Exit, Failure
from cli.session import Here, local

STOPPED_WITHIN_S: Final = 90.0
SAME_START_S: Final = 1.0  # the kernel counts in hundredths, and clocks are set


@click.command()
@local
def down(here: Here) -> None:
    """Stop the hive on this machine: what runs is drained, then everything ends."""
    data, as_json = here.data, here.as_json
    running = data.running()
    process = None if running is None else supervisor_of(running)
    if running is None or process is None:
        if data.is_held():
            raise Failure(
                "A hive is just starting here.",
                exit_code=Exit.REFUSED,
                code="starting",
                why=f"{data.path} is locked, but says of no process yet.",
                todo="`hive down` again in a moment.",
            )
        data.forget_running()  # a hive that was killed left it
        _tell("not_running", "No hive is running here.", as_json=as_json)
        return
    process.terminate()
    with screen.progress(f"stopping the hive (process {running.pid})", None, quiet=as_json):
        try:
            process.wait(STOPPED_WITHIN_S)
        except psutil.TimeoutExpired as error:
            raise Failure(
                f"The hive has not stopped within {STOPPED_WITHIN_S:.0f} s.",
                exit_code=Exit.STILL_RUNNING,
                code="still_stopping",
                why=f"process {running.pid} still drains.",
                todo="`hive logs supervisor` says for whom it waits; `hive down` again ends it at once.",
            ) from error
    _tell("stopped", "The hive has stopped.", as_json=as_json)


def supervisor_of(running: Running) -> psutil.Process | None:
    """The process that wrote `hive.json`, if it is still that one."""
    try:
        process = psutil.Process(running.pid)
        same = abs(process.create_time() - running.started) < SAME_START_S
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def _tell(state: str, text: str, *, as_json: bool) -> None:
    if as_json:
        screen.document({"state": state})
    else:
        click.echo(text)
