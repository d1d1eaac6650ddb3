"""Blocks: kept for a reader that jumps, in a window before one that goes forward.

Their memory is used again when they were passed, and never while somebody needs it.
"""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from osstorchconnector.files.blocks import MAX_RANDOM_BLOCKS, NO_BLOCK, Block, RandomBlocks, ReadAhead, ReadAheadWindow
from osstorchconnector.files.read_plan import FIRST_BYTES, MIB
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat

STAT = ObjectStat(10_000, "E", None)


class Server:
    """Answers requests when told to: byte n of the object is n modulo 251."""

    def __init__(self) -> None:
        self.asked: list[ByteSpan] = []
        self.landed: list[ByteSpan] = []
        self._under_way: dict[ByteSpan, tuple[Future[Download], memoryview]] = {}

    def fetch(self, span: ByteSpan, memory: memoryview) -> Future[Download]:
        assert len(memory) == span.size
        self.asked.append(span)
        future: Future[Download] = Future()
        self._under_way[span] = future, memory
        return future

    def answer_all(self) -> None:
        for span, (future, memory) in self._under_way.items():
            memory[:] = content(span)
            future.set_result(Download(STAT, span, b"", 0))
        self._under_way.clear()

    def note(self, download: Download, memory: memoryview) -> None:
        assert bytes(memory) == content(download.span)
        self.landed.append(download.span)


def content(span: ByteSpan) -> bytes:
    return bytes(n % 251 for n in range(*span))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def window(server: Server) -> ReadAheadWindow:
    return ReadAheadWindow(100, server.fetch, server.note)


def test_blocks_follow_each_other_from_the_start(server: Server, window: ReadAheadWindow) -> None:
    window.extend(350, 100, most=10)
    assert server.asked == [(100, 200), (200, 300), (300, 350)]
    assert (window.start, window.stop) == (100, 350)
    assert window.spans() == server.asked
    window.extend(350, 100, most=10)
    assert len(server.asked) == 3


def test_it_holds_what_was_asked_for(window: ReadAheadWindow) -> None:
    assert not window.holds(100)
    window.extend(300, 100, most=10)
    assert [position for position in (99, 100, 199, 200, 299, 300) if window.holds(position)] == [100, 199, 200, 299]


def test_no_more_blocks_wait_than_allowed_but_for_what_is_needed(server: Server, window: ReadAheadWindow) -> None:
    window.extend(1000, 100, most=2)
    assert window.stop == 300
    window.extend(1000, 100, most=2)
    assert window.stop == 300
    window.extend(1000, 100, most=2, needed=499)
    assert window.stop == 500
    window.extend(1000, 100, most=2, needed=500)
    assert window.stop == 600
    server.answer_all()
    for position in (100, 200, 300):
        window.take(position)
    window.extend(1000, 100, most=3)
    assert window.stop == 700


def test_a_block_is_handed_out_with_its_bytes(server: Server, window: ReadAheadWindow) -> None:
    window.extend(300, 100, most=10)
    server.answer_all()
    block = window.take(250)
    assert block.span == (200, 300)
    assert bytes(block.view) == content(block.span)


def test_each_block_is_reported_once(server: Server, window: ReadAheadWindow) -> None:
    window.extend(300, 100, most=10)
    server.answer_all()
    for position in (100, 150, 250, 199):
        window.take(position)
    assert server.landed == [(100, 200), (200, 300)]


def test_the_block_before_stays_for_steps_back_and_those_before_it_go(server: Server, window: ReadAheadWindow) -> None:
    window.extend(500, 100, most=10)
    server.answer_all()
    first, second, third = (window.take(position) for position in (100, 200, 300))
    assert first.span == (0, 0)
    assert bytes(second.view) == content(ByteSpan(200, 300))
    assert window.start == 200
    assert window.take(299) is second
    assert window.take(300) is third


def test_memory_of_passed_blocks_is_used_again(server: Server, window: ReadAheadWindow) -> None:
    window.extend(400, 100, most=10)
    server.answer_all()
    first = window.take(100)
    memory = first.data
    window.take(200)
    window.take(300)
    window.extend(500, 100, most=10)
    assert window._blocks[-1].block.data is memory
    assert (first.start, first.stop, bytes(first.view), first.data) == (0, 0, b"", b"")
    assert not first.holds(100)


