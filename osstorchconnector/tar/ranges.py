"""What the ranges of tars share: memory that is used again, and how far away OSS is."""

from __future__ import annotations

from ..client.limits import FAR_SECONDS
from ..files.read_plan import SHORT_SECONDS
from ..protocol.values import Download

# A range grows up to this size.
RUN_BYTES = 4 << 20
# A range counts for more bytes than it has if OSS is near, so that 16 MiB are ahead then, and 48 MiB in a region.
_NEAR_WEIGHT, _REGION_WEIGHT = 16, 5


class Ranges:
    """What the ranges of one reader share: memory that is used again, and what is known of the way to OSS.

    To have new memory for each range costs about as much time as to receive bytes in it. A range's members are copied
    out of it. Then its memory, still in the processor's cache if there is little of it, takes another range.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._latency_seconds = 0.0

    def take(self) -> bytearray:
        """Return memory of `RUN_BYTES`. Called by loop threads."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(RUN_BYTES)

    def give_back(self, memory: bytearray) -> None:
        """Take back memory that nobody uses any more."""
        self._free.append(memory)

    def note(self, seconds: float) -> None:
        """Take in the time that the first byte of an answer took."""
        least = self._latency_seconds
        self._latency_seconds = min(least, seconds) if least else seconds

    def weight(self, size_bytes: int) -> int:
        """Return for how many bytes a range counts among those that are fetched ahead.

        At low latency it counts for more: then few ranges keep the network busy, and their memory stays in the cache.
        """
        if self._latency_seconds < SHORT_SECONDS:
            return size_bytes * _NEAR_WEIGHT
        return size_bytes if self._latency_seconds >= FAR_SECONDS else size_bytes * _REGION_WEIGHT


class Arrival:
    """What a range has brought, for `members` of them. When each has been copied, its memory is used again."""

    __slots__ = ("_body", "_left", "_memory", "_ranges", "_start", "download", "stop")

    def __init__(self, ranges: Ranges, memory: bytearray | None, download: Download, members: int) -> None:
        self._ranges, self._memory, self._left, self.download = ranges, memory, members, download
        self._start, self.stop = download.span
        self._body = memoryview(download.body if memory is None else memory)[: self.stop - self._start]

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of the tar, as many of them as have come."""
        start = position - self._start
        return bytes(self._body[start : start + size])

    def note_copied(self) -> None:
        """One more member has been copied."""
        self._left -= 1
        memory = self._memory
        if not self._left and memory is not None:
            self._memory, self._body = None, memoryview(b"")
            self._ranges.give_back(memory)
