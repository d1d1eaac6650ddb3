"""The loop threads' side of a `Pipeline`: lanes of worker coroutines, which take items from a queue.

No lock is taken between a lane and its consumer; `pipeline` says why that is right.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from .concurrency import Meter
from .engine import LoopThread
from .limiter import LOOK_SECONDS, Limiter

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
        self.is_ended = False  # the source has no more items
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
        limiter: Limiter | None = None,
    ) -> None:
        self.thread = thread
        self._work_queue = work_queue
        self._work = work
        self._width = width
        self._limiter, self._meter = limiter, limiter.meter if limiter is not None else None
        self._is_stopped = self._is_woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving: list[Lane[T, R] | None] = []  # one entry per worker to move: the lane it moves to; None to end it
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
        started = len(self._tasks)
        while wanted > 0 and len(self._tasks) < self._width:
            self._tasks.add(asyncio.get_running_loop().create_task(self._serve()))
            wanted -= 1
        if self._meter is not None:
            self._meter.expect(len(self._tasks) - started)
            if not started and self._limiter is not None and self._limiter.is_new:
                self._look()
        if self._sleepers or len(self._tasks) < self._width:
            self._work_queue.is_hungry = True

    def _look(self) -> None:
        """Look every few milliseconds whether OSS is far, until it is, or a worker has ended its first request."""
        limiter, meter = self._limiter, self._meter
        assert limiter is not None
        assert meter is not None
        if self._is_stopped or meter.fresh < len(self._tasks):
            return
        if limiter.look():
            self._work_queue.wakeup.put(None)
        elif limiter.is_new:
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def resize(self, change: int) -> None:
        """Add `change` workers, or remove some if it is negative; then begin a round."""
        if self._is_stopped:
            return
        while change > 0 and self._moving and self._moving[-1] is None:
            self._moving.pop()
            change -= 1
        if change > 0:
            self._width += change
            self.feed()
        else:
            self._moving += [None] * -change
            while self._moving and len(self._tasks) < self._width:
                self._move_one()
        if self._limiter is not None:
            self._limiter.begin_round()

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
        items, meter, is_fresh = work_queue.items, self._meter, True
        while not self._is_stopped:  # a cancellation can get lost: wait_for swallows it, before Python 3.12
            if self._moving:
                self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
                self._move_one()
                self.feed()  # we consumed a wake-up without taking an item: pass it on
                return
            try:
                number, item = items.popleft()
            except IndexError:
                await self._sleep()
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
            if meter is not None:
                meter.finished += 1
                if is_fresh:
                    is_fresh = False
                    self._count_fresh(meter)
                if meter.finished >= meter.quota and meter.fresh <= meter.settled:
                    self._end_round()

    async def _sleep(self) -> None:
        """Wait for items."""
        work_queue, meter = self._work_queue, self._meter
        if self._delayed_wakeup is not None:  # queue empty: wake the consumer now instead of after the delay
            self._wake_consumer()
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        work_queue.is_hungry = True
        if work_queue.items:  # the consumer added them meanwhile, and saw no sleeper
            self._sleepers.remove(sleeper)
        elif meter is None:
            await sleeper
        else:
            asleep = time.monotonic()
            # A consumer that waits for a late result gives out no items either: then it is the limit that is short.
            is_idle = work_queue.awaited < 0 or work_queue.is_ended
            await sleeper
            if is_idle:
                meter.idle_seconds += time.monotonic() - max(asleep, meter.begun)

    def _count_fresh(self, meter: Meter) -> None:
        meter.fresh -= 1
        if meter.fresh == meter.settled and self._limiter is not None:
            self._limiter.begin_round()

    def _end_round(self) -> None:
        work_queue = self._work_queue
        assert self._limiter is not None
        is_behind = work_queue.awaited < 0 and 2 * len(work_queue.results) > self._width
        if self._limiter.end_round(is_wanted=not is_behind):
            work_queue.wakeup.put(None)

    def _move_one(self) -> None:
        self._width -= 1
        other = self._moving.pop()
        if other is not None:
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
