"""Many requests in flight, results in order: the one parallel pipeline that everything is fetched through.

    consumer's thread                        WorkQueue                loop threads
    Pipeline.__next__ ── takes from source ──> items   ──> Lane: worker coroutines, `await work(item)` each
                      <─ waits for `wakeup` ── results <──

The consumer takes items from the source and appends them to a queue. The workers of one or more `Lane`s, one for each
loop thread, take them from there and store their results in a dictionary. To wake a thread for each object would cost
more than to fetch a small one. So a worker wakes the consumer only for the result that it waits for, and a millisecond
late if there is work left: then it finds several results. The consumer wakes workers only when they ran out of items.

No lock is taken. A thread that is about to sleep first says so (`awaited`, `_sleepers`), then looks once more. A thread
that adds something first adds it, then looks whether the other one sleeps. The GIL makes all threads see these steps in
one order, so at least one of the two sees the other. Free-threaded Python would need a fence between the two steps.

What is taken from the source and not yet consumed is bounded in number (`window`) and in bytes (`max_bytes` of
`weight`): a slow consumer stops the fetching, and so does a slow first result, later.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from ..errors import OssUsageError
from .engine import LoopThread, engine

T = TypeVar("T")
R = TypeVar("R")

# How long a worker delays the wake-up of the consumer while there are items left.
WAKE_DELAY_SECONDS = 0.001

# Strong references to lanes with tasks: asyncio keeps only weak ones, and warns when a pending task is collected.
_lanes_with_tasks: set[Any] = set()


class Raised:
    """An exception on its way to the consumer."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class WorkQueue(Generic[T, R]):
    """What consumer and lanes share. It refers to neither, so that dropping the consumer ends the lanes."""

    def __init__(self, in_order: bool) -> None:
        self.items: deque[tuple[int, T]] = deque()
        self.results: dict[int, R | Raised] = {}
        self.finished: deque[int] = deque()  # numbers of results, in the order of completion
        self.in_order = in_order
        self.awaited = -1  # the number that the consumer waits for; -1 while it is awake
        self.wakeup: queue.SimpleQueue[None] = queue.SimpleQueue()
        # False while no worker can take more items. The consumer sets it to False when it wakes the lanes: one that
        # then has workers left says so again. An old value is harmless, as the consumer wakes all before it waits.
        self.is_hungry = True

    def note_finished(self, number: int) -> bool:
        """Note, when results come as they arrive, that this one is stored; True if the consumer is waiting for it."""
        self.finished.append(number)
        return self.awaited >= 0


