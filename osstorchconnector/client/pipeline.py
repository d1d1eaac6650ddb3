"""Many requests in flight, results in order: the one parallel pipeline that everything fetches through.

The consumer's thread takes items from the source and puts them on a queue; worker coroutines on one or more loop
threads (`lanes`) take them from there, without asking anybody, and put their results on a table. The consumer is woken
only when it waits for the result that has just come in, and the workers only when they have run out of items: handing
each object over by itself would cost more than fetching a small one. So the consumer sleeps for a millisecond more
while there is work left for the workers, and then finds several results.

What is taken from the source and not yet consumed is bounded in number (`window`) and in bytes (`max_bytes` of
`weight`), so a slow consumer stops the fetching and a slow first result stops it too, later.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from ..errors import OssUsageError
from .engine import LoopThread

T = TypeVar("T")
R = TypeVar("R")

RING_SECONDS = 0.001

# Lanes with workers. Without this nobody but the pipeline itself would hold workers that sleep: if it became garbage in
# a cycle, they would be garbage as well, and asyncio complains of each.
_manned: set[Any] = set()


class Failure:
    """An exception on its way to the consumer."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Board(Generic[T, R]):
    """What consumer and lanes share; it knows neither, so that dropping the consumer ends the lanes."""

    def __init__(self, in_order: bool) -> None:
        self.items: deque[tuple[int, T]] = deque()
        self.results: dict[int, R | Failure] = {}
        self.finished: deque[int] = deque()  # numbers of results, in the order of completion
        self.in_order = in_order
        self.awaited = -1  # the number the consumer sleeps for; -1 while it is awake
        self.bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, number: int, result: R | Failure) -> bool:
        """Store a result; True if the consumer sleeps and this is what it sleeps for."""
        self.results[number] = result
        if not self.in_order:
            self.finished.append(number)
            return self.awaited >= 0
        return number == self.awaited


