from __future__ import annotations

import multiprocessing
import resource
import signal
from pathlib import Path

import pytest

from osstorchconnector.errors import OssError
from osstorchconnector.index.held_file import HeldFile, hold
from osstorchconnector.index.layout import HEAD_BYTES, Batch, TableProgress, TableState
from osstorchconnector.index.shared_file import IndexReader, IndexWriter
from osstorchconnector.uri import OssUri


def batch(*keys: str, cursor: bytes = b"") -> Batch:
    return Batch("bucket/", list(keys), [1] * len(keys), None, cursor)


def keys(reader: IndexReader) -> list[str]:
    return [reader.table.info(number).uri.key for number in range(reader.table.rows)]


def writer_of(held: HeldFile) -> IndexWriter:
    writer = IndexWriter.try_lock(held)
    assert writer is not None
    return writer


@pytest.fixture
def held(path: Path) -> HeldFile:
    return hold(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def test_a_reader_sees_rows_when_they_are_published(held: HeldFile) -> None:
    reader = IndexReader(held)
    assert reader.refresh() == TableProgress()
    writer = writer_of(held)
    assert reader.refresh() == TableProgress()
    for number in range(5):
        writer.append(batch(f"{number}a", f"{number}b"))
        assert keys(reader) == [f"{n}{end}" for n in range(number) for end in "ab"]
        assert reader.refresh().rows == 2 * number + 2
    assert reader.table.info(9).uri == OssUri("bucket", "4b")
    writer.complete()
    assert reader.refresh().state is TableState.COMPLETE


def test_rows_taken_before_the_file_grew_stay_good(held: HeldFile) -> None:
    writer, reader = writer_of(held), IndexReader(held)
    writer.append(batch("a"))
    reader.refresh()
    assert keys(reader) == ["a"]
    writer.append(batch(*map(str, range(5000))))
    reader.refresh()
    assert keys(reader)[:3] == ["a", "0", "1"]


def test_a_head_that_is_being_written_takes_nothing_back(held: HeldFile, path: Path) -> None:
    """A reader that is stopped between two looks may meet each slot while it is written. It waits, and reads on."""
    writer, reader = writer_of(held), IndexReader(held)
    for number in range(3):
        writer.append(batch(f"{number}"))
    seen, head = reader.refresh(), path.read_bytes()[:256]
    with path.open("r+b") as file:
        file.write(head[:64] + b"x" * 192)
    assert reader.refresh() == seen
    with path.open("r+b") as file:
        file.write(head)
    writer.append(batch("3"))
    assert reader.refresh().rows == 4
    assert keys(reader) == ["0", "1", "2", "3"]


def test_only_one_may_write_at_a_time(held: HeldFile) -> None:
    first = writer_of(held)
    assert IndexWriter.try_lock(held) is None
    first.close()
    writer_of(held).close()


def test_the_next_writer_goes_on_where_the_last_one_stopped(held: HeldFile) -> None:
    first = writer_of(held)
    assert first.cursor == b""
    first.append(batch("a", cursor=b"after a"))
    first.append(batch(cursor=b"nothing kept"))
    first.close()
    second = writer_of(held)
    assert second.cursor == b"nothing kept"
    second.append(batch("b", cursor=b"after b"))
    reader = IndexReader(held)
    reader.refresh()
    assert keys(reader) == ["a", "b"]


def test_what_a_killed_writer_left_unpublished_is_overwritten(held: HeldFile) -> None:
    first = writer_of(held)
    first.append(batch("a"))
    first.close()
    with held.path.open("ab") as file:
        file.write(b"half a block" * 100)
    second = writer_of(held)
    second.append(batch("b"))
    reader = IndexReader(held)
    reader.refresh()
    assert keys(reader) == ["a", "b"]


def test_a_writer_that_was_forked_away_does_not_keep_the_lock(held: HeldFile) -> None:
    writer = writer_of(held)
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    try:
        writer.close()
        writer_of(held).close()
    finally:
        child.kill()
        child.join()


def test_the_lock_of_a_killed_writer_is_free(held: HeldFile) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def write_and_hang() -> None:
        there.send(writer_of(held).cursor)
        signal.pause()

    child = context.Process(target=write_and_hang)
    child.start()
    here.recv()
    assert IndexWriter.try_lock(held) is None
    child.kill()
    child.join()
    writer_of(held).close()


def test_a_failure_tells_why(held: HeldFile) -> None:
    writer, reader = writer_of(held), IndexReader(held)
    writer.fail("OssNotFoundError", "no bucket")
    assert reader.refresh().state is TableState.FAILED
    assert reader.failure() == ("OssNotFoundError", "no bucket")
    writer.append(batch("a"))
    assert reader.refresh().state is TableState.GROWING


def test_a_file_of_something_else_is_an_error(held: HeldFile) -> None:
    held.file  # noqa: B018
    held.path.write_bytes(b"x" * HEAD_BYTES)
    with pytest.raises(OssError, match="another version"):
        IndexReader(held).refresh()
    with pytest.raises(OssError, match="another version"):
        IndexWriter.try_lock(held)
    assert held.path.read_bytes() == b"x" * HEAD_BYTES


def test_a_full_disk_is_an_error_that_names_the_setting(held: HeldFile) -> None:
    writer = writer_of(held)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (HEAD_BYTES + 100, hard))
        with pytest.raises(OssError, match="indexDir"):
            writer.append(batch(*map(str, range(1000))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    reader = IndexReader(held)
    assert reader.refresh().rows == 0
    writer.append(batch("a"))
    assert reader.refresh().rows == 1
