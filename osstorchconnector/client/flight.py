"""Requests under way for one reader or writer: begun, waited for, and stopped, until none touches its memory any more.

`RunningTasks` is the machine. Who uses it decides what to begin next, in which order and within which budget:
`ParallelRead` here, `dcp.fetching` over many files, `files.upload` for the parts of an upload.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ..errors import OssTimeoutError
from ..protocol.values import ByteSpan, Download
from .client import OssClient
from .clocks import wait_running
from .limiter import usable_cores
from .limits import TransferLimit
from .memory import Memory
from .operations import Operations

R = TypeVar("R")
S = TypeVar("S")
Work = Callable[[Operations], Coroutine[Any, Any, R]]

DRAIN_SECONDS = 60.0


def useful_threads(configured: int, cores: int) -> int:
    """Return how many loop threads to share large transfers among: as configured, but at most one for every two cores.

    One thread receives 3 GB/s, and the thread that takes the bytes from it needs a core as well. With fewer cores, more
    threads only take the interpreter from each other (measured: four on two cores cost a fifth more CPU time than one).
    """
    return max(min(configured, cores // 2), 1)


class RunningTasks(Generic[S, R]):
    """Coroutines on the loop threads, each about a subject (a span, a part), that are stopped together.

    `begin` starts one, `wait_for_one` returns the next that has ended. `stop` cancels them all, and `abandon` does not
    return before none of them runs. `len` is the number of tasks that were begun and not yet returned.

    `stop`, `drain` and `forget` may be called by any thread, `stop` by finalisers too; the rest is for one thread.
    """

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(self, client: OssClient, workers: int) -> None:
        self._client = client
        self._workers = useful_threads(workers, usable_cores())
        self._subjects: dict[Future[R], S] = {}
        # Loop threads put futures in, the reader's or writer's thread takes them out; the queue does the locking.
        self._ended: SimpleQueue[Future[R]] = SimpleQueue()
        self._tasks: dict[asyncio.Task[R], asyncio.AbstractEventLoop] = {}  # the loop threads' view, under `_changed`
        # Reentrant: a finaliser may call `stop` while this thread holds the lock.
        self._changed = threading.Condition(threading.RLock())
        self._is_stopped = self._is_forgotten = False
        self._then: Callable[[], None] | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._subjects)

    @property
    def has_ended_task(self) -> bool:
        """True if `wait_for_one` returns at once."""
        return not self._ended.empty()

    def start(self, work: Work[R]) -> Future[R]:
        """Begin `work` on a loop thread and return its future; after `stop` it ends at once, cancelled.

        Never cancel the future: a cancelled future does not tell when its coroutine ends. `wait_for_one` does not
        return this task.
        """
        return self._client.submit(lambda operations: self._run(operations, work), workers=self._workers)

    def begin(self, subject: S, work: Work[R]) -> None:
        """Begin `work` about `subject`; `wait_for_one` will return it. After `stop` it ends at once, cancelled."""
        future = self.start(work)
        self._subjects[future] = subject
        future.add_done_callback(self._note_end)

    def open_ahead(self, bucket: str, count: int) -> None:
        """Begin connections for `count` tasks that will soon begin, and read or write objects of `bucket`."""
        self._client.open_ahead(bucket, count, workers=self._workers)

    def wait_for_one(self) -> tuple[S, R]:
        """Wait until a task has ended; return its subject and its result, each task once.

        Raises the error of the task, `CancelledError` if it was stopped. There must be a task: `len` is not 0.
        """
        future = self._ended.get()
        subject = self._subjects.pop(future)
        try:
            return subject, future.result()
        finally:
            del future, subject  # drop the reference cycle: exception -> traceback -> frame -> future

    def stop(self, then: Callable[[], None] | None = None) -> None:
        """Cancel all tasks, without waiting; `then` is called once, on any thread, when none of them runs any more."""
        # Set before the lock is taken, read after it: a task that `_run` adds too late to be cancelled below is sure to
        # see the flag.
        self._is_stopped = True
        if self._is_exiting() or self._pid != os.getpid():
            return  # no loop runs any more; or this is a forked child, and the tasks are the parent's
        with self._changed:
            running = list(self._tasks.items())
            if running:
                self._then = then
        for task, loop in running:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
                loop.call_soon_threadsafe(task.cancel)
        if not running and then is not None:
            then()

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """After `stop`: wait until no task runs any more; False if one still does after `seconds`.

        False means that a task may still use the memory it was given. A `KeyboardInterrupt` is raised when the wait is
        over: the caller must not give the memory back earlier.
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
            interrupts.clear()  # drop the reference cycle: exception -> traceback -> frame -> list

    def abandon(self, seconds: float = DRAIN_SECONDS) -> None:
        """Stop, forget all tasks, and return when none of them uses the memory it was given any more.

        Raises `OssTimeoutError` if one still runs after `seconds`: then nobody may use that memory again.
        """
        self.stop()
        try:
            if not self.drain(seconds):
                raise OssTimeoutError(
                    f"requests that were given up did not end within {seconds:g} s: they may still write into the "
                    "memory that they were to fill; do not use it again"
                )
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop all subjects and results now; `wait_for_one` will not return them."""
        self._subjects.clear()
        self._is_forgotten = True
        self._empty_queue()

    def _note_end(self, future: Future[R]) -> None:
        self._ended.put(future)
        if self._is_forgotten:  # read after the put: `forget` has not seen this future, or will
            self._empty_queue()

    def _empty_queue(self) -> None:
        # Drop the reference cycle: queue -> future -> its callback -> these tasks. Without waiting: when the
        # interpreter ends, another thread may be in `wait_for_one` and take the last future.
        with contextlib.suppress(Empty):
            while True:
                self._ended.get_nowait()

    def _is_empty(self) -> bool:
        """Say whether no task runs. Tasks of a loop that has ended do not."""
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
            del task, work  # drop the reference cycle: exception -> traceback -> frame -> task, and the work's memory
            if then is not None:
                then()


Get = Callable[[Operations, ByteSpan, Memory], Coroutine[Any, Any, Download]]
Landed = Callable[[Download, Memory], None]


class ParallelRead:
    """Spans of one object that are read into memory, as many requests at a time as `in_flight` says, and `most`.

    After `begin`, call `finish` or `abandon`: only then does nothing write to that memory any more. `meanwhile` may be
    called before that. `landed` is called on the caller's thread for each span that has come.
    """

    def __init__(
        self,
        client: OssClient,
        get: Get,
        landed: Landed,
        *,
        in_flight: TransferLimit,
        workers: int,
        most: int | None = None,
    ) -> None:
        self._get, self._landed, self._in_flight, self._most = get, landed, in_flight, most
        self._coming: Iterator[tuple[ByteSpan, Memory]] = iter(())
        self._tasks = RunningTasks[Memory, Download](client, workers)

    def begin(self, spans: Iterable[tuple[ByteSpan, Memory]]) -> None:
        """Start to read each span into the memory beside it, which has as many bytes.

        A span is taken when its request can begin: so an iterator may hand out memory that `landed` gives back.
        """
        self._coming = iter(spans)
        self._top_up()

    def meanwhile(self, steps: Iterable[object]) -> None:
        """Take all of these steps on this thread; after each, requests begin in place of those that have ended.

        Raises the first error of a step or of a request; then call `abandon`.
        """
        for _ in steps:
            while self._tasks.has_ended_task:
                self._land()
                self._top_up()

    def finish(self, nearly: Callable[[int], None]) -> None:
        """Wait until everything has come.

        `nearly` is called once, when half of what may be in flight is free for good, with how much that is. Raises the
        first error of a request; then call `abandon`.
        """
        is_nearly_done = False
        while True:
            self._top_up()
            limit = self._limit
            free = limit - len(self._tasks)
            if not is_nearly_done and 2 * free >= limit:  # free after topping up, so nothing is coming any more
                is_nearly_done = True
                nearly(free)
            if not self._tasks:
                return
            self._land()

    def abandon(self) -> None:
        """Stop, and return when nothing writes to the memory any more; raises as `RunningTasks.abandon`."""
        self._coming = iter(())
        self._tasks.abandon()

    def _land(self) -> None:
        view, download = self._tasks.wait_for_one()
        self._landed(download, view)

    @property
    def _limit(self) -> int:
        return self._in_flight.limit if self._most is None else min(self._in_flight.limit, self._most)

    def _top_up(self) -> None:
        while len(self._tasks) < self._limit:
            for span, view in self._coming:
                self._tasks.begin(view, self._work(span, view))
                break
            else:
                return

    def _work(self, span: ByteSpan, view: Memory) -> Work[Download]:
        return lambda operations: self._get(operations, span, view)
