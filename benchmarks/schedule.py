"""Who is measured when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def turns(contenders: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield (round, contender): each once a round, everybody being first, second and so on in turn.

    Machines grow faster and slower by the minute: what is compared must be measured close together, and no place in
    the round may be better than another.
    """
    for number in range(rounds):
        shift = number % len(contenders) if contenders else 0
        for contender in (*contenders[shift:], *contenders[:shift]):
            yield number, contender
