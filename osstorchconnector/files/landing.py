"""A large read: parallel ranged GETs that land in the caller's memory, with no copy between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from ..client.flight import Flight
from ..client.operations import Operations
from ..protocol.values import ByteSpan, Download

Get = Callable[[Operations, ByteSpan, memoryview], Coroutine[Any, Any, Download]]
Landed = Callable[[Download, memoryview], None]


class Landing:
    """Ranges on their way into their places, `concurrency` at a time.

    Whoever began must `finish` or `abandon`: only then does nothing write to that memory any more.
    `landed` is called on the caller's thread for each range that has come.
    """

    def __init__(self, flight: Flight, get: Get, landed: Landed, *, concurrency: int) -> None:
        self._flight, self._get, self._landed = flight, get, landed
        self._concurrency = concurrency
        self._waiting: deque[tuple[ByteSpan, memoryview]] = deque()
        self._under_way: dict[Future[Download], memoryview] = {}
        self._ended: SimpleQueue[Future[Download]] = SimpleQueue()

    def begin(self, pieces: Iterable[tuple[ByteSpan, memoryview]]) -> None:
        """Start fetching; each view has as many bytes as its span."""
        self._waiting.extend(pieces)
        self._top_up()

    def finish(self, nearly: Callable[[int], None]) -> None:
        """Wait until everything is in place.

        `nearly` is called once, when half of the `concurrency` is free for good, with how much that is. Raises the
        first error of a request; then `abandon` is to be called.
        """
        is_nearly_done = False
        while True:
            self._top_up()
            free = self._concurrency - len(self._under_way)
            if not is_nearly_done and 2 * free >= self._concurrency and not self._waiting:
                is_nearly_done = True
                nearly(free)
            if not self._under_way:
                return
            future = self._ended.get()
            view = self._under_way.pop(future)
            try:
                download = future.result()
            finally:
                del future  # its error knows this frame
            self._landed(download, view)

    def abandon(self) -> None:
        """Stop, and return when the memory is nobody else's any more; raises as `Flight.release`."""
        self._waiting.clear()
        self._flight.stop()
        try:
            self._flight.release()
        finally:
            self._under_way.clear()
            while not self._ended.empty():  # a request in the queue that it is to tell of its end would keep both
                self._ended.get()

    def _top_up(self) -> None:
        while self._waiting and len(self._under_way) < self._concurrency:
            span, view = self._waiting.popleft()
            future = self._flight.start(self._work(span, view))
            self._under_way[future] = view
            future.add_done_callback(self._ended.put)

    def _work(self, span: ByteSpan, view: memoryview) -> Callable[[Operations], Coroutine[Any, Any, Download]]:
        return lambda operations: self._get(operations, span, view)