class Lane(Generic[T, R]):
    """The share of one loop thread: up to `width` worker coroutines. All but `wake` run on the loop."""

    def __init__(
        self,
        thread: LoopThread,
        work_queue: WorkQueue[T, R],
        work: Callable[[T], Awaitable[R]],
        width: int,
    ) -> None:
        self.thread = thread
        self._work_queue = work_queue
        self._work = work
        self._width = width
        self._is_stopped = self._is_woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving: list[Lane[T, R]] = []  # one entry per worker to move: the lane it moves to
        self._sleepers: list[asyncio.Future[None]] = []
        self._delayed_wakeup: asyncio.Handle | None = None

    def wake(self) -> None:
        """Have `feed` called on the loop, if workers sleep or could be started; once for all items until it runs.

        Called on the consumer's thread. Reads what the loop writes: an old value costs one needless `feed`, or none is
        needed, since a worker looks for items again before it sleeps.
        """
        if not self._is_woken and (self._sleepers or len(self._tasks) < self._width):
            self._is_woken = True
            self.thread.call(self.feed)

    def feed(self) -> None:
        """Let as many workers run as there are items."""
        self._is_woken = False
        wanted = len(self._work_queue.items)
        if self._width:
            _lanes_with_tasks.add(self)
        while wanted > 0 and self._sleepers:
            sleeper = self._sleepers.pop()
            if not sleeper.done():
                sleeper.set_result(None)
                wanted -= 1
        while wanted > 0 and len(self._tasks) < self._width:
            self._tasks.add(asyncio.get_running_loop().create_task(self._serve()))
            wanted -= 1
        if self._sleepers or len(self._tasks) < self._width:
            self._work_queue.is_hungry = True

    def move_workers_to(self, other: Lane[T, R], count: int) -> None:
        """Move `count` workers to another lane; those that are at work move when they have finished their item."""
        self._moving += [other] * count
        while self._moving and len(self._tasks) < self._width:
            self._move_one()

    def stop(self) -> None:
        """End the workers; what they have in flight is abandoned."""
        self._is_stopped = True
        self._width = 0
        self._moving.clear()
        _lanes_with_tasks.discard(self)
        for task in self._tasks:
            task.cancel()
        self._tasks = set()

    async def _serve(self) -> None:
        loop, work_queue, work = asyncio.get_running_loop(), self._work_queue, self._work
        items = work_queue.items
        while not self._is_stopped:  # a cancellation can get lost: wait_for swallows it, before Python 3.12
            if self._moving:
                self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
                self._move_one()
                self.feed()  # we consumed a wake-up without taking an item: pass it on
                return
            try:
                number, item = items.popleft()
            except IndexError:
                if self._delayed_wakeup is not None:  # queue empty: wake the consumer now instead of after the delay
                    self._wake_consumer()
                sleeper = loop.create_future()
                self._sleepers.append(sleeper)
                work_queue.is_hungry = True
                if items:  # the consumer added them meanwhile, and saw no sleeper
                    self._sleepers.remove(sleeper)
                else:
                    await sleeper
                continue
            result: R | Raised
            try:
                result = await work(item)
            except Exception as error:
                result = Raised(error)
            del item
            work_queue.results[number] = result
            is_awaited = number == work_queue.awaited if work_queue.in_order else work_queue.note_finished(number)
            if is_awaited and self._delayed_wakeup is None:
                # Not at once: waking a thread takes as long as fetching a small object. Soon there are more results.
                self._delayed_wakeup = loop.call_later(WAKE_DELAY_SECONDS, self._wake_consumer)
            del result

    def _move_one(self) -> None:
        self._width -= 1
        other = self._moving.pop()
        other.thread.call(other._admit)

    def _admit(self) -> None:
        if self._is_stopped:
            return
        self._width += 1
        if self._moving:
            self._move_one()
        else:
            self.feed()

    def _wake_consumer(self) -> None:
        if self._delayed_wakeup is not None:
            self._delayed_wakeup.cancel()
            self._delayed_wakeup = None
        self._work_queue.wakeup.put(None)


# From this size on results are worth a second thread. To receive a smaller one is mostly Python, which threads can only
# do in turns: two took a third longer for objects of 110 KB than one, and as long for those of 4 MiB (measured).
SPREAD_BYTES = 4 << 20
_REMEMBERED = 16

_MISSING: Any = object()


class Pipeline(Iterator[R], Generic[T, R]):
    """Iterate over `await work(item)` for each item of `items`, `concurrency` at a time.

    In the order of the items unless `in_order` is false. An exception of `work` is raised at its place, and iteration
    may go on after it; an exception of `items` is raised after the results of all items before it. `close()`, which
    also happens when the iterator is dropped, abandons what is in flight. With `size`, the bytes of a result, one of
    the threads does all the work as long as results are small. `item` is the one whose result has come last.
    """

    item: T

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
        self._work_queue: WorkQueue[T, R] = WorkQueue(in_order)
        self._widths = [len(range(i, concurrency, len(lanes))) for i in range(len(lanes))]
        widths = self._widths if size is None else [concurrency] + [0] * (len(lanes) - 1)
        self._lanes = [
            Lane(thread, self._work_queue, work, width) for (thread, work), width in zip(lanes, widths, strict=True)
        ]
        self._size, self._mean_bytes, self._is_spread = size, 0.0, size is None
        self._source = iter(items)
        self._source_end: BaseException | None = None
        self._window, self._wake_at = window, max(1, window // 4)
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
            self._wake_lanes()
            work_queue.awaited = self._given
            if (self._given in work_queue.results) if work_queue.in_order else work_queue.finished:
                work_queue.awaited = -1
                continue
            try:
                work_queue.wakeup.get()
            finally:
                work_queue.awaited = -1

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
                    break
                except Exception as error:
                    self._source_end = error
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