def test_memory_of_another_size_is_not_used_again(server: Server, window: ReadAheadWindow) -> None:
    window.extend(400, 100, most=10)
    server.answer_all()
    for position in (100, 200, 300):
        window.take(position)
    window.extend(600, 200, most=10)
    server.answer_all()
    assert bytes(window.take(400).view) == content(ByteSpan(400, 600))


def test_memory_that_is_still_being_written_to_is_not_used_again(server: Server, window: ReadAheadWindow) -> None:
    window.extend(300, 100, most=10)
    skipped = window._blocks[0].block.data
    future, memory = server._under_way.pop(ByteSpan(200, 300))
    memory[:] = content(ByteSpan(200, 300))
    future.set_result(Download(STAT, ByteSpan(200, 300), b"", 0))
    window.take(200)
    window.take(250)
    window.extend(400, 100, most=10)
    assert all(coming.block.data is not skipped for coming in window._blocks)
    server.answer_all()
    assert bytes(window.take(300).view) == content(ByteSpan(300, 400))


def test_a_failed_block_and_all_after_it_are_forgotten(server: Server, window: ReadAheadWindow) -> None:
    window.extend(400, 100, most=10)
    server._under_way.pop(ByteSpan(200, 300))[0].set_exception(KeyError("lost"))
    server.answer_all()
    window.take(100)
    with pytest.raises(KeyError):
        window.take(200)
    assert (window.start, window.stop) == (100, 200)
    window.extend(400, 100, most=10)
    server.answer_all()
    assert bytes(window.take(250).view) == content(ByteSpan(200, 300))


def test_nothing_is_held_when_it_is_retired(server: Server, window: ReadAheadWindow) -> None:
    window.extend(300, 100, most=10)
    server.answer_all()
    block = window.take(100)
    window.retire()
    assert block.span == (0, 0)
    assert not window.holds(150)


def test_a_block_may_have_more_memory_than_bytes() -> None:
    block = Block(50, bytearray(b"abcdef"), 3)
    assert (block.span, bytes(block.view)) == ((50, 53), b"abc")
    assert [block.holds(position) for position in (49, 50, 52, 53)] == [False, True, True, False]


def test_no_block_holds_nothing() -> None:
    assert not NO_BLOCK.holds(0)
    assert NO_BLOCK.span == (0, 0)


class Requests:
    """Stands for `ObjectRequests`: what is asked for comes at once."""

    concurrency, latency_seconds, size = 4, 0.001, 10_000_000

    def __init__(self) -> None:
        self.asked: list[ByteSpan] = []
        self.counted: list[ByteSpan] = []
        self.groups: list[Tasks] = []

    def get(self, span: ByteSpan) -> Download:
        self.asked.append(span)
        return Download(STAT, span, content(span), 0)

    def new_tasks(self) -> Tasks:
        self.groups.append(Tasks())
        return self.groups[-1]

    def start(self, tasks: Tasks, span: ByteSpan, target: memoryview) -> Future[Download]:
        assert tasks is self.groups[-1]
        self.asked.append(span)
        target[:] = content(span)
        future: Future[Download] = Future()
        future.set_result(Download(STAT, span, b"", 0))
        return future

    def count(self, download: Download, data: memoryview) -> None:
        self.counted.append(download.span)


class Tasks:
    is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def random_blocks(requests: Requests) -> RandomBlocks:
    return RandomBlocks(requests)


@pytest.fixture
def read_ahead(requests: Requests) -> ReadAhead:
    return ReadAhead(requests)


def test_a_random_read_is_one_request_and_its_block_is_found_again(
    requests: Requests, random_blocks: RandomBlocks
) -> None:
    block = random_blocks.fetch(1000, 10)
    assert requests.asked == [(1000, 1000 + FIRST_BYTES)]
    assert bytes(block.view) == content(block.span)
    assert random_blocks.find(1000 + FIRST_BYTES - 1) is block
    assert random_blocks.find(1000 + FIRST_BYTES) is None
    assert random_blocks.find(999) is None


