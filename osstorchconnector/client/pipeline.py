"""Many requests in flight, results in order: the one parallel pipeline that everything is fetched through.

    consumer's thread                        WorkQueue                loop threads
    Pipeline.__next__ ── takes from source ──> items   ──> Lane: worker coroutines, `await work(item)` each
                      <─ waits for `wakeup` ── results <──

The consumer takes items from the source and appends them to a queue. The workers of one or more `Lane`s, one for each
loop thread (`lanes`), take them from there and store their results in a dictionary. To wake a thread for each object
would cost more than to fetch a small one. So a worker wakes the consumer only for the result that it waits for, and a
millisecond late if there is work left: then it finds several results. The consumer wakes workers only when they ran out
of items.

No lock is taken. A thread that is about to sleep first says so (`awaited`, `_sleepers`), then looks once more. A thread
that adds something first adds it, then looks whether the other one sleeps. The GIL makes all threads see these steps in
one order, so at least one of the two sees the other. Free-threaded Python would need a fence between the two steps.

What is taken from the source and not yet consumed is bounded in number (`window`) and in bytes (`max_bytes` of
`weight`): a slow consumer stops the fetching, and so does a slow first result, later.

The number in flight may be a `Limiter`. Then the first lane counts what ends, and its loop thread judges each round.
The consumer's thread applies another limit: it alone changes widths of lanes and the window, and is woken for it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from ..errors import OssUsageError
from .engine import LoopThread, engine
from .lanes import Lane, Raised, WorkQueue
from .limiter import Limiter

T = TypeVar("T")
R = TypeVar("R")

# From this size on results are worth a second thread. To receive a smaller one is mostly Python, which threads can only
# do in turns: two took a third longer for objects of 110 KB than one, and as long for those of 4 MiB (measured).
SPREAD_BYTES = 4 << 20
_REMEMBERED = 16
# A result that takes eight times as long as the others does not stop them.
_MOST_WINDOW_SHARE = 16

_MISSING: Any = object()


class Pipeline(Iterator[R], Generic[T, R]):
    """Iterate over `await work(item)` for each item of `items`, `concurrency` at a time, or as many as a limiter says.

    In the order of the items unless `in_order` is false. An exception of `work` is raised at its place, and iteration
    may go on after it; an exception of `items` is raised after the results of all items before it. `close()`, which
    also happens when the iterator is dropped, abandons what is in flight. With `size`, the bytes of a result, one of
    the threads does all the work as long as results are small. `item` is the one whose result has come last.

    `window` is twice the concurrency if it is not given. With a limiter that adapts it is longer while results wait for
    a late one before them.
    """

    item: T

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(
        self,
        lanes: list[tuple[LoopThread, Callable[[T], Awaitable[R]]]],
        items: Iterable[T],
        *,
        concurrency: int | Limiter,
        window: int | None = None,
        in_order: bool = True,
        weight: Callable[[T], int] | None = None,
        max_bytes: int | None = None,
        size: Callable[[R], int] | None = None,
    ) -> None:
        self._work_queue: WorkQueue[T, R] = WorkQueue(in_order)
        self._limiter = concurrency if isinstance(concurrency, Limiter) else None
        self._concurrency = concurrency.limit if isinstance(concurrency, Limiter) else concurrency
        self._is_spread = size is None
        self._widths = _even(self._concurrency, len(lanes))
        widths = self._widths if self._is_spread else [self._concurrency] + [0] * (len(lanes) - 1)
        limiters = [self._limiter if len(lanes) == 1 or not self._is_spread else None] + [None] * (len(lanes) - 1)
        self._lanes = [
            Lane(thread, self._work_queue, work, width, limiter)
            for (thread, work), width, limiter in zip(lanes, widths, limiters, strict=True)
        ]
        self._size, self._mean_bytes = size, 0.0
        self._source = iter(items)
        self._source_end: BaseException | None = None
        self._window_share = 2  # of the concurrency
        self._window = window or self._window_share * self._concurrency
        self._wake_at = max(1, self._window // 4)
        self._weight, self._max_bytes = weight, max_bytes
        self._held_back: T = _MISSING  # taken from the source, too heavy until others have gone
        self._out: dict[int, tuple[T, int]] = {}  # items whose results have not been given out, and their weights
        self._bytes_out = 0
        self._taken = self._given = 0
        self._pid = engine.pid
        self._is_closed = False

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if self._pid != engine.pid:
            raise OssUsageError("this iterator was begun in another process: make a new one here")
        if self._is_closed:
            raise StopIteration
        self._top_up()
        number, results = self._given, self._work_queue.results
        if number == self._taken:
            self._end()
        if number in results and self._work_queue.in_order:
            result = results[number]
            del results[number]
        else:
            number, result = self._next_result()
        self._given += 1
        self.item, weight = self._out[number]
        del self._out[number]
        self._bytes_out -= weight
        if isinstance(result, Raised):
            try:
                raise result.error
            finally:
                del result  # drop the reference cycle: exception -> traceback -> this frame -> exception
        if self._size is not None:
            self._mean_bytes += (self._size(result) - self._mean_bytes) / _REMEMBERED
            if (self._mean_bytes >= SPREAD_BYTES) != self._is_spread:
                self._spread(not self._is_spread)
        return result

    def begin(self) -> None:
        """Send the first requests now, before a result is asked for."""
        self._top_up()
        self._wake_lanes()

    def close(self) -> None:
        """Abandon what is in flight and close the source."""
        if self._is_closed or self._is_exiting():
            return
        self._is_closed = True
        self._work_queue.items.clear()
        if self._pid == engine.pid:
            for lane in self._lanes:
                lane.thread.call(lane.stop)
        if self._limiter is not None:
            self._limiter.close()
        close_source = getattr(self._source, "close", None)
        self._source = iter(())  # a source without `close` ends here, when nobody else has it
        if close_source is not None:
            close_source()

    def __del__(self) -> None:
        if hasattr(self, "_is_closed"):
            self.close()

    def _spread(self, is_spread: bool) -> None:
        """Let all lanes share the work, or the first do it."""
        self._is_spread = is_spread
        if self._limiter is not None:
            self._limiter.is_paused = is_spread
        first = self._lanes[0]
        for lane, width in zip(self._lanes[1:], self._widths[1:], strict=True):
            giver, taker = (first, lane) if is_spread else (lane, first)
            giver.thread.call(giver.move_workers_to, taker, width)

    def _end(self) -> None:
        error, self._source_end = self._source_end, StopIteration()
        self.close()
        try:
            raise StopIteration if error is None or isinstance(error, StopIteration) else error
        finally:
            del error  # drop the reference cycle: exception -> traceback -> this frame -> exception

    def _next_result(self) -> tuple[int, R | Raised]:
        work_queue = self._work_queue
        while True:
            number = self._given if work_queue.in_order else self._first_finished()
            result = work_queue.results.pop(number, _MISSING)
            if result is not _MISSING:
                return number, result
            if self._limiter is not None and self._limiter.adapts:
                self._follow_limit(self._limiter.limit)
            self._wake_lanes()
            work_queue.awaited = self._given
            if (self._given in work_queue.results) if work_queue.in_order else work_queue.finished:
                work_queue.awaited = -1
                continue
            try:
                work_queue.wakeup.get()
            finally:
                work_queue.awaited = -1

    def _follow_limit(self, limit: int) -> None:
        """Apply the limit to lanes and window. The window grows, too, if the workers are out of items."""
        if limit != self._concurrency:
            widths = _even(limit, len(self._lanes))
            changes = [new - old for new, old in zip(widths, self._widths, strict=True)]
            if not self._is_spread:
                changes = [sum(changes)] + [0] * (len(changes) - 1)
            for lane, change in zip(self._lanes, changes, strict=True):
                if change:
                    lane.thread.call(lane.resize, change)
            self._concurrency, self._widths = limit, widths
        elif self._is_starved() and self._window_share < _MOST_WINDOW_SHARE:
            self._window_share *= 2
        else:
            return
        self._window = self._window_share * limit
        self._wake_at = max(1, self._window // 4)
        self._top_up()

    def _is_starved(self) -> bool:
        """Say whether all that waits for a late result keeps half of the workers from going on."""
        work_queue = self._work_queue
        return (
            not work_queue.items
            and self._taken - self._given >= self._window
            and 2 * len(work_queue.results) > self._window
        )

    def _first_finished(self) -> int:
        finished = self._work_queue.finished
        return finished.popleft() if finished else -1

    def _top_up(self) -> None:
        """Hand over items of the source until the window is full, or there is none, or the next one is too heavy."""
        work_queue, weight = self._work_queue, 0
        while self._taken - self._given < self._window:
            if self._held_back is not _MISSING:
                item, self._held_back = self._held_back, _MISSING
            elif self._source_end is not None:
                break
            else:
                try:
                    item = next(self._source)
                except StopIteration:
                    self._source_end = StopIteration()  # not the caught one, whose traceback refers to this frame
                    work_queue.is_ended = True
                    break
                except Exception as error:
                    self._source_end = error
                    work_queue.is_ended = True
                    break
            if self._max_bytes is not None and self._weight is not None:
                weight = self._weight(item)
                if self._bytes_out + weight > self._max_bytes and self._taken != self._given:
                    self._held_back = item
                    break
                self._bytes_out += weight
            self._out[self._taken] = item, weight
            work_queue.items.append((self._taken, item))
            self._taken += 1
        else:
            if not work_queue.is_hungry or len(work_queue.items) < self._wake_at:
                return
        self._wake_lanes()

    def _wake_lanes(self) -> None:
        if self._work_queue.items:
            self._work_queue.is_hungry = False
            for lane in self._lanes:
                lane.wake()


def _even(count: int, shares: int) -> list[int]:
    """Return how many of `count` each gets."""
    return [len(range(number, count, shares)) for number in range(shares)]
