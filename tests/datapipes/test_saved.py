"""Saved indexes that are damaged, or that somebody else has written."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from osstorchconnector import OssMapDataset
from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes.saved import SavedListing, save_index
from osstorchconnector.errors import OssConfigError, OssError, OssIntegrityError, OssUsageError
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.layout import MAGIC, Batch, pack_block
from osstorchconnector.testing import ScriptedTransport

GOOD = Batch("bucket/", ["a", "b"], [1, 2], None, b"")
CLIENT = OssClient("http://127.0.0.1:9")
BLOCKS = [
    Batch("bucket/", ["a/1", "a/2", "a/3"], [1, 2, 3]),
    Batch("bucket/", ["b/1", "b/2"], [4, 5], ["cat", {"n": [1]}]),
    Batch("other/", ["c"], [6]),
]


def read(path: Path, cursor: bytes = b"") -> Iterator[tuple[str, int, Any]]:
    for batch in SavedListing(CLIENT, str(path)).batches(cursor):
        labels = batch.labels or [""] * len(batch.tails)
        for tail, size, label in zip(batch.tails, batch.sizes, labels, strict=True):
            yield batch.base + tail, size, label


def rows(path: Path, *blocks: bytes) -> list[str]:
    """Return what is read of these blocks in a file of the version without sums."""
    path.write_bytes(MAGIC + b"".join(blocks))
    return [name for name, _, _ in read(path)]


def saved(*blocks: Batch) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_index(FixedIndex(blocks), Path(folder, "index"), CLIENT)
        assert [path.name for path in Path(folder).iterdir()] == ["index"]
        return Path(folder, "index").read_bytes()


SAVED = saved(*BLOCKS)
ROWS = [
    (batch.base + tail, size, label)
    for batch in BLOCKS
    for tail, size, label in zip(batch.tails, batch.sizes, batch.labels or [""] * 3, strict=False)
]


def read_until_damaged(data: bytes) -> list[tuple[str, int, Any]]:
    """Return what is read of a saved index before the error that must come."""
    found: list[tuple[str, int, Any]] = []
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with pytest.raises(OssError, match="saved index"):
            found.extend(read(Path(file.name)))
    return found


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(SAVED)
    assert list(read(tmp_path / "index")) == ROWS
    (tmp_path / "empty").write_bytes(saved())
    assert list(read(tmp_path / "empty")) == []


def test_reading_goes_on_after_any_block(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(SAVED)
    done = 0
    for batch in SavedListing(CLIENT, str(tmp_path / "index")).batches(b""):
        done += len(batch.tails)
        assert list(read(tmp_path / "index", batch.cursor)) == ROWS[done:]


def test_an_index_that_was_cut_off_anywhere_is_an_error() -> None:
    for length in range(len(SAVED)):
        found = read_until_damaged(SAVED[:length])
        assert found == ROWS[: len(found)]
    assert found == ROWS  # only the end mark is missing, and that is an error too


@given(st.integers(0, 8 * len(SAVED) - 1))
@example(49)
def test_an_index_with_a_flipped_bit_anywhere_is_an_error_before_any_wrong_row(bit: int) -> None:
    data = bytearray(SAVED)
    data[bit // 8] ^= 1 << bit % 8
    found = read_until_damaged(bytes(data))
    assert found == ROWS[: len(found)]


@given(st.integers(0, len(SAVED)), st.binary(min_size=1, max_size=64), st.booleans())
def test_an_index_with_other_bytes_in_it_is_an_error_before_any_wrong_row(at: int, other: bytes, longer: bool) -> None:
    data = SAVED[:at] + other + SAVED[at + (0 if longer else len(other)) :]
    if data != SAVED:
        found = read_until_damaged(data)
        assert found == ROWS[: len(found)]


def test_blocks_in_another_order_or_left_out_are_an_error() -> None:
    ends = list(itertools.accumulate((len(pack_block(batch)) + 8 for batch in BLOCKS), initial=8))
    parts = [SAVED[start:end] for start, end in itertools.pairwise(ends)]
    assert SAVED[:8] + b"".join(parts) + SAVED[-24:] == SAVED
    for order in [(1, 0, 2), (0, 2), (0, 0, 1, 2), (0, 1), ()]:
        found = read_until_damaged(SAVED[:8] + b"".join(parts[number] for number in order) + SAVED[-24:])
        assert found == ROWS[: len(found)]


def test_an_index_of_an_earlier_version_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert rows(tmp_path / "index", pack_block(GOOD), pack_block(GOOD)) == ["bucket/a", "bucket/b"] * 2
    assert "earlier version" in caplog.text
    assert "save_index" in caplog.text


class Odd:
    """A label that only pickle can keep."""


def test_an_index_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    index = FixedIndex([Batch("bucket/", ["a"], [1], [Odd()])])
    with pytest.raises(OssUsageError, match="not plain values"):
        save_index(index, tmp_path / "index", CLIENT)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_could_run_anything_are_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(OssError, match="could run anything"):
        rows(tmp_path / "index", pack_block(Batch("bucket/", ["a"], [1], [Odd()])))


def save(folder: Path, number: int) -> None:
    for _ in range(20):
        keys = [f"{number}/{row}" for row in range(500)]
        save_index(FixedIndex([Batch("bucket/", keys, [1] * len(keys))]), folder / "index", CLIENT)


@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("fork").Process])
def test_who_saves_one_index_at_the_same_time_leaves_one_of_them_whole(tmp_path: Path, kind: Any) -> None:
    writers = [kind(target=save, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(read(tmp_path / "index"))) == 500
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_place_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match="can't be saved.*not a regular file"):
        save_index(FixedIndex(BLOCKS), tmp_path, CLIENT)


@pytest.mark.parametrize(
    "name",
    [
        "bucket/",
        "bucket//a",
        "bucket/" + "k" * 1024,
        "a\r\nHost: evil/key",
        "../etc/passwd",
        "bucket",
        "",
    ],
)
@pytest.mark.parametrize("others", [["bucket/x", "bucket/y"], []])
def test_a_name_that_is_no_objects_is_refused(tmp_path: Path, name: str, others: list[str]) -> None:
    names = [*others, name]
    with pytest.raises(OssError, match="the saved index .*index, byte 8: "):
        rows(tmp_path / "index", pack_block(Batch("", names, [1] * len(names), None, b"")))


@pytest.mark.parametrize("name", ["evil.example/key", "B/key"])
def test_a_name_that_no_bucket_has_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    """A saved index of local files may hold it: the first folder of a path stands where the bucket does."""
    assert rows(tmp_path / "index", pack_block(Batch("", [name], [1], None, b""))) == [name]
    transport = ScriptedTransport([])
    client = OssClient("https://oss-cn-beijing.aliyuncs.com", cred_provider="anonymous", transport=transport)
    with pytest.raises(OssError, match="no valid bucket name"):
        OssMapDataset.from_index(str(tmp_path / "index"), client)[0].read()
    assert transport.requests == []


@pytest.mark.parametrize("position", range(0, 32, 4))
@pytest.mark.parametrize("value", [0, 1, 7, 1 << 31, (1 << 32) - 1])
def test_counts_that_are_not_true_are_an_error_or_harmless(tmp_path: Path, position: int, value: int) -> None:
    block = bytearray(pack_block(GOOD._replace(labels=["cat", "dog"])))
    struct.pack_into("=I", block, position, value)
    try:
        found = rows(tmp_path / "index", bytes(block))
    except OssError:
        return
    assert all(name.startswith("bucket/") for name in found)


def test_a_block_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    block = bytearray(pack_block(GOOD))
    struct.pack_into("=I", block, 4, 0xFFFFFFF8)
    with pytest.raises(OssIntegrityError, match="damaged.*at byte 8"):
        rows(tmp_path / "index", bytes(block))
