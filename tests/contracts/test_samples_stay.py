"""What stands for old logs stays as it was: samples are added, never edited, never removed.

`SHA256SUMS` beside them holds the sum of each, oldest first. The list is append-only itself: every form it
had in the history of this repository is a beginning of today's.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
SUMS = SAMPLES / "SHA256SUMS"
ROOT = Path(__file__).parents[2]
ADD = "cd tests/contracts/samples && sha256sum {name} >> SHA256SUMS"


def broken_promises(folder: Path) -> list[str]:
    """What differs between the samples and their list, each with what to do."""
    lines = (folder / SUMS.name).read_text().splitlines()
    listed = [(name, digest) for digest, name in (line.split("  ", 1) for line in lines)]
    sums = dict(listed)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.json")}
    twice = sorted({name for name, _ in listed if [one for one, _ in listed].count(name) > 1})
    return [
        *(f"{name} is listed twice: its first sum counts" for name in twice),
        *(f"{name} was removed: put it back" for name in sorted(sums.keys() - found.keys())),
        *(
            f"{name} was edited: put it back, and add the new form as another file"
            for name in sorted(sums.keys() & found.keys())
            if sums[name] != found[name]
        ),
        *(f"{name} is new: {ADD.format(name=name)}" for name in sorted(found.keys() - sums.keys())),
    ]


def grew_only(older: str, newer: str) -> bool:
    """Whether a list holds all that an older form of it held, in the same order, before anything else."""
    return newer.startswith(older)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_no_sample_was_edited_or_removed_and_each_is_listed() -> None:
    assert broken_promises(SAMPLES) == []


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no history: not a checkout"
)
def test_the_list_of_sums_only_ever_grew() -> None:
    path = SUMS.relative_to(ROOT).as_posix()
    commits = git("log", "--format=%H", "--diff-filter=AM", "--", path).split()
    today = SUMS.read_text()

    assert [commit for commit in commits if not grew_only(git("show", f"{commit}:{path}"), today)] == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES, tmp_path / "samples"))


def test_an_edited_sample_is_noticed(copied: Path) -> None:
    sample = copied / "TaskSubmitted.json"
    sample.write_text(sample.read_text() + "\n")

    assert broken_promises(copied) == [
        "TaskSubmitted.json was edited: put it back, and add the new form as another file"
    ]


def test_an_edit_is_noticed_even_when_a_new_sum_is_added(copied: Path) -> None:
    sample, sums = copied / "TaskSubmitted.json", copied / SUMS.name
    sample.write_text(sample.read_text() + "\n")
    digest = hashlib.sha256(sample.read_bytes()).hexdigest()
    sums.write_text(f"{sums.read_text()}{digest}  {sample.name}\n")

    assert broken_promises(copied) == ["TaskSubmitted.json is listed twice: its first sum counts"]


def test_a_list_that_was_written_anew_is_noticed() -> None:
    older = SUMS.read_text()

    assert grew_only(older, f"{older}{'0' * 64}  New.json\n")
    assert not grew_only(older, older.replace(older[:64], "0" * 64))


def test_a_removed_and_an_unlisted_sample_are_noticed(copied: Path) -> None:
    (copied / "TaskSubmitted.json").rename(copied / "TaskSubmitted-newer.json")

    assert broken_promises(copied) == [
        "TaskSubmitted.json was removed: put it back",
        f"TaskSubmitted-newer.json is new: {ADD.format(name='TaskSubmitted-newer.json')}",
    ]
