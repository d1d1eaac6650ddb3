"""Work on the loop threads that touches memory of ours: it can be stopped, and waited for until it has let go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import OssTimeoutError
from ..protocol.values import ByteSpan, Download
from .client import OssClient
from .clocks import wait_running
from .operations import Operations

R = TypeVar("R")
Work = Callable[[Operations], Coroutine[Any, Any, R]]

DRAIN_SECONDS = 60.0


def useful_threads(configured: int, cores: int) -> int:
    """Return how many loop threads to share large transfers among: as configured, but at most one for every two cores.

    One receives 3 GB/s, and whoever takes the bytes from it needs a core as well; where they are fewer, more threads
    only take the interpreter from each other (measured: a fifth more CPU time with four on two cores than with one).
    """
    return max(min(configured, cores // 2), 1)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Flight:
    """Operations under way for one reader or writer.

    A future that was cancelled says nothing about the coroutine behind it, so none is ever cancelled here: `stop`
    cancels the coroutines, and after `drain`, if it says so, none of them runs any more.
    """

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(self, client: OssClient, workers: int) -> None:
        self._client = client
        self._workers = useful_threads(workers, _cores())
        self._tasks: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}
        # Reentrant: `stop` is called by finalisers, which may run anywhere in this thread.
        self._changed = threading.Condition(threading.RLock())
        self._is_stopped = False
        self._then: Callable[[], None] | None = None
        self._pid = os.getpid()

    def start(self, work: Work[R]) -> Future[R]:
        """Begin `work` on a loop thread; after `stop` it ends at once, cancelled."""
        return self._client.submit(lambda operations: self._run(operations, work), workers=self._workers)

    def stop(self, then: Callable[[], None] | None = None) -> None:
        """Cancel everything under way, without waiting; `then` is called once, when none of it runs any more."""
        self._is_stopped = True
        if self._is_exiting() or self._pid != os.getpid():
            return  # nothing runs any more, or in a forked child: the coroutines are the parent's
        with self._changed:
            under_way = list(self._tasks.items())
            if under_way:
                self._then = then
        for task, loop in under_way:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
                loop.call_soon_threadsafe(task.cancel)
        if not under_way and then is not None:
            then()

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """After `stop`: wait until no coroutine runs any more; False if that takes longer than `seconds`.

        A `KeyboardInterrupt` is held back until then: who gave us the memory must not have it back earlier.
        """
        interrupts: list[KeyboardInterrupt] = []

        def wait(seconds: float) -> bool:
            try:
                with self._changed:
                    return self._changed.wait_for(self._is_empty, seconds)
            except KeyboardInterrupt as error:
                interrupts.append(error)
                return False

        try:
            is_empty = wait_running(wait, seconds)
            if interrupts:
                raise interrupts[0]
            return is_empty
        finally:
            interrupts.clear()  # they know this frame

    def release(self, seconds: float = DRAIN_SECONDS) -> None:
        """After `stop`: return when no coroutine touches the memory that it was given any more.

        Raises `OssTimeoutError` if one still may after `seconds`: then nobody else must use that memory.
        """
        if not self.drain(seconds):
            raise OssTimeoutError(
                f"requests that were given up did not end within {seconds:g} s: they may still write into the "
                "memory that they were to fill; do not use it again"
            )

    def _is_empty(self) -> bool:
        """Say whether no coroutine runs; those of a loop that has ended don't."""
        return not any(loop.is_running() for loop in self._tasks.values())

    async def _run(self, operations: Operations, work: Work[R]) -> R:
        task = asyncio.current_task()
        assert task is not None
        with self._changed:
            self._tasks[task] = asyncio.get_running_loop()
        try:
            if self._is_stopped:
                raise asyncio.CancelledError
            return await work(operations)
        finally:
            then = None
            with self._changed:
                del self._tasks[task]
                if not self._tasks:
                    self._changed.notify_all()
                    then, self._then = self._then, None
            del task, work  # they know the error that ended this, which knows this frame
            if then is not None:
                then()


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
