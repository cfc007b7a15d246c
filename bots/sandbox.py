"""How the programs that bots run are kept from the data directory: measured, not assumed.

`namespace` covers the directory with an empty one in a mount namespace of the program's own, and gives it a
namespace of processes, so that it can signal nobody outside and nothing it started outlives it; `landlock`
allows every path but those that lead there (the folders on the way cannot be listed then). Both need no
package, and no privilege where the kernel permits them. Where neither works nothing is run, unless
HIVE_SANDBOX=off says so.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bots import jail

JAIL: Final = Path(jail.__file__).resolve()
VARIABLE: Final = "HIVE_SANDBOX"
NONE: Final = "none"
MECHANISMS: Final = (jail.NAMESPACE, jail.LANDLOCK)
CHOICES: Final = (*MECHANISMS, jail.OFF)
PROBE_WITHIN_S: Final = 10.0
SECRET: Final = b"a secret of the hive"


@dataclass(frozen=True)
class Probe:
    """What one mechanism did to a program that tried to read a secret."""

    mechanism: str
    hides: bool
    detail: str


@dataclass(frozen=True)
class SandboxReport:
    """What is in use (`namespace`, `landlock`, `off`, or `none`: nothing is run), and what was measured."""

    mechanism: str
    probes: tuple[Probe, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        tried = "; ".join(f"{probe.mechanism}: {probe.detail}" for probe in self.probes)
        match self.mechanism:
            case jail.OFF:
                return (
                    f"{VARIABLE}=off: programs of the shell and command engines can read the data directory"
                )
            case "none":
                return (
                    f"no mechanism works here ({tried}), so the shell and command engines refuse to run; "
                    "allow user namespaces or use Linux 5.13 or later, or accept the risk with "
                    f"{VARIABLE}=off"
                )
            case _:
                return f"programs cannot read the data directory, by {self.mechanism} ({tried})"


def sandbox_report(wanted: str | None = None) -> SandboxReport:
    """Measure the mechanisms, best first, and take the first that hides; with `wanted`, that one or none.

    Starts a few short processes: call it before there is a loop, or in a thread.
    """
    if wanted == jail.OFF:
        return SandboxReport(jail.OFF, ())
    probes = []
    for mechanism in MECHANISMS if wanted is None else (wanted,):
        probes.append(probe(mechanism))
        if probes[-1].hides:
            return SandboxReport(mechanism, tuple(probes))
    return SandboxReport(NONE, tuple(probes))


def probe(mechanism: str) -> Probe:
    """Let a program look for a secret in a folder that is hidden from it, and for another that is not."""
    with tempfile.TemporaryDirectory(prefix="hive-probe-") as made:
        folder = Path(made).resolve()
        hidden, kept = folder / "hidden", folder / "hidden" / "workspaces" / "one"
        kept.mkdir(parents=True)
        secret, own = hidden / "secret", kept / "own"
        secret.write_bytes(SECRET)
        own.write_bytes(b"its own")
        if _read(jail.OFF, hidden, kept, secret)[0] != SECRET:
            return Probe(
                mechanism, hides=False, detail="cannot be measured: the probe cannot even run unhidden"
            )
        stolen, trouble = _read(mechanism, hidden, kept, secret)
        roundabout, _ = _read(mechanism, hidden, kept, Path("../../secret"))
        if SECRET in (stolen, roundabout):
            return Probe(mechanism, hides=False, detail="the secret could be read")
        if trouble:
            return Probe(mechanism, hides=False, detail=trouble)
        if _read(mechanism, hidden, kept, own)[0] != b"its own":
            return Probe(mechanism, hides=False, detail="the workspace cannot be read either")
        return Probe(mechanism, hides=True, detail="measured: a program saw its workspace, not the secret")


def _read(mechanism: str, hidden: Path, kept: Path, path: Path) -> tuple[bytes, str]:
    """What a boxed-in `cat` saw there, and why the box could not be made."""
    ours, theirs = os.pipe()
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and script
            jail_argv(theirs, mechanism, hidden=(hidden,), kept=kept, limits={}, argv=("cat", str(path))),
            cwd=kept,
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(theirs,),
            timeout=PROBE_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return b"", "took too long"
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as status:
        return done.stdout, status.read().decode(errors="replace")


def jail_argv(
    status: int,
    mechanism: str,
    *,
    hidden: tuple[Path, ...],
    kept: Path,
    limits: dict[str, int],
    argv: tuple[str, ...],
) -> list[str]:
    """The command line that becomes the program, boxed in."""
    pairs = ",".join(f"{name}={value}" for name, value in limits.items())
    return [
        *(sys.executable, "-I", "-S", str(JAIL), str(status), str(os.getpid()), mechanism),
        *(os.pathsep.join(map(str, hidden)), str(kept), pairs, *argv),
    ]
