"""How large the parts of an upload are, and how many are enough at a time. A part is as large as configured, but

- so small that one fits the memory while another is sent,
- smaller where parts take long, so that the last ones end soon,
- so large that 10,000 parts, OSS's limit, carry any object.
"""

from __future__ import annotations

import math

from ..client.limits import enough_transfers, expected_seconds_per_byte

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_PARTS = 10_000
MIN_PART_BYTES = 100 * KIB
MAX_PART_BYTES = 5 * GIB
LEAST_PARTS = 8
SLOW_PART_SECONDS, SLOW_PART_BYTES = 0.1, 5 * MIB


def first_part_bytes(configured_bytes: int, memory_bytes: int) -> int:
    """Return the size of the first part: as configured, but small enough to fill one part while another is sent."""
    return min(max(min(configured_bytes, memory_bytes // 2), MIN_PART_BYTES), MAX_PART_BYTES)


def next_part_bytes(first_bytes: int, sent_bytes: int, *, seconds_per_byte: float = 0.0) -> int:
    """Return the size of the part after `sent_bytes`, when the first had `first_bytes`: 10,000 parts must be enough.

    If even the quickest part so far, which took `seconds_per_byte`, was slow, parts are smaller: the last ones end
    sooner, and less memory is under way. After 100 parts of the first size the end is a small share of the upload.
    """
    is_slow = SLOW_PART_SECONDS <= seconds_per_byte * first_bytes < math.inf
    if is_slow and sent_bytes <= 100 * first_bytes:
        return min(first_bytes, SLOW_PART_BYTES)
    grown = -(-sent_bytes // (1000 * MIB)) * MIB if sent_bytes > 1000 * first_bytes else 0
    return min(max(first_bytes, grown), MAX_PART_BYTES)


def enough_parts(seconds_per_byte: float) -> int:
    """Return how many parts under way are enough, when the quickest part so far took `seconds_per_byte`.

    At least 8, since the first part may be quicker than those after it.
    """
    return max(enough_transfers(seconds_per_byte), LEAST_PARTS)


class PartTimes:
    """What the parts of one upload have taken so far. Before one has ended, the upload's first answer tells something.

    A loop thread calls `note_creation`, the upload's own thread the rest: either value will do.
    """

    def __init__(self) -> None:
        self._expected = self._quickest = math.inf  # seconds per byte

    def note_creation(self, seconds: float) -> None:
        """OSS took so long to begin the upload: a server that is far away carries a part as slowly as others do."""
        self._expected = expected_seconds_per_byte(seconds)

    def note(self, seconds: float, size_bytes: int) -> None:
        """A part has ended."""
        self._quickest = min(self._quickest, seconds / max(size_bytes, 1))

    def next_part_bytes(self, first_bytes: int, sent_bytes: int) -> int:
        """Return the size of the part after `sent_bytes`, when the first had `first_bytes`."""
        known = self._expected if self._quickest == math.inf else self._quickest
        return next_part_bytes(first_bytes, sent_bytes, seconds_per_byte=known)

    @property
    def enough(self) -> int:
        """How many parts under way are enough for the network."""
        return enough_parts(self._quickest)