def test_the_random_blocks_used_last_are_kept(random_blocks: RandomBlocks) -> None:
    positions = [number * MIB for number in range(MAX_RANDOM_BLOCKS)]
    for position in positions:
        random_blocks.fetch(position, 10)
    assert random_blocks.find(0) is not None
    random_blocks.fetch(9 * MIB, 10)
    assert random_blocks.find(0) is not None
    assert random_blocks.find(MIB) is None
    assert len(random_blocks.spans()) == MAX_RANDOM_BLOCKS


def test_retired_random_blocks_have_no_bytes(random_blocks: RandomBlocks) -> None:
    block = random_blocks.fetch(1000, 10)
    random_blocks.retire()
    assert (random_blocks.spans(), random_blocks.find(1000), block.span) == ([], None, (0, 0))


def test_reading_ahead_begins_where_the_reader_is(requests: Requests, read_ahead: ReadAhead) -> None:
    assert (read_ahead.spans(), read_ahead.holds(0)) == ([], False)
    block = read_ahead.fetch(MIB, 10, run_bytes=FIRST_BYTES, after=MIB)
    assert block.start == MIB
    assert read_ahead.spans() == requests.asked
    assert requests.asked[-1].stop == MIB + 10 + 2 * FIRST_BYTES
    assert requests.counted == [(MIB, MIB + FIRST_BYTES)]


def test_skipped_bytes_are_fetched_too(requests: Requests, read_ahead: ReadAhead) -> None:
    block = read_ahead.fetch(MIB, 10, run_bytes=0, after=MIB - 100)
    assert block.start == MIB - 100
    read_ahead.fetch(5 * MIB, 10, run_bytes=0, after=2 * MIB)
    assert requests.asked[-1].start == 5 * MIB


def test_a_jump_stops_the_requests_of_the_window(requests: Requests, read_ahead: ReadAhead) -> None:
    before = read_ahead.fetch(0, 10, run_bytes=MIB, after=0)
    assert [group.is_stopped for group in requests.groups] == [False]
    read_ahead.fetch(9 * MIB, 10, run_bytes=0, after=10)
    assert [group.is_stopped for group in requests.groups] == [True, False]
    assert bytes(before.view) == content(before.span)
    assert not read_ahead.holds(0)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_block_that_nobody_asked_for_is_refused(read_ahead: ReadAhead, is_begun: bool) -> None:
    if is_begun:
        read_ahead.fetch(0, 10, run_bytes=0, after=0)
    position = max((span.stop for span in read_ahead.spans()), default=0)
    with pytest.raises(LookupError, match=f"the byte at {position} is neither here nor on its way"):
        read_ahead.take(position)


def test_no_more_is_prefetched_behind_a_large_read_than_allowed(requests: Requests, read_ahead: ReadAhead) -> None:
    read_ahead.prefetch_behind(ByteSpan(0, MIB), run_bytes=MIB, most=2)
    assert [span.start for span in requests.asked] == [MIB, MIB + MIB // 2]
    assert read_ahead.take(MIB).start == MIB


@pytest.mark.parametrize(("stop", "run_bytes"), [(MIB, 0), (Requests.size, MIB)])
def test_nothing_is_prefetched_after_a_jump_or_at_the_end(
    requests: Requests, read_ahead: ReadAhead, stop: int, run_bytes: int
) -> None:
    read_ahead.prefetch_behind(ByteSpan(0, stop), run_bytes=run_bytes, most=2)
    assert requests.asked == []


def test_a_forked_process_leaves_the_requests_to_its_parent(requests: Requests, read_ahead: ReadAhead) -> None:
    read_ahead.fetch(0, 10, run_bytes=MIB, after=0)
    read_ahead.forget()
    assert (read_ahead.spans(), requests.groups[0].is_stopped) == ([], False)


def test_retiring_read_ahead_stops_its_requests(requests: Requests, read_ahead: ReadAhead) -> None:
    block = read_ahead.fetch(0, 10, run_bytes=MIB, after=0)
    read_ahead.retire()
    assert (read_ahead.spans(), block.span, requests.groups[0].is_stopped) == ([], (0, 0), True)
