"""The event-loop threads of this process, shared by every client in it.

Threads start at first use and end with the interpreter. After a fork the child has none of the parent's threads and
must not touch its sockets: it starts anew, and whatever the parent had is kept alive, unused, so that no finaliser
closes a connection that the parent still speaks on.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ..errors import OssError, OssUsageError
from ..patience import NO_THREAD, NoThreadError, start_thread
from .memory import raise_malloc_threshold

T = TypeVar("T")

_STOP_SECONDS = 5.0
# At the limit of threads another one often ends soon: try again after these.
_UNTIL_THREADS_END_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)


class Closable(Protocol):
    async def aclose(self) -> None: ...


class LoopThread:
    """One event loop in one daemon thread.

    `attached` holds what clients keep per loop (connections), by client: it lives and is abandoned with the loop.
    """

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(self, name: str) -> None:
        self.attached: dict[int, Closable] = {}
        self._unattended: set[asyncio.Task[object]] = set()
        self._is_ending = False
        self._loop = _new_event_loop()
        self._pid = os.getpid()
        raise_malloc_threshold()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise OssError(NO_THREAD if "shutdown" not in str(error) else str(error)) from None

    def __repr__(self) -> str:
        return f"<LoopThread {self._thread.name}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for others who run coroutines on it."""
        return self._loop

    @property
    def is_current(self) -> bool:
        """True when asked from the loop's own thread."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait for its result; refuses to wait on the loop's own thread."""
        if self.is_current:
            coroutine.close()
            raise OssUsageError("a blocking call on the I/O loop's own thread: await the Operations method instead")
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # drop the reference cycle: exception -> traceback -> this frame -> future

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `coroutine` on the loop; cancelling the future cancels it. `OssUsageError` if the loop has ended.

        Keep the future while the work is to go on: Python may collect waiting work that nothing else refers to.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise OssUsageError("the I/O loop has ended: the interpreter is going down") from None

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        """Call on the loop's thread, soon; does nothing once the loop has ended or belongs to a parent process."""
        if not self._is_exiting() and self._pid == os.getpid():
            with contextlib.suppress(RuntimeError):  # the loop is closed: the interpreter is going down
                self._loop.call_soon_threadsafe(callback, *args)

    def start_soon(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Start a coroutine that nobody waits for; from any thread, also from finalisers."""
        self.call(self._start, work)

    def end_soon(self) -> None:
        """Have the loop end, without waiting for it; once, for a second time would cut its winding down short."""
        if not self._is_ending:
            self._is_ending = True
            self.call(self._loop.stop)

    def stop(self) -> None:
        """End the loop and wait for its thread, for a bounded time."""
        self.end_soon()
        self._thread.join(_STOP_SECONDS)

    def _start(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        task = self._loop.create_task(work())
        self._unattended.add(task)
        task.add_done_callback(self._unattended.discard)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._wind_down())
        finally:
            self._loop.close()

    async def _wind_down(self) -> None:
        """Let what closes connections end, cancel the rest, and close what clients have attached: in bounded time."""
        if self._unattended:
            await asyncio.wait(self._unattended, timeout=_STOP_SECONDS / 4)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        closing = [asyncio.ensure_future(attached.aclose()) for attached in self.attached.values()]
        deadline = self._loop.time() + _STOP_SECONDS / 2
        while (tasks or closing) and self._loop.time() < deadline:
            for task in tasks:  # each time anew: wait_for can lose a cancellation, before Python 3.12
                task.cancel()
            _, pending = await asyncio.wait([*tasks, *closing], timeout=_STOP_SECONDS / 20)
            tasks, closing = tasks & pending, [task for task in closing if task in pending]
        for task in closing:  # given up: asyncio complains of tasks that never end
            task.cancel()
        if closing:
            await asyncio.wait(closing, timeout=_STOP_SECONDS / 20)


class Engine:
    """The loop threads, by number: client work asks for the first n. `pid` is the process that they belong to."""

    def __init__(self) -> None:
        self._of_parents: list[LoopThread] = []
        self._threads: list[LoopThread] = []
        self._start_afresh()

    def threads(self, count: int) -> list[LoopThread]:
        """Return the first `count` loop threads of this process, starting those that do not run yet."""
        if len(self._threads) < count:
            with self._lock:
                while len(self._threads) < count:
                    self._threads.append(LoopThread(f"osstorchconnector-loop-{len(self._threads)}"))
        return self._threads[:count]

    def running(self) -> list[LoopThread]:
        """Return the loop threads of this process that have been started."""
        return list(self._threads)

    def stop(self) -> None:
        """End every thread of this process."""
        if self.pid == os.getpid():
            threads, self._threads = self._threads, []
            for thread in threads:
                thread.end_soon()
            for thread in threads:
                thread.stop()

    def forget_parent(self) -> None:
        """Start anew in a forked child; the parent's loops are kept, untouched."""
        self._of_parents.extend(self._threads)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._threads = []
        self._lock = threading.Lock()
        self.pid = os.getpid()


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Make a blocking call in a thread of its own and await its result; `OssError` if no thread can be started.

    asyncio's own executor starts no thread any more once the main thread has ended, when a last save may still run.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()
    # A stored exception's traceback keeps this frame alive. Popping the list breaks its reference to the waiters.
    waiting = [outcome]

    def run() -> None:
        try:
            result = call(*args)
        except BaseException as error:
            waiting.pop().set_exception(error)
        else:
            waiting.pop().set_result(result)

    for seconds in _UNTIL_THREADS_END_SECONDS:
        try:
            start_thread(run, "osstorchconnector-call")
            break
        except NoThreadError:
            await asyncio.sleep(seconds)
    else:
        raise OssError(NO_THREAD)
    return await asyncio.wrap_future(outcome)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows has none, and the standard loop does the same, slower
        return asyncio.new_event_loop()

    class Loop(uvloop.Loop):
        """Connects without libuv's threads, on which a forked child would wait at its end (seen with glibc 2.43).

        To connect a socket, uvloop looks its address up, without the socket's type: then in a thread even if it is a
        number.
        """

        async def getaddrinfo(
            self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
        ) -> Any:
            kind = type or socket.SOCK_STREAM
            return await super().getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags)

    return Loop()


engine = Engine()
atexit.register(engine.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=engine.forget_parent)
