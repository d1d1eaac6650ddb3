"""How large the parts of a multipart upload are. Pure.

How much will be written is not known beforehand, and OSS takes 10,000 parts. So parts grow: each is at least a
thousandth of what was sent before it, which lets 10,000 of them carry 20 TB when they begin with 16 MiB.
"""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_PARTS = 10_000
MIN_PART_BYTES = 100 * KIB
MAX_PART_BYTES = 5 * GIB


def first_part_bytes(configured_bytes: int, memory_bytes: int) -> int:
    """Return the size to begin with: as configured, but so that one part can be filled while another is sent."""
    return min(max(min(configured_bytes, memory_bytes // 2), MIN_PART_BYTES), MAX_PART_BYTES)


def next_part_bytes(first_bytes: int, sent_bytes: int) -> int:
    """Return the size of the part that comes after `sent_bytes` in parts that began with `first_bytes`."""
    grown = -(-sent_bytes // (1000 * MIB)) * MIB if sent_bytes > 1000 * first_bytes else 0
    return min(max(first_bytes, grown), MAX_PART_BYTES)
