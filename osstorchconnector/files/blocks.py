"""Blocks: bytes of an object in memory, and two ways to have them when a reader asks.

`RandomBlocks` sends one request for each read. `ReadAhead` keeps a window of blocks before a reader that goes forward.
Both have the same few methods:

- `spans()`: what is here or on its way
- `fetch(position, wanted_bytes)`: the block that holds the byte at `position`; asks for it if need be
- `retire()`: let go of all blocks, also of those that were handed out
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from ..protocol.values import ByteSpan, Download
from .object_requests import ObjectRequests, SpanTasks
from .read_plan import SKIP_BYTES, cut, next_stop, plan_read_ahead, prefetch_behind_bytes, random_span

MAX_RANDOM_BLOCKS = 8

Fetch = Callable[[ByteSpan, memoryview], "Future[Download]"]
Count = Callable[[Download, memoryview], None]


class Block:
    """Bytes `start` to `stop` of an object. A retired block has none, also for those who still hold it."""

    __slots__ = ("data", "start", "stop", "view")

    def __init__(self, start: int, data: bytes | bytearray, size_bytes: int) -> None:
        self.start = start
        self.stop = start + size_bytes
        self.data = data
        self.view = memoryview(data)[:size_bytes]

    @property
    def span(self) -> ByteSpan:
        return ByteSpan(self.start, self.stop)

    def holds(self, position: int) -> bool:
        return self.start <= position < self.stop

    def retire(self) -> None:
        """Let go of the bytes: their memory may be used again."""
        self.start = self.stop = 0
        self.data, self.view = b"", memoryview(b"")


NO_BLOCK = Block(0, b"", 0)


class RandomBlocks:
    """One request for each read, of 64 KiB at least, and the blocks that were used last."""

    def __init__(self, requests: ObjectRequests) -> None:
        self._requests = requests
        self._blocks: list[Block] = []  # the one used last at the end

    def spans(self) -> list[ByteSpan]:
        return [block.span for block in self._blocks]

    def find(self, position: int) -> Block | None:
        """Return the block that holds the byte at `position`, if it is here."""
        for block in self._blocks:
            if block.holds(position):
                self._blocks.remove(block)
                self._blocks.append(block)
                return block
        return None

    def fetch(self, position: int, wanted_bytes: int) -> Block:
        """Ask for the byte at `position`, and for `wanted_bytes` from there on."""
        download = self._requests.get(random_span(position, wanted_bytes, self._requests.size))
        block = Block(download.span.start, download.body, len(download.body))
        self._blocks = [*self._blocks[1 - MAX_RANDOM_BLOCKS :], block]
        return block

    def retire(self) -> None:
        for block in self._blocks:
            block.retire()
        self._blocks.clear()


class ReadAhead:
    """A window of blocks that moves with the reader. A jump out of the window stops its requests and begins another.

    `run_bytes` in its methods is how far the reader has gone forward; the window grows with it.
    """

    def __init__(self, requests: ObjectRequests) -> None:
        self._requests = requests
        self._window: ReadAheadWindow | None = None
        self._tasks: SpanTasks | None = None  # the requests of the window

    def spans(self) -> list[ByteSpan]:
        return self._window.spans() if self._window is not None else []

    def holds(self, position: int) -> bool:
        """True if the byte is here or on its way."""
        return self._window is not None and self._window.holds(position)

    def take(self, position: int) -> Block:
        """Wait for the block that holds the byte at `position`. Raises `LookupError` if nobody asked for it."""
        window = self._window
        if window is None or not window.holds(position):
            raise LookupError(f"the byte at {position} is neither here nor on its way")
        return window.take(position)

    def fetch(self, position: int, wanted_bytes: int, *, run_bytes: int, after: int) -> Block:
        """Wait for the block that holds the byte at `position`, and have more fetched behind it.

        The reader has read up to `after`. The few bytes that it skips from there to `position` are fetched too.
        """
        requests, window = self._requests, self._window
        if window is None or not window.start <= position <= window.stop + SKIP_BYTES:
            window = self._begin_window(after if 0 <= position - after <= SKIP_BYTES else position)
        plan = plan_read_ahead(run_bytes, latency_seconds=requests.latency_seconds, concurrency=requests.concurrency)
        stop = next_stop(window.stop, ByteSpan(position, position + wanted_bytes), plan, requests.size)
        window.extend(stop, plan.block_bytes, most=requests.concurrency, needed=position)
        return window.take(position)

    def prefetch_behind(self, span: ByteSpan, *, run_bytes: int, most: int) -> None:
        """Fetch on behind `span`, a large read that has nearly come, until `most` blocks wait for the reader."""
        requests, window = self._requests, self._window
        ahead_bytes = prefetch_behind_bytes(run_bytes, latency_seconds=requests.latency_seconds)
        if not ahead_bytes or span.stop == requests.size:
            return
        if window is None or not window.start <= span.stop <= window.stop:
            window = self._begin_window(span.stop)
        plan = plan_read_ahead(run_bytes, latency_seconds=requests.latency_seconds, concurrency=requests.concurrency)
        stop = next_stop(window.stop, span, plan._replace(ahead_bytes=ahead_bytes), requests.size)
        window.extend(stop, plan.block_bytes, most=most)

    def retire(self) -> None:
        if self._window is not None:
            self._window.retire()
        self._stop()

    def forget(self) -> None:
        """Drop the window, but do not stop its requests: in a forked process they are the parent's."""
        self._window = self._tasks = None

    def _begin_window(self, start: int) -> ReadAheadWindow:
        self._stop()
        requests, tasks = self._requests, self._requests.new_tasks()
        self._tasks = tasks
        self._window = ReadAheadWindow(start, lambda span, target: requests.start(tasks, span, target), requests.count)
        return self._window

    def _stop(self) -> None:
        if self._tasks is not None:
            self._tasks.stop()
        self.forget()