class Lane(Generic[T, R]):
    """The share of one loop thread: up to `width` worker coroutines. All but `wake` run on the loop."""

    def __init__(
        self,
        thread: LoopThread,
        board: Board[T, R],
        work: Callable[[T], Awaitable[R]],
        width: int,
    ) -> None:
        self.thread = thread
        self._board = board
        self._work = work
        self._width = width
        self._is_stopped = self._is_woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: list[Lane[T, R]] = []  # one for each place that is to go elsewhere, and where it goes
        self._sleepers: list[asyncio.Future[None]] = []
        self._ringing: asyncio.Handle | None = None

    def wake(self) -> None:
        """Have `feed` called, once for all items that come before it is, if workers sleep or could be started.

        Called on the consumer's thread.
        """
        if not self._is_woken and (self._sleepers or len(self._tasks) < self._width):
            self._is_woken = True
            self.thread.call(self.feed)

    def feed(self) -> None:
        """Let as many workers run as there are items."""
        self._is_woken = False
        wanted = len(self._board.items)
        if self._width:
            _manned.add(self)
        while wanted > 0 and self._sleepers:
            sleeper = self._sleepers.pop()
            if not sleeper.done():
                sleeper.set_result(None)
                wanted -= 1
        while wanted > 0 and len(self._tasks) < self._width:
            self._tasks.add(asyncio.get_running_loop().create_task(self._serve()))
            wanted -= 1

    def give(self, other: Lane[T, R], places: int) -> None:
        """Let `other` have so many of the workers; those at work here go when they have done what they have in hand."""
        self._leaving += [other] * places
        while self._leaving and len(self._tasks) < self._width:
            self._move_one()

    def stop(self) -> None:
        """End the workers; what they have in flight is abandoned."""
        self._is_stopped = True
        self._width = 0
        self._leaving.clear()
        _manned.discard(self)
        for task in self._tasks:
            task.cancel()
        self._tasks = set()

    async def _serve(self) -> None:
        loop, board, work = asyncio.get_running_loop(), self._board, self._work
        items = board.items
        while not self._is_stopped:  # a cancellation can get lost: wait_for swallows it, before Python 3.12
            if self._leaving:
                self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
                self._move_one()
                self.feed()  # who was woken for an item must not take the wake-up along
                return
            try:
                number, item = items.popleft()
            except IndexError:
                if self._ringing is not None:  # the consumer is what everybody waits for
                    self._ring()
                sleeper = loop.create_future()
                self._sleepers.append(sleeper)
                if items:  # the consumer has put them there meanwhile, and saw nobody asleep
                    self._sleepers.remove(sleeper)
                else:
                    await sleeper
                continue
            result: R | Failure
            try:
                result = await work(item)
            except Exception as error:
                result = Failure(error)
            del item
            if board.put(number, result) and self._ringing is None:
                # Not at once: to wake a thread takes as long as a small object, and in a moment there are more.
                self._ringing = loop.call_later(RING_SECONDS, self._ring)
            del result

    def _move_one(self) -> None:
        self._width -= 1
        other = self._leaving.pop()
        other.thread.call(other._admit)

    def _admit(self) -> None:
        if self._is_stopped:
            return
        self._width += 1
        if self._leaving:
            self._move_one()
        else:
            self.feed()

    def _ring(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
            self._ringing = None
        self._board.bell.put(None)


# Results of this size and more are worth a second thread. To receive a smaller one is mostly Python, which threads can
# only do in turns: two took a third longer for objects of 110 KB than one, and as long for those of 4 MiB (measured).
SPREAD_BYTES = 4 << 20
_REMEMBERED = 16

_MISSING: Any = object()


class Pipeline(Iterator[R], Generic[T, R]):
    """Iterate over `await work(item)` for each item of `items`, `concurrency` at a time.

    In the order of the items unless `in_order` is false. An exception of `work` is raised at its place, and iteration
    may go on after it; an exception of `items` is raised after the results of all items before it. `close()`, which
    also happens when the iterator is dropped, abandons what is in flight. With `size`, the bytes of a result, one of
    the threads does all the work as long as results are small.
    """

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(
        self,
        lanes: list[tuple[LoopThread, Callable[[T], Awaitable[R]]]],
        items: Iterable[T],
        *,
        concurrency: int,
        window: int,
        in_order: bool = True,
        weight: Callable[[T], int] | None = None,
        max_bytes: int | None = None,
        size: Callable[[R], int] | None = None,
    ) -> None:
        self._board: Board[T, R] = Board(in_order)
        self._widths = [len(range(i, concurrency, len(lanes))) for i in range(len(lanes))]
        widths = self._widths if size is None else [concurrency] + [0] * (len(lanes) - 1)
        self._lanes = [
            Lane(thread, self._board, work, width) for (thread, work), width in zip(lanes, widths, strict=True)
        ]
        self._size, self._mean_bytes, self._is_spread = size, 0.0, size is None
        self._source = iter(items)
        self._source_end: BaseException | None = None
        self._window, self._wake_at = window, max(1, window // 4)
        self._weight, self._max_bytes = weight, max_bytes
        self._held_back: list[T] = []  # at most one: taken from the source, too heavy until others have gone
        self._weights: dict[int, int] = {}
        self._bytes_out = 0
        self._taken = self._given = 0
        self._pid = os.getpid()
        self._is_closed = False

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if self._pid != os.getpid():
            raise OssUsageError("this iterator was begun in another process: make a new one here")
        if self._is_closed:
            raise StopIteration
        self._top_up()
        if self._given == self._taken:
            self._end()
        number, result = self._next_result()
        self._given += 1
        if self._max_bytes is not None:
            self._bytes_out -= self._weights.pop(number)
        if isinstance(result, Failure):
            try:
                raise result.error
            finally:
                del result  # its error knows this frame
        if self._size is not None:
            self._learn(self._size(result))
        return result

    def begin(self) -> None:
        """Send the first requests now, before anybody asks for a result."""
        self._top_up()
        self._wake_lanes()

    def close(self) -> None:
        """Abandon what is in flight and let the source go."""
        if self._is_closed or self._is_exiting():
            return
        self._is_closed = True
        self._board.items.clear()
        if self._pid == os.getpid():
            for lane in self._lanes:
                lane.thread.call(lane.stop)
        close_source = getattr(self._source, "close", None)
        if close_source is not None:
            close_source()

    def __del__(self) -> None:
        if hasattr(self, "_is_closed"):
            self.close()

    def _learn(self, size_bytes: int) -> None:
        """Let all lanes share the work, or the first do it, as the sizes of the last results suggest."""
        self._mean_bytes += (size_bytes - self._mean_bytes) / _REMEMBERED
        is_spread = self._mean_bytes >= SPREAD_BYTES
        if is_spread != self._is_spread:
            self._is_spread = is_spread
            first = self._lanes[0]
            for lane, width in zip(self._lanes[1:], self._widths[1:], strict=True):
                giver, taker = (first, lane) if is_spread else (lane, first)
                giver.thread.call(giver.give, taker, width)

    def _end(self) -> None:
        error, self._source_end = self._source_end, StopIteration()
        self.close()
        try:
            raise StopIteration if error is None or isinstance(error, StopIteration) else error
        finally:
            del error  # it knows this frame

    def _next_result(self) -> tuple[int, R | Failure]:
        board = self._board
        while True:
            number = self._given if board.in_order else self._first_finished()
            result = board.results.pop(number, _MISSING)
            if result is not _MISSING:
                return number, result
            self._wake_lanes()
            board.awaited = self._given
            if (self._given in board.results) if board.in_order else board.finished:
                board.awaited = -1
                continue
            try:
                board.bell.get()
            finally:
                board.awaited = -1

    def _first_finished(self) -> int:
        finished = self._board.finished
        return finished.popleft() if finished else -1

    def _top_up(self) -> None:
        is_full = True
        while is_full and self._taken - self._given < self._window:
            is_full = self._take()
        if not is_full or len(self._board.items) >= self._wake_at:
            self._wake_lanes()

    def _take(self) -> bool:
        """Put the source's next item on the board; False if there is none, or it is too heavy for now."""
        if not self._held_back:
            if self._source_end is not None:
                return False
            try:
                self._held_back.append(next(self._source))
            except StopIteration:
                self._source_end = StopIteration()  # not the one that knows this frame
                return False
            except Exception as error:
                self._source_end = error
                return False
        if self._max_bytes is not None:
            weight = self._weight(self._held_back[0]) if self._weight is not None else 0
            if self._bytes_out + weight > self._max_bytes and self._taken != self._given:
                return False
            self._weights[self._taken] = weight
            self._bytes_out += weight
        self._board.items.append((self._taken, self._held_back.pop()))
        self._taken += 1
        return True

    def _wake_lanes(self) -> None:
        if self._board.items:
            for lane in self._lanes:
                lane.wake()
