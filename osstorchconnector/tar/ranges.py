"""What the ranges of tars share: memory that is used again, how far away OSS is, and the CRC-64 of a tar read whole."""

from __future__ import annotations

import logging

from ..client.client import OssClient
from ..client.limits import FAR_SECONDS
from ..errors import OssError, OssIntegrityError
from ..files.coverage import ReceivedObject
from ..files.read_plan import MAX_LEFTOVER_BYTES, SHORT_SECONDS
from ..protocol.values import Download
from ..uri import OssUri

_logger = logging.getLogger(__name__)

# A range grows up to this size.
RUN_BYTES = 4 << 20
# Bytes between two members that are fetched with them, since a request costs about as much.
GAP_BYTES = 64 << 10
# A range counts for more bytes than it has if OSS is near, so that 16 MiB are ahead then, and 48 MiB in a region.
_NEAR_WEIGHT, _REGION_WEIGHT = 16, 5
# In a chunk that is given out in a random order it counts for this much at most: the next one comes meanwhile.
_CHUNK_WEIGHT = 2


class Ranges:
    """What the ranges of one reader share: memory, what is known of the way to OSS, and which tar is read in order.

    To have new memory for each range costs about as much time as to receive bytes in it. A range's members are copied
    out of it. Then its memory, still in the processor's cache if there is little of it, takes another range.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._latency_seconds = 0.0
        self._followed: ReceivedObject | None = None  # the tar whose ranges have come in order, from its beginning
        self._stop = 0  # of the last of them

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

    def weight(self, size_bytes: int, *, is_of_chunk: bool = False) -> int:
        """Return for how many bytes a range counts among those that are fetched ahead.

        At low latency it counts for more: then few ranges keep the network busy, and their memory stays in the cache.
        That of a chunk does not stay there anyway. Its members leave in another order than its ranges come, so little
        more would be asked for until most of it has left.
        """
        if self._latency_seconds >= FAR_SECONDS:
            return size_bytes
        if is_of_chunk:
            return size_bytes * _CHUNK_WEIGHT
        return size_bytes * (_NEAR_WEIGHT if self._latency_seconds < SHORT_SECONDS else _REGION_WEIGHT)

    def check(self, client: OssClient, uri: OssUri, download: Download) -> None:
        """Take in a range of a tar. When all of its ranges have come in order, its CRC-64 must be the one of OSS.

        The end of a tar, which is zeros, is not fetched for that; headers before the first member are. Raises
        `OssIntegrityError`. If the few bytes can't be fetched, that is only logged. A tar with a member that does not
        come by one range, or whose members come in another order, is not checked.
        """
        stat, span, tar = download.stat, download.span, self._followed
        if stat.crc64 is None:
            return
        if tar is None or tar.uri != uri or tar.etag != stat.etag:
            tar, self._stop = ReceivedObject(uri), 0
        if not 0 <= span.start - self._stop <= GAP_BYTES:
            self._followed = None
            return
        self._followed, self._stop = tar, span.stop
        tar.count(download)
        if stat.size - span.stop <= MAX_LEFTOVER_BYTES:
            self._followed = None
            if not tar.is_whole_with_zeros():
                _check_with_leftovers(client, tar)


def _check_with_leftovers(client: OssClient, tar: ReceivedObject) -> None:
    try:
        for span in tar.leftovers():
            tar.count(tar.check_same(client.get(tar.uri, span, if_match=tar.etag), span))
    except OssIntegrityError:
        raise
    except OssError as error:
        _logger.warning("%s was read but not checked as a whole: %s", tar.uri.shown, error)


class Arrival:
    """What a range has brought, for `members` of them. When each has been copied, its memory is used again.

    `body` is the tar's bytes from `start` to `stop`, until then.
    """

    __slots__ = ("_left", "_memory", "_ranges", "body", "download", "start", "stop")

    def __init__(self, ranges: Ranges, memory: bytearray | None, download: Download, members: int) -> None:
        self._ranges, self._memory, self._left, self.download = ranges, memory, members, download
        self.start, self.stop = download.span
        self.body = memoryview(download.body if memory is None else memory)[: self.stop - self.start]

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of the tar, as many of them as have come."""
        start = position - self.start
        return bytes(self.body[start : start + size])

    def note_copied(self) -> None:
        """One more member has been copied."""
        self._left -= 1
        memory = self._memory
        if not self._left and memory is not None:
            self._memory, self.body = None, memoryview(b"")
            self._ranges.give_back(memory)
