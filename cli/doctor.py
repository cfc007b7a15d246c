"""`hive doctor`: is this machine fit for a hive, and is the one that runs here well?"""

import asyncio
from typing import Final

import click

from cli import checks, screen
from cli.checks import FAIL, Check
from cli.failure import Exit
from cli.session import Here, local
from shared.runtime import clock

_MARKS: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.command()
@local
@click.option("--sandbox", envvar="HIVE_SANDBOX", hidden=True)
def doctor(here: Here, *, sandbox: str | None) -> None:
    """Check this machine and its hive: a line each, with what to do; exit 1 when something is wrong."""
    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if not here.as_json:
            _show(check)

    for check in checks.machine(here.data, clock.now()):
        tell(check)
    tell(_sandbox(sandbox))
    running = checks.running_of(here.data)
    if running is not None:
        from cli.checkup import running_hive  # noqa: PLC0415 - only when there is one

        for check in asyncio.run(running_hive(running, clock.now())):
            tell(check)
    failed = [check for check in found if check.level == FAIL]
    if here.as_json:
        screen.document({"ok": not failed, "checks": found})
    elif running is None:
        click.echo("No hive runs here: what only a running one can tell was left out.", err=True)
    raise SystemExit(Exit.FAILED if failed else Exit.OK)


def _sandbox(wanted: str | None) -> Check:
    """How programs that bots run are kept from the data directory, as measured now."""
    from cli.supervisor import sandbox_report  # noqa: PLC0415 - it starts a few processes, slowly

    report = sandbox_report(wanted)
    hides = any(probe.hides for probe in report.probes)
    return Check(
        name="sandbox",
        level=checks.OK if hides else checks.WARN if report.mechanism == "off" else FAIL,
        detail=report.sentence,
        remedy="" if hides else "allow user namespaces, or use Linux 5.13 or later",
    )


def _show(check: Check) -> None:
    mark, colour = _MARKS[check.level]
    click.echo(f"{click.style(mark, fg=colour)} {check.name.ljust(15)} {screen.safe(check.detail)}")
    if check.remedy:
        click.echo(f"  {' ' * 15} → {check.remedy}")
