"""Bytes of whole objects and of ranges, and downloads."""

from __future__ import annotations

import io
import random
from pathlib import Path

import fsspec
import pytest
from fsspec.callbacks import Callback

from osstorchconnector.errors import OssNotFoundError, OssUsageError
from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.filesystem.ranges import MOST_BYTES
from osstorchconnector.testing import OssBucket

LARGE = random.Random(5).randbytes(9 << 20)
BOUNDS = [None, 0, 1, 4, 9, 10, 11, -1, -3, -10, -12]


@pytest.mark.parametrize("start", BOUNDS)
@pytest.mark.parametrize("end", BOUNDS)
def test_a_range_is_a_slice(fs: OssFileSystem, oss_bucket: OssBucket, root: str, start, end) -> None:
    oss_bucket.put("k", b"0123456789")
    assert fs.cat_file(f"{root}/k", start, end) == b"0123456789"[start:end]
    assert fs.cat_ranges([f"{root}/k"], [start], [end]) == [b"0123456789"[start:end]]
    assert fs.read_bytes(f"{root}/k", start, end) == b"0123456789"[start:end]


def test_a_small_object_takes_one_request_and_a_large_one_is_fetched_in_parallel(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str
) -> None:
    oss_bucket.put("small", LARGE[: 1 << 20])
    oss_bucket.put("large", LARGE)
    oss_bucket.put("empty", b"")
    oss_bucket.server.reset_counters()
    assert fs.cat_file(f"{root}/small") == LARGE[: 1 << 20]
    assert oss_bucket.server.counters().requests == {"GetObject": 1}
    assert fs.cat_file(f"{root}/large") == LARGE
    assert fs.cat_file(f"{root}/large", 5, 8 << 20) == LARGE[5 : 8 << 20]
    assert fs.cat_file(f"{root}/empty") == b""
    assert fs.cat([f"{root}/small", f"{root}/empty"]) == {f"{root}/small": LARGE[: 1 << 20], f"{root}/empty": b""}
    assert fs.cat(f"{root}/s*") == {f"{root}/small": LARGE[: 1 << 20]}


def test_reading_what_is_not_there(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    with pytest.raises(FileNotFoundError, match="NoSuchKey"):
        fs.cat_file(f"{root}/nothing")
    with pytest.raises(IsADirectoryError):
        fs.cat_file(root)
    with pytest.raises(OssUsageError, match="versions of objects"):
        fs.cat_file(f"{root}/k", version_id="1")


def test_neighbouring_ranges_come_with_one_request(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("a", LARGE)
    oss_bucket.put("b", LARGE[::-1])
    starts = [0, 1000, 200_000, 100, 5 << 20, 5]
    paths = [f"{root}/{name}" for name in "aaabab"]
    ends = [start + 500 for start in starts]
    oss_bucket.server.reset_counters()
    found = fs.cat_ranges(paths, starts, ends)
    data = {"a": LARGE, "b": LARGE[::-1]}
    assert found == [data[p[-1]][s:e] for p, s, e in zip(paths, starts, ends, strict=True)]
    assert oss_bucket.server.counters().requests == {"GetObject": 4}
    oss_bucket.server.reset_counters()
    assert fs.cat_ranges(paths, starts, ends, max_gap=0) == found
    assert oss_bucket.server.counters().requests == {"GetObject": 5}, "two of them overlap"


def test_ranges_of_all_kinds(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("a", LARGE)
    paths = [f"{root}/a"] * 5
    found = fs.cat_ranges(paths, [0, None, -10, 9 << 20, 7], [MOST_BYTES + 1, None, None, 10 << 20, 7])
    assert found == [LARGE[: MOST_BYTES + 1], LARGE, LARGE[-10:], b"", b""]
    assert fs.cat_ranges(paths, 1, 3) == [LARGE[1:3]] * 5
    assert fs.cat_ranges([], [], []) == []


def test_a_failed_range_is_an_error_in_its_place(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("a", b"0123456789")
    paths = [f"{root}/a", f"{root}/nothing", f"{root}/a", f"{root}/nothing"]
    first, second, third, fourth = fs.cat_ranges(paths, 0, [3, 3, 5, None])
    assert (first, third) == (b"012", b"01234")
    assert isinstance(second, OssNotFoundError) and isinstance(fourth, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 3, on_error="raise")
    with pytest.raises(TypeError):
        fs.cat_ranges(paths[0], 0, 3)
    with pytest.raises(ValueError, match="4 paths, 1 starts"):
        fs.cat_ranges(paths, [0], 3)


class Progress(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, hook_name: str | None = None, **kwargs: object) -> None:
        self.calls += 1


@pytest.mark.parametrize("size", [0, 10, 1 << 20, 9 << 20])
def test_a_download_is_whole_and_told_of(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path, size: int
) -> None:
    oss_bucket.put("k", LARGE[:size])
    progress = Progress()
    fs.get_file(f"{root}/k", tmp_path / "k", callback=progress)
    assert (tmp_path / "k").read_bytes() == LARGE[:size]
    assert (progress.size, progress.value) == (size, size)
    opened = io.BytesIO()
    fs.get_file(f"{root}/k", opened)
    assert opened.getvalue() == LARGE[:size]
    with (tmp_path / "k2").open("wb") as file:
        fs.get_file(f"{root}/k", file)
    assert (tmp_path / "k2").read_bytes() == LARGE[:size]


def test_a_download_that_fails_leaves_nothing_behind(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path
) -> None:
    oss_bucket.put("k", LARGE)
    (tmp_path / "k").write_bytes(b"old")
    oss_bucket.server.fail("GetObject", "404", bucket=oss_bucket.name, after=1)
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{root}/k", tmp_path / "k")
    oss_bucket.server.clear_faults()
    assert [path.name for path in tmp_path.iterdir() if "k" in path.name or "unfinished" in path.name] == ["k"]
    assert (tmp_path / "k").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{root}/nothing", tmp_path / "k")


def test_trees_are_downloaded(fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path) -> None:
    for key in ("tree/a", "tree/b/c", "tree/b/d"):
        oss_bucket.put(key, key.encode())
    fs.get(f"{root}/tree", str(tmp_path / "here"), recursive=True, callback=fsspec.callbacks.TqdmCallback())
    assert (tmp_path / "here" / "b" / "d").read_bytes() == b"tree/b/d"
    fs.get_file(f"{root}/tree", tmp_path / "folder")
    assert (tmp_path / "folder").is_dir()
    with pytest.raises(IsADirectoryError):
        fs.get_file(f"{root}/tree", io.BytesIO())


def test_blocks_between_delimiters(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("k", b"one\ntwo\nthree\n")
    assert fs.read_block(f"{root}/k", 0, 5, delimiter=b"\n") == b"one\ntwo\n"
    assert fs.head(f"{root}/k", 3) == b"one" and fs.tail(f"{root}/k", 6) == b"three\n"
    assert fs.read_text(f"{root}/k") == "one\ntwo\nthree\n"
