"""Pieces of an object in memory, and the run of them that is fetched ahead of a reader that goes forward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from ..protocol.values import ByteSpan, Download
from .read_plan import cut

Fetch = Callable[[ByteSpan, memoryview], "Future[Download]"]
Landed = Callable[[Download, memoryview], None]


class Block:
    """Bytes `start` to `stop` of an object; a retired block has none, whoever still holds it."""

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
        """Let go of the bytes: the memory is about to be used again."""
        self.start = self.stop = 0
        self.data, self.view = b"", memoryview(b"")


NO_BLOCK = Block(0, b"", 0)


class _Coming:
    """A block on its way, then there."""

    __slots__ = ("block", "future", "is_landed")

    def __init__(self, block: Block, future: Future[Download]) -> None:
        self.block, self.future, self.is_landed = block, future, False


class ReadAhead:
    """Blocks that follow each other from `start` on, in flight or there.

    Memory of blocks that were passed is used again, but the last one handed out stays, for short steps back.
    `landed` is called once for each block that is handed out.
    """

    def __init__(self, start: int, fetch: Fetch, landed: Landed) -> None:
        self.stop = start
        self._fetch, self._landed = fetch, landed
        self._blocks: deque[_Coming] = deque()
        self._handed_out_start = start
        self._spare: list[bytearray] = []

    @property
    def start(self) -> int:
        return self._blocks[0].block.start if self._blocks else self.stop

    def holds(self, position: int) -> bool:
        """True if the byte is here or on its way."""
        return self.start <= position < self.stop

    def spans(self) -> list[ByteSpan]:
        """What is here or on its way, block by block."""
        return [coming.block.span for coming in self._blocks]

    def extend(self, stop: int, block_bytes: int, *, most: int, needed: int = -1) -> None:
        """Start to fetch what is missing up to `stop`.

        No more than `most` blocks will wait to be handed out, but for those up to the byte at `needed`.
        """
        waiting = sum(not coming.is_landed for coming in self._blocks)
        for span in cut(ByteSpan(self.stop, stop), block_bytes):
            if waiting >= most and span.start > needed:
                return
            waiting += 1
            memory = self._memory(block_bytes)
            block = Block(span.start, memory, span.size)
            self._blocks.append(_Coming(block, self._fetch(span, block.view)))
            self.stop = span.stop

    def take(self, position: int) -> Block:
        """Wait for the block that holds `position` and hand it out; those before it are given up.

        Raises what its request raised; then that block and all after it are forgotten.
        """
        self._retire_before(min(self._handed_out_start, position))
        coming = next(coming for coming in self._blocks if coming.block.holds(position))
        try:
            download = coming.future.result()
        except BaseException:
            self._forget_from(coming)
            del coming  # its error knows this frame
            raise
        self._handed_out_start = coming.block.start
        if not coming.is_landed:
            coming.is_landed = True
            self._landed(download, coming.block.view)
        return coming.block

    def retire(self) -> None:
        """Let go of everything."""
        while self._blocks:
            self._blocks.popleft().block.retire()

    def _retire_before(self, start: int) -> None:
        while self._blocks and self._blocks[0].block.stop <= start:
            coming = self._blocks.popleft()
            memory = coming.block.data
            if coming.future.done() and isinstance(memory, bytearray):
                self._spare.append(memory)
            coming.block.retire()

    def _forget_from(self, failed: _Coming) -> None:
        self.stop = failed.block.start
        while self._blocks and self._blocks[-1].block.start >= self.stop:
            self._blocks.pop()

    def _memory(self, size_bytes: int) -> bytearray:
        while self._spare:
            memory = self._spare.pop()
            if len(memory) == size_bytes:
                return memory
        return bytearray(size_bytes)
