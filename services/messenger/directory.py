"""Who can get messages: the bots that were launched and not retired, and the people who have a key."""

from collections import Counter
from difflib import get_close_matches
from typing import Final, assert_never

from services.messenger.facts import BotHeard, KeyHeard
from shared.contracts.gateway import KeyCreated, KeyRevoked
from shared.contracts.orchestrator.facts import BotLaunched, BotRetired, BotSpec
from shared.contracts.words import BotId, KeyId, Party, is_person, person

NEAREST_MAX: Final = 3


class Directory:
    """Names, as the facts of their owners tell them."""

    def __init__(self) -> None:
        self.bots: dict[BotId, BotSpec] = {}
        self._keys: dict[KeyId, Party] = {}
        self._people: Counter[Party] = Counter()

    def hear_bot(self, fact: BotHeard) -> BotId:
        """A bot came or went: which one."""
        match fact:
            case BotLaunched():
                self.bots[fact.bot_id] = fact.spec
            case BotRetired():
                self.bots.pop(fact.bot_id, None)
            case _:
                assert_never(fact)
        return fact.bot_id

    def hear_key(self, fact: KeyHeard) -> None:
        """A key came or went; several may have the same name."""
        match fact:
            case KeyCreated():
                if fact.key_id not in self._keys:
                    self._keys[fact.key_id] = person(fact.name)
                    self._people[person(fact.name)] += 1
            case KeyRevoked():
                name = self._keys.pop(fact.key_id, None)
                if name is not None:
                    self._people[name] -= 1
            case _:
                assert_never(fact)

    def knows(self, party: Party) -> bool:
        """Whether there is such a bot, or such a person."""
        return self._people[party] > 0 if is_person(party) else BotId(party) in self.bots

    def nearest(self, party: Party) -> list[str]:
        """The names that are most like it."""
        names = [name for name, keys in self._people.items() if keys > 0] if is_person(party) else self.bots
        return get_close_matches(party, names, n=NEAREST_MAX)

    def selected(self, sender: Party, pool: str | None, kind: str | None) -> tuple[BotId, ...]:
        """The bots of a pool and of a task type, or all of them, but not the sender; by name."""
        return tuple(
            sorted(
                bot_id
                for bot_id, spec in self.bots.items()
                if Party(bot_id) != sender and (pool is None or spec.pool == pool) and _does(spec, kind)
            )
        )


def _does(spec: BotSpec, kind: str | None) -> bool:
    """A bot without types does all of them."""
    return kind is None or not spec.types or kind in {each.value for each in spec.types}
