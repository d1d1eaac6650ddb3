"""How large the parts of a multipart upload are, and how many of them are sent at a time. Pure.

How much will be written is not known beforehand, and OSS takes 10,000 parts. So parts grow: each is at least a
thousandth of what was sent before it, which lets 10,000 of them carry 20 TB when they begin with 16 MiB.
"""

from __future__ import annotations

import math

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_PARTS = 10_000
MIN_PART_BYTES = 100 * KIB
MAX_PART_BYTES = 5 * GIB
FULL_BYTES_PER_SECOND = 4e9
LEAST_PARTS = 8


def first_part_bytes(configured_bytes: int, memory_bytes: int) -> int:
    """Return the size to begin with: as configured, but so that one part can be filled while another is sent."""
    return min(max(min(configured_bytes, memory_bytes // 2), MIN_PART_BYTES), MAX_PART_BYTES)


def next_part_bytes(first_bytes: int, sent_bytes: int) -> int:
    """Return the size of the part that comes after `sent_bytes` in parts that began with `first_bytes`."""
    grown = -(-sent_bytes // (1000 * MIB)) * MIB if sent_bytes > 1000 * first_bytes else 0
    return min(max(first_bytes, grown), MAX_PART_BYTES)


def enough_parts(seconds_per_byte: float) -> int:
    """Return how many parts under way are enough, when the quickest so far took so long for each of its bytes.

    With these the wire carries 4 GB/s if each part is as quick as that one was, which is more than one process can
    fill: 26 of them where a part of 16 MiB takes a tenth of a second. They are 8 at least, since a first part may be
    quicker than those after it.
    """
    return max(2 + math.ceil(min(FULL_BYTES_PER_SECOND * seconds_per_byte, MAX_PARTS)), LEAST_PARTS)
