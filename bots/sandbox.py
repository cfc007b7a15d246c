"""How the programs that bots run are boxed in: measured, not assumed.

In every box a program sees its workspace, a temporary folder of its own, and read-only what it needs of the
system; whatever it started is ended with it. `namespace` gives it a root, mounts and processes of its own, so
that nothing else is even there; `landlock` refuses to open anything else (whether a path exists can be asked
then). Both need no package, and no privilege where the kernel permits them. Where neither works nothing is
run, unless HIVE_SANDBOX=off says so.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bots import jail, kernel
from bots.probe import Saw

JAIL: Final = Path(jail.__file__).resolve()
PROBE: Final = JAIL.with_name("probe.py")
VARIABLE: Final = "HIVE_SANDBOX"
READ_VARIABLE: Final = "HIVE_SANDBOX_READ"
NONE: Final = "none"
MECHANISMS: Final = (kernel.NAMESPACE, kernel.LANDLOCK)
CHOICES: Final = (*MECHANISMS, kernel.OFF)
PROBE_WITHIN_S: Final = 10.0
SECRET: Final = "a secret of the hive"  # noqa: S105  none that opens anything

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/sys/devices/system"),
    *(
        f"/etc/{name}"
        for name in (
            *("alternatives", "ca-certificates", "crypto-policies", "debian_version", "fonts", "gitconfig"),
            *("group", "hostname", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
            *("ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "nsswitch.conf"),
            *("os-release", "passwd", "pki/ca-trust/extracted", "pki/tls/certs", "protocols"),
            *("resolv.conf", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone"),
        )
    ),
)
"""What programs need of a machine; no folder in it holds what is somebody's own."""

BESIDE: Final = {"bin": ("lib", "lib64", "libexec"), "sbin": ("lib", "lib64", "libexec"), "shims": (".",)}
"""What programs in a folder of that name need of the folder above: node its modules, pyenv all of itself."""


@dataclass(frozen=True)
class Probe:
    """What one mechanism did to a program that tried to get out."""

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
            case kernel.OFF:
                return (
                    f"{VARIABLE}=off: programs of the shell and command engines can read the data directory, "
                    "and all that this user can"
                )
            case "none":
                return (
                    f"no mechanism works here ({tried}), so the shell and command engines refuse to run; "
                    "allow user namespaces or use Linux 5.13 or later, or accept the risk with "
                    f"{VARIABLE}=off"
                )
            case _:
                return (
                    f"programs cannot read the data directory, by {self.mechanism} ({tried}). That box "
                    "is the boundary, not the shell's list of programs: git and python3 of it start any other"
                )


def readable(environment: Mapping[str, str], more: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """What programs may read: the system, the folders of their PATH, our interpreter, and what was added."""
    path = [Path(folder) for folder in environment.get("PATH", os.defpath).split(os.pathsep)]
    beside = [folder.parent / name for folder in path for name in BESIDE.get(folder.name, ())]
    folders = [*map(Path, SYSTEM), *path, *beside, Path(sys.prefix), Path(sys.base_prefix), *more]
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_absolute() and folder != Path("/")))


def sandbox_report(wanted: str | None = None) -> SandboxReport:
    """Measure the mechanisms, best first, and take the first that hides; with `wanted`, that one or none.

    Starts a few short processes: call it before there is a loop, or in a thread.
    """
    if wanted == kernel.OFF:
        return SandboxReport(kernel.OFF, ())
    probes = []
    for mechanism in MECHANISMS if wanted is None else (wanted,):
        probes.append(probe(mechanism))
        if probes[-1].hides:
            return SandboxReport(mechanism, tuple(probes))
    return SandboxReport(NONE, tuple(probes))


