"""What was ever stored or sent is read for ever."""

from pathlib import Path

import msgspec
import pytest

from docs.catalogue import published
from shared.kernel.codec import encode
from shared.kernel.messages import Command
from tests.support.language import stored_facts

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
KINDS = {kind.__name__: kind for kind in (*stored_facts(), *published(Command))}
FACTS = {kind.__name__ for kind in stored_facts()}


def kind_of(sample: Path) -> type[msgspec.Struct]:
    return KINDS[sample.stem.partition("-")[0]]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_fact_and_every_command_has_a_sample(name: str) -> None:
    assert name in {sample.stem for sample in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_stored_sample_decodes_and_says_the_same_when_encoded_again(sample: Path) -> None:
    """Beside what it said, only fields that were added since, at their defaults."""
    stored = sample.read_bytes()
    assert holds(
        msgspec.json.decode(encode(msgspec.json.decode(stored, type=kind_of(sample)))),
        msgspec.json.decode(stored),
    )


def holds(newer: object, older: object) -> bool:
    """Whether a document says all that an older one did."""
    if isinstance(older, dict) and isinstance(newer, dict):
        return all(field in newer and holds(newer[field], said) for field, said in older.items())
    if isinstance(older, list) and isinstance(newer, list):
        return len(older) == len(newer) and all(map(holds, newer, older))
    return older == newer


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_facts_skip_fields_they_do_not_know_and_commands_refuse_them(sample: Path) -> None:
    document = msgspec.json.decode(sample.read_bytes(), type=dict[str, object])
    newer = msgspec.json.encode({**document, "not_known_yet": 1})

    if kind_of(sample).__name__ in FACTS:
        known = msgspec.json.decode(newer, type=kind_of(sample))
        assert holds(msgspec.json.decode(encode(known)), document)
        assert b"not_known_yet" not in encode(known)
    else:
        with pytest.raises(msgspec.ValidationError, match="not_known_yet"):
            msgspec.json.decode(newer, type=kind_of(sample))
