"""The loop threads' side of a pipeline: worker coroutines that take items from a board and put results there.

A lane is what one loop thread contributes. Items wait on a queue that all lanes take from without asking anybody;
results go on a table, and the consumer's bell is rung only when it waits for the result that has just come in.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

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
