"""Which ranges of an object to ask for, and how far ahead of the reader. Pure.

A reader that jumps gets what it asks for and not much more. One that goes forward gets a window of blocks before
it that grows with the distance it has gone, so that at most about three times what was read is ever fetched, up to
a window that keeps the wire busy: a few blocks where answers come at once, many where they take time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..protocol.values import ByteSpan

KIB, MIB = 1 << 10, 1 << 20

# The first request, which also tells size and ETag; and the least that a request for a few bytes asks for.
FIRST_BYTES = 64 * KIB
# A step over so few bytes is still going forward: the bytes between are fetched along.
SKIP_BYTES = 64 * KIB
# From here on bytes are not read into a block and copied but land in the caller's memory.
DIRECT_BYTES = MIB

MAX_LEFTOVER_BYTES = 64 * KIB
MAX_LEFTOVERS = 16

_MAX_PIECE_BYTES = 8 * MIB
_MAX_BLOCK_BYTES = 4 * MIB
# A request costs both sides as much as some 100 KiB. Where answers come at once, few requests in flight keep the wire
# busy, and are large; where they take time, all that may be are needed, and are small if need be.
_SHORT_SECONDS = 0.002
# Who answers so soon is on this machine or next to it; OSS itself takes longer.
_LOCAL_SECONDS = 0.001


class Pace(NamedTuple):
    """How to read ahead: in blocks of how many bytes, and how many bytes beyond what is asked for."""

    block_bytes: int
    ahead_bytes: int


def pace(run_bytes: int, *, latency_seconds: float, concurrency: int) -> Pace:
    """Return how to read ahead for a reader that has gone forward for `run_bytes`, 0 if it has just jumped."""
    if latency_seconds < _SHORT_SECONDS:
        window = 16 * MIB
    elif latency_seconds < 0.010:
        window = 48 * MIB
    else:
        window = 96 * MIB
    ahead = min(2 * run_bytes, window, concurrency * _MAX_BLOCK_BYTES)
    block = 1 << max(ahead // 4, 1).bit_length() - 1
    return Pace(min(max(block, FIRST_BYTES), _MAX_BLOCK_BYTES), ahead)


def next_stop(reached: int, wanted: ByteSpan, plan: Pace, size_bytes: int) -> int:
    """Return up to where to fetch for who wants `wanted`, when what lies before `reached` has been asked for.

    That is the end of a block, unless the object ends there or `wanted` goes on beyond what was asked for.
    """
    stop = wanted.stop + plan.ahead_bytes
    if wanted.start >= reached:
        stop = max(stop, reached + FIRST_BYTES)
    if stop >= size_bytes:
        return size_bytes
    if wanted.stop <= reached:
        stop -= (stop - reached) % plan.block_bytes
    return max(stop, reached)


def landing_ahead_bytes(run_bytes: int, *, latency_seconds: float) -> int:
    """Return how much to fetch beyond a large read that lands in the caller's memory.

    What is ahead has to be copied later, so no more than keeps a 1.5 GB/s wire busy until the next read.
    """
    window = 64 * MIB if latency_seconds > 0.040 else max(int(latency_seconds * 1.5e9), 2 * MIB)
    return min(2 * run_bytes, window)


def cut(span: ByteSpan, piece_bytes: int) -> list[ByteSpan]:
    """Return `span` in pieces of `piece_bytes`; the last one has the rest."""
    starts = range(span.start, span.stop, piece_bytes)
    return [ByteSpan(start, min(start + piece_bytes, span.stop)) for start in starts]


def piece_bytes(size_bytes: int, concurrency: int, *, latency_seconds: float = math.inf) -> int:
    """Return the size of the ranges that a large read is cut into: one for each request in flight, 1 to 8 MiB.

    As large as that where answers come at once: there one connection brings all that the machine can take.
    """
    least = _MAX_PIECE_BYTES if latency_seconds < _LOCAL_SECONDS else MIB
    even = -(-size_bytes // concurrency)
    return min(max(even, least), _MAX_PIECE_BYTES)


def lone_span(position: int, wanted_bytes: int, size_bytes: int) -> ByteSpan:
    """Return the range for a read by one who jumps: what is wanted, 64 KiB at least; near the end, the end.

    (Formats with a directory at the end are read backwards from there.)
    """
    if position >= size_bytes - FIRST_BYTES:
        return ByteSpan(max(size_bytes - FIRST_BYTES, 0), size_bytes)
    return ByteSpan(position, min(position + max(wanted_bytes, FIRST_BYTES), size_bytes))


def leftovers(missing: list[ByteSpan], size_bytes: int) -> list[ByteSpan]:
    """Return those ranges that should be fetched only to check the whole: all, if they are few and little, or none."""
    little = sum(span.size for span in missing) <= min(MAX_LEFTOVER_BYTES, size_bytes // 16)
    return missing if little and len(missing) <= MAX_LEFTOVERS else []
