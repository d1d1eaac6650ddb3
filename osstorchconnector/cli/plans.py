"""What a copy of many items does, decided from two listings. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from .places import Item

# A local file's time may be cut to whole seconds, as OSS's is.
_SAME_TIME_SECONDS = 1.0


class OverwriteRule(Enum):
    """What to do about an item that the target has already."""

    REFUSE = "refuse"
    REPLACE = "replace"
    UPDATE = "update"


class Filter(NamedTuple):
    """Patterns of names, as a shell has them; `*` also matches `/`. The exclusions count more."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def takes(self, name: str) -> bool:
        """Whether an item of this name is meant."""
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        return not self.include or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.include)


class Decision(NamedTuple):
    """Whether an item is transferred; if not, `conflict` says that the user has to decide."""

    item: Item
    transfers: bool
    conflict: bool = False


def decisions(sources: Iterable[Item], targets: Mapping[str, Item], rule: OverwriteRule) -> Iterator[Decision]:
    """Yield what to do with each item of the source."""
    for item in sources:
        there = targets.get(item.name)
        if there is None or rule is OverwriteRule.REPLACE:
            yield Decision(item, True)
        elif rule is OverwriteRule.UPDATE:
            yield Decision(item, is_outdated(there, item))
        else:
            yield Decision(item, False, conflict=True)


def is_outdated(target: Item, source: Item) -> bool:
    """Whether the target is another version than the source: of another size, or older."""
    return target.size != source.size or source.modified > target.modified + _SAME_TIME_SECONDS


def superfluous(sources: Iterable[str], targets: Iterable[str], names: Filter) -> list[str]:
    """Return the names that only the target has, among those that the filter takes."""
    kept = set(sources)
    return sorted(name for name in targets if name not in kept and names.takes(name))