def probe(mechanism: str) -> Probe:
    """Let a program try what it must not, first without a box: what fails there as well shows nothing."""
    with tempfile.TemporaryDirectory(prefix="hive-probe-") as made:
        free, _ = _try(kernel.OFF, Path(made).resolve())
        if free is None or not (free.secret and free.neighbour and free.wrote):
            return Probe(
                mechanism, hides=False, detail="cannot be measured: the probe cannot even run unhidden"
            )
    with tempfile.TemporaryDirectory(prefix="hive-probe-") as made:
        saw, trouble = _try(mechanism, Path(made).resolve())
    if saw is None:
        return Probe(mechanism, hides=False, detail=trouble or "the probe did not run")
    return Probe(mechanism, hides=not (faults := _faults(saw)), detail=faults or _sentence(saw))


def _faults(saw: Saw) -> str:
    faults = {
        "the secret could be read": saw.secret,
        "a folder beside the hive's could be read": saw.neighbour,
        "what is to be read only could be written": saw.wrote,
        "a process that it left behind lived on": saw.outlived,
        "the workspace cannot be read either": not saw.workspace,
        "its own temporary folder cannot be written": not saw.tmp,
    }
    return "; ".join(fault for fault, there in faults.items() if there)


def _sentence(saw: Saw) -> str:
    signals = ", but it could signal processes outside (Linux 6.12 keeps it from that)" if saw.signals else ""
    return (
        "measured: a program saw its workspace, a temporary folder of its own and the read-only system; not "
        f"the secret, nor a folder beside the hive's; what it left behind was ended{signals}"
    )


def _try(mechanism: str, folder: Path) -> tuple[Saw | None, str]:
    """What a boxed-in program saw, and why the box could not be made."""
    hidden, neighbour, shown = folder / "hidden", folder / "neighbour", folder / "shown"
    kept, tmp = hidden / "workspaces" / "one", hidden / "tmp"
    for place in (kept, tmp, neighbour, shown):
        place.mkdir(parents=True)
    for secret in (hidden / "secret", neighbour / "secret"):
        secret.write_text(SECRET)
    (kept / "own").write_text("its own")
    environment = {"PATH": os.defpath}
    may_read = readable(environment, (shown, PROBE))
    box = kernel.Box(mechanism, (hidden,), may_read, kept, tmp)
    told = kernel.TMP if mechanism == kernel.NAMESPACE else tmp
    alive, held = os.pipe()
    words = (str(hidden), str(neighbour), str(shown), str(told), str(os.getpid()), str(held))
    argv = (sys.executable, "-I", "-S", str(PROBE), *words)
    try:
        said, trouble = _said(box, argv, environment, held)
    finally:
        os.close(held)
        os.set_blocking(alive, False)
        outlived = _is_held(alive)
        os.close(alive)
    if not said:
        return None, trouble
    return msgspec.json.decode(said, type=Saw)._replace(outlived=outlived), trouble


def _said(
    box: kernel.Box, argv: tuple[str, ...], environment: dict[str, str], held: int
) -> tuple[bytes, str]:
    ours, theirs = os.pipe()
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and script
            jail_argv(theirs, box, limits={}, argv=argv),
            cwd=box.kept,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(theirs, held),
            timeout=PROBE_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return b"", "took too long"
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as status:
        return done.stdout, status.read().decode(errors="replace")


def _is_held(end: int) -> bool:
    """Whether anybody has the other end of the pipe still open."""
    try:
        return os.read(end, 1) != b""
    except BlockingIOError:
        return True


def jail_argv(status: int, box: kernel.Box, *, limits: Mapping[str, int], argv: tuple[str, ...]) -> list[str]:
    """The command line that becomes the program, boxed in."""
    pairs = ",".join(f"{name}={value}" for name, value in limits.items())
    hidden, may_read = (os.pathsep.join(map(str, folders)) for folders in (box.hidden, box.readable))
    return [
        *(sys.executable, "-I", "-S", str(JAIL), str(status), str(os.getpid()), box.mechanism),
        *(hidden, may_read, str(box.kept), str(box.tmp), pairs, *argv),
    ]
