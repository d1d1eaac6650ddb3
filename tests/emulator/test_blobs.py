from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator.blobs import Blob, BlobFolder, BlobSpan, cut, size_of


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs", max_open_files=2)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "blobs").glob("*/*"))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_stored_is_read_back(blobs: BlobFolder) -> None:
    assert blobs.read(blobs.store(b"hello")) == b"hello"


def test_nothing_is_stored_as_no_file(blobs: BlobFolder, tmp_path: Path) -> None:
    assert blobs.store(b"") == ()
    assert files(tmp_path) == []


def test_small_pieces_are_kept_within_bounds(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path / "blobs", max_small_bytes=10)
    first, second = blobs.store(b"123456"), blobs.store(b"abcdef")
    assert [blobs.read_small(content) for content in (first, second)] == [b"123456", b"abcdef"]
    blobs.close()
    for path in files(tmp_path):
        path.unlink()
    assert blobs.read_small(second) == b"abcdef"
    with pytest.raises(FileNotFoundError):
        blobs.read_small(first)


def test_a_blob_is_gone_when_the_last_holder_lets_go(blobs: BlobFolder, tmp_path: Path) -> None:
    content = blobs.store(b"hello")
    blobs.retain(content)
    blobs.retain(content)
    blobs.read(content)
    blobs.release(content)
    assert len(files(tmp_path)) == 1
    blobs.release(content)
    assert files(tmp_path) == []


def test_a_discarded_blob_leaves_no_file(blobs: BlobFolder, tmp_path: Path) -> None:
    writer = blobs.create()
    writer.write(memoryview(b"half"))
    writer.discard()
    assert files(tmp_path) == []


def test_more_blobs_are_read_than_files_may_be_open(blobs: BlobFolder) -> None:
    contents = [blobs.store(bytes([number])) for number in range(5)]
    before = open_files()
    assert [blobs.read(content) for content in contents * 2] == [bytes([n]) for n in range(5)] * 2
    assert open_files() - before == 2
    blobs.close()
    assert open_files() == before


def test_sweeping_removes_what_nobody_wants(blobs: BlobFolder, tmp_path: Path) -> None:
    wanted, _ = blobs.store(b"wanted"), blobs.store(b"left over")
    blobs.sweep({wanted[0].blob.name})
    assert [path.name for path in files(tmp_path)] == [wanted[0].blob.name]


def test_a_file_that_lost_bytes_is_an_error_and_not_a_short_object(blobs: BlobFolder) -> None:
    content = blobs.store(b"hello")
    os.truncate(blobs.path(content[0].blob.name), 3)
    with pytest.raises(OSError, match="shorter than its record"):
        blobs.read(content)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_a_cut_has_the_bytes_between_start_and_stop(sizes: list[tuple[int, int]], start: int, stop: int) -> None:
    content = tuple(BlobSpan(Blob(str(number)), first, first + size) for number, (first, size) in enumerate(sizes))
    where = [(piece.blob.name, position) for piece in content for position in range(piece.start, piece.stop)]
    pieces = cut(content, start, stop)
    assert [(piece.blob.name, p) for piece in pieces for p in range(piece.start, piece.stop)] == where[start:stop]
    assert size_of(pieces) == len(where[start:stop])
    assert all(piece.size for piece in pieces)
