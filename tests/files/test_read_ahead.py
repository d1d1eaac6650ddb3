"""ReadAhead: blocks in a row, their memory used again when they were passed, and never while somebody needs it."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from osstorchconnector.files.read_ahead import NO_BLOCK, Block, ReadAhead
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
def ahead(server: Server) -> ReadAhead:
    return ReadAhead(100, server.fetch, server.note)


def test_blocks_follow_each_other_from_the_start(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(350, 100, most=10)
    assert server.asked == [(100, 200), (200, 300), (300, 350)]
    assert (ahead.start, ahead.stop) == (100, 350)
    assert ahead.spans() == server.asked
    ahead.extend(350, 100, most=10)
    assert len(server.asked) == 3


def test_it_holds_what_was_asked_for(ahead: ReadAhead) -> None:
    assert not ahead.holds(100)
    ahead.extend(300, 100, most=10)
    assert [position for position in (99, 100, 199, 200, 299, 300) if ahead.holds(position)] == [100, 199, 200, 299]


def test_no_more_blocks_wait_than_allowed_but_for_what_is_needed(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(1000, 100, most=2)
    assert ahead.stop == 300
    ahead.extend(1000, 100, most=2)
    assert ahead.stop == 300
    ahead.extend(1000, 100, most=2, needed=499)
    assert ahead.stop == 500
    ahead.extend(1000, 100, most=2, needed=500)
    assert ahead.stop == 600
    server.answer_all()
    for position in (100, 200, 300):
        ahead.take(position)
    ahead.extend(1000, 100, most=3)
    assert ahead.stop == 700


def test_a_block_is_handed_out_with_its_bytes(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(300, 100, most=10)
    server.answer_all()
    block = ahead.take(250)
    assert block.span == (200, 300)
    assert bytes(block.view) == content(block.span)


def test_each_block_is_reported_once(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(300, 100, most=10)
    server.answer_all()
    for position in (100, 150, 250, 199):
        ahead.take(position)
    assert server.landed == [(100, 200), (200, 300)]


def test_the_block_before_stays_for_steps_back_and_those_before_it_go(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(500, 100, most=10)
    server.answer_all()
    first, second, third = (ahead.take(position) for position in (100, 200, 300))
    assert first.span == (0, 0)
    assert bytes(second.view) == content(ByteSpan(200, 300))
    assert ahead.start == 200
    assert ahead.take(299) is second
    assert ahead.take(300) is third


def test_memory_of_passed_blocks_is_used_again(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(400, 100, most=10)
    server.answer_all()
    first = ahead.take(100)
    memory = first.data
    ahead.take(200)
    ahead.take(300)
    ahead.extend(500, 100, most=10)
    assert ahead._blocks[-1].block.data is memory
    assert (first.start, first.stop, bytes(first.view), first.data) == (0, 0, b"", b"")
    assert not first.holds(100)


def test_memory_of_another_size_is_not_used_again(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(400, 100, most=10)
    server.answer_all()
    for position in (100, 200, 300):
        ahead.take(position)
    ahead.extend(600, 200, most=10)
    server.answer_all()
    assert bytes(ahead.take(400).view) == content(ByteSpan(400, 600))


def test_memory_that_is_still_being_written_to_is_not_used_again(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(300, 100, most=10)
    skipped = ahead._blocks[0].block.data
    future, memory = server._under_way.pop(ByteSpan(200, 300))
    memory[:] = content(ByteSpan(200, 300))
    future.set_result(Download(STAT, ByteSpan(200, 300), b"", 0))
    ahead.take(200)
    ahead.take(250)
    ahead.extend(400, 100, most=10)
    assert all(coming.block.data is not skipped for coming in ahead._blocks)
    server.answer_all()
    assert bytes(ahead.take(300).view) == content(ByteSpan(300, 400))


def test_a_failed_block_and_all_after_it_are_forgotten(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(400, 100, most=10)
    server._under_way.pop(ByteSpan(200, 300))[0].set_exception(KeyError("lost"))
    server.answer_all()
    ahead.take(100)
    with pytest.raises(KeyError):
        ahead.take(200)
    assert (ahead.start, ahead.stop) == (100, 200)
    ahead.extend(400, 100, most=10)
    server.answer_all()
    assert bytes(ahead.take(250).view) == content(ByteSpan(200, 300))


def test_nothing_is_held_when_it_is_retired(server: Server, ahead: ReadAhead) -> None:
    ahead.extend(300, 100, most=10)
    server.answer_all()
    block = ahead.take(100)
    ahead.retire()
    assert block.span == (0, 0)
    assert not ahead.holds(150)


def test_a_block_may_have_more_memory_than_bytes() -> None:
    block = Block(50, bytearray(b"abcdef"), 3)
    assert (block.span, bytes(block.view)) == ((50, 53), b"abc")
    assert [block.holds(position) for position in (49, 50, 52, 53)] == [False, True, True, False]


def test_no_block_holds_nothing() -> None:
    assert not NO_BLOCK.holds(0)
    assert NO_BLOCK.span == (0, 0)
