"""Which ranges of an object to ask for, and how far ahead of the reader.

A reader that jumps gets what it asks for and not much more. One that goes forward gets a window of blocks before it.
The window grows with the distance that the reader has gone, so that in all about three times the bytes read are
fetched at most. It stops growing where it keeps the network busy: at a few blocks if latency is low, at many if high.
A file of `torch.save` is read whole, so its window is large at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..client.limits import EXPECTED_BYTES_PER_SECOND, FAR_SECONDS
from ..protocol.values import ByteSpan

KIB, MIB = 1 << 10, 1 << 20

# The size of the first request, which also brings size and ETag; and of the smallest request for a few bytes.
FIRST_BYTES = 64 * KIB
# A reader that skips at most this many bytes still goes forward; the skipped bytes are fetched too.
SKIP_BYTES = 64 * KIB
# A gap of this size or more is not read into a block and copied, but straight into the caller's memory.
DIRECT_BYTES = MIB

MAX_LEFTOVER_BYTES = 64 * KIB
MAX_LEFTOVERS = 16

_USUAL_REQUEST_BYTES, _MAX_REQUEST_BYTES = 8 * MIB, 12 * MIB
_MAX_BLOCK_BYTES = 4 * MIB
# Far away, a block of half the size comes sooner, and twice as many connections bring a window of the same memory.
_MAX_FAR_BLOCK_BYTES = 2 * MIB
_MAX_WINDOW_BYTES = 96 * MIB
# A request costs client and server about as much as 100 KiB of data. At low latency a few large requests keep the
# network busy. At high latency it takes as many as may be under way, small ones if need be.
SHORT_SECONDS = 0.002
# A server with this latency is on this machine or next to it. That of OSS is higher.
_LOCAL_SECONDS = 0.001


class ReadAheadPlan(NamedTuple):
    """How to read ahead: in blocks of `block_bytes`, up to `ahead_bytes` beyond the bytes that are asked for."""

    block_bytes: int
    ahead_bytes: int


def plan_read_ahead(run_bytes: int, *, latency_seconds: float, concurrency: int) -> ReadAheadPlan:
    """Return how to read ahead for a reader that has gone forward for `run_bytes`, 0 if it has just jumped."""
    most = _MAX_BLOCK_BYTES
    if latency_seconds < SHORT_SECONDS:
        window = 16 * MIB
    elif latency_seconds < FAR_SECONDS:
        window = 48 * MIB
    else:
        window, most = _MAX_WINDOW_BYTES, _MAX_FAR_BLOCK_BYTES
    ahead = min(2 * run_bytes, window, concurrency * most)
    block = 1 << max(ahead // 4, 1).bit_length() - 1
    return ReadAheadPlan(min(max(block, FIRST_BYTES), most), ahead)


def next_stop(reached: int, wanted: ByteSpan, plan: ReadAheadPlan, size_bytes: int) -> int:
    """Return where to stop fetching for a read of `wanted`, when all before `reached` has been asked for.

    That is the end of a block, unless the object ends there or `wanted` goes beyond `reached`.
    """
    stop = wanted.stop + plan.ahead_bytes
    if wanted.start >= reached:
        stop = max(stop, reached + FIRST_BYTES)
    if stop >= size_bytes:
        return size_bytes
    if wanted.stop <= reached:
        stop -= (stop - reached) % plan.block_bytes
    return max(stop, reached)


def prefetch_behind_bytes(run_bytes: int, *, latency_seconds: float) -> int:
    """Return how much to fetch behind a large read that goes straight into the caller's memory.

    Bytes that are fetched ahead must be copied later. So this is only as much as keeps a network of 1.5 GB/s busy
    until the next read. Far away, a block takes the time that its connection needs for it, too.
    """
    seconds = latency_seconds
    if seconds >= FAR_SECONDS:
        seconds += _MAX_FAR_BLOCK_BYTES / EXPECTED_BYTES_PER_SECOND
    return int(min(2 * run_bytes, max(seconds * 1.5e9, 2 * MIB), _MAX_WINDOW_BYTES))


def cut(span: ByteSpan, each_bytes: int) -> list[ByteSpan]:
    """Return `span` cut into spans of `each_bytes`; the last one has the rest."""
    starts = range(span.start, span.stop, each_bytes)
    return [ByteSpan(start, min(start + each_bytes, span.stop)) for start in starts]


def request_bytes(size_bytes: int, concurrency: int, *, latency_seconds: float = math.inf) -> int:
    """Return the size of the spans that a large read is cut into, 1 to 12 MiB: one for each request under way.

    If that is more than some 8 MiB, each connection carries two, three ... of them: all connections end together.

    It is 8 MiB if the server is near: then one connection brings as much as the machine can take.
    """
    if latency_seconds < _LOCAL_SECONDS:
        return _USUAL_REQUEST_BYTES
    rounds = max(round(size_bytes / concurrency / _USUAL_REQUEST_BYTES), 1)
    return min(max(-(-size_bytes // (rounds * concurrency)), MIB), _MAX_REQUEST_BYTES)


def begins_torch_archive(head: memoryview) -> bool:
    """Say whether an object that begins with these bytes was written by `torch.save`: its first file is `data.pkl`.

    `torch.load` reads a few bytes at its beginning, then the directory at its end, then all of it from the front.
    """
    name_bytes = int.from_bytes(head[26:28], "little")
    return bytes(head[:4]) == b"PK\x03\x04" and bytes(head[30 : 30 + name_bytes]).endswith(b"/data.pkl")


def random_span(position: int, wanted_bytes: int, size_bytes: int) -> ByteSpan:
    """Return the span to ask for when a reader has jumped: what it wants, 64 KiB at least.

    Near the end it is the last 64 KiB: formats with a directory at the end are read backwards from there.
    """
    if position >= size_bytes - FIRST_BYTES:
        return ByteSpan(max(size_bytes - FIRST_BYTES, 0), size_bytes)
    return ByteSpan(position, min(position + max(wanted_bytes, FIRST_BYTES), size_bytes))


def leftovers(missing: list[ByteSpan], size_bytes: int) -> list[ByteSpan]:
    """Return the spans to fetch only to check the whole: all that are missing if that is little, or none."""
    is_little = sum(span.size for span in missing) <= min(MAX_LEFTOVER_BYTES, size_bytes // 16)
    return missing if is_little and len(missing) <= MAX_LEFTOVERS else []