class _WindowBlock:
    """A block on its way, then here; counted when it is handed out first."""

    __slots__ = ("block", "future", "is_counted")

    def __init__(self, block: Block, future: Future[Download]) -> None:
        self.block, self.future, self.is_counted = block, future, False


class ReadAheadWindow:
    """Blocks that follow each other from `start` on, here or on their way.

    The memory of blocks that the reader has passed is used again. The one handed out last stays, for short steps back.
    `count` is called once for each block that is handed out.
    """

    def __init__(self, start: int, fetch: Fetch, count: Count) -> None:
        self.stop = start
        self._fetch, self._count = fetch, count
        self._blocks: deque[_WindowBlock] = deque()
        self._handed_out_start = start
        self._free_memory: list[bytearray] = []

    @property
    def start(self) -> int:
        return self._blocks[0].block.start if self._blocks else self.stop

    def holds(self, position: int) -> bool:
        """True if the byte is here or on its way."""
        return self.start <= position < self.stop

    def spans(self) -> list[ByteSpan]:
        """What is here or on its way, block by block."""
        return [item.block.span for item in self._blocks]

    def extend(self, stop: int, block_bytes: int, *, most: int, needed: int = -1) -> None:
        """Start to fetch the bytes that are missing up to `stop`.

        At most `most` blocks wait to be handed out, not counting those up to the byte at `needed`.
        """
        waiting = sum(not item.is_counted for item in self._blocks)
        for span in cut(ByteSpan(self.stop, stop), block_bytes):
            if waiting >= most and span.start > needed:
                return
            waiting += 1
            memory = self._memory(block_bytes)
            block = Block(span.start, memory, span.size)
            self._blocks.append(_WindowBlock(block, self._fetch(span, block.view)))
            self.stop = span.stop

    def take(self, position: int) -> Block:
        """Wait for the block that holds `position` and hand it out; retire those before it.

        If its request failed, raise that error and forget this block and all after it: they can be asked for again.
        """
        self._retire_before(min(self._handed_out_start, position))
        item = next(item for item in self._blocks if item.block.holds(position))
        try:
            # A loop thread wrote the bytes; the lock of the future makes them visible to this thread.
            download = item.future.result()
        except BaseException:
            self._forget_from(item)
            del item  # drop the reference cycle: future -> exception -> traceback -> this frame -> future
            raise
        self._handed_out_start = item.block.start
        if not item.is_counted:
            item.is_counted = True
            self._count(download, item.block.view)
        return item.block

    def retire(self) -> None:
        """Let go of everything."""
        while self._blocks:
            self._blocks.popleft().block.retire()

    def _retire_before(self, start: int) -> None:
        while self._blocks and self._blocks[0].block.stop <= start:
            item = self._blocks.popleft()
            memory = item.block.data
            # Until its request has ended, a loop thread may write to this memory: drop it then, do not use it again.
            if item.future.done() and isinstance(memory, bytearray):
                self._free_memory.append(memory)
            item.block.retire()

    def _forget_from(self, failed: _WindowBlock) -> None:
        self.stop = failed.block.start
        while self._blocks and self._blocks[-1].block.start >= self.stop:
            self._blocks.pop()

    def _memory(self, size_bytes: int) -> bytearray:
        while self._free_memory:
            memory = self._free_memory.pop()
            if len(memory) == size_bytes:
                return memory
        return bytearray(size_bytes)
