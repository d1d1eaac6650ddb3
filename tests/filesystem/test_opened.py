"""Files that `open` returns."""

from __future__ import annotations

import gc
import gzip
import io
import pickle
import random
import urllib.request
from pathlib import Path

import fsspec
import pytest

from osstorchconnector.errors import OssError, OssExistsError, OssUsageError
from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

DATA = random.Random(7).randbytes(350_000)


@pytest.fixture(autouse=True)
def _registered() -> None:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)


def uploads(bucket: OssBucket) -> int:
    return len(bucket.server.uploads(bucket.name))


def write_and_fail(opened, data, *, is_closed: bool = False) -> None:
    with opened as file:
        file.write(data)
        if is_closed:
            file.close()
        raise ZeroDivisionError


# --- reading


def test_a_file_that_is_read_is_what_users_of_fsspec_expect(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str
) -> None:
    oss_bucket.put("k", b"one\ntwo\nthree")
    with fs.open(f"oss://{root}/k") as file:
        assert (file.size, file.path, file.full_name) == (13, f"{root}/k", f"oss://{root}/k")
        assert file.readline() == b"one\n" and file.loc == file.tell() == 4
        assert file.readuntil(b"\n") == b"two\n" and file.readuntil(b"x") == b"three" and file.readuntil() == b""
        assert file.seek(0) == 0 and file.readuntil(b"e\nt", blocks=3) == b"one\nt"
        assert file.details["size"] == file.info()["size"] == 13
        copy = pickle.loads(pickle.dumps(file))
        assert copy.tell() == 5 and copy.read() == b"wo\nthree"
    assert pickle.loads(pickle.dumps(file)).closed
    with pytest.raises(FileNotFoundError), fs.open(f"{root}/nothing") as file:
        file.read()


def test_a_stated_size_is_believed(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("k", DATA)
    oss_bucket.server.reset_counters()
    with fs.open(f"{root}/k", size=len(DATA), block_size=1000) as file:
        assert (file.size, file.blocksize) == (len(DATA), 1000)
        assert not oss_bucket.server.counters().requests
        assert file.read() == DATA


@pytest.mark.parametrize("cache_type", ["readahead", "none", "bytes", "all", "blockcache", "first", "background"])
def test_the_caches_of_fsspec(fs: OssFileSystem, oss_bucket: OssBucket, root: str, cache_type: str) -> None:
    oss_bucket.put("k", DATA)
    with fs.open(f"{root}/k", cache_type=cache_type, block_size=1000) as file:
        assert file.read(10) == DATA[:10] and file.seek(200_000) and file.read(5000) == DATA[200_000:205_000]


def test_a_cache_may_be_the_default(oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("k", DATA)
    fs = OssFileSystem(**oss_bucket.options, default_cache_type="bytes", default_block_size=1000)
    with fs.open(f"{root}/k") as file:
        assert (file.cache.name, file.blocksize) == ("bytes", 1000)
        assert file.read() == DATA


def test_text_and_compression(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    with fs.open(f"{root}/k.gz", "wt", compression="infer", encoding="latin-1") as file:
        file.write("grün\n")
    assert gzip.decompress(oss_bucket.get("k.gz")).decode("latin-1") == "grün\n"
    with fs.open(f"{root}/k.gz", "r", compression="gzip", encoding="latin-1") as file:
        assert list(file) == ["grün\n"]
    with fs.open(f"{root}/b.gz", "wb", compression="gzip") as file:
        file.write(DATA)
    assert gzip.decompress(oss_bucket.get("b.gz")) == DATA
    with fs.open(f"{root}/b.zip", "wb", compression="zip") as file:
        file.write(DATA)
    with fs.open(f"{root}/b.zip", "rb", compression="infer") as file:
        assert file.read() == DATA
    fs.write_text(f"{root}/t", "text")
    assert fs.read_text(f"{root}/t") == "text"


# --- writing


@pytest.mark.parametrize("size", [0, 10, 350_000])
def test_what_is_written_is_there_when_the_file_is_closed(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, size: int
) -> None:
    assert fs.ls(root) == []
    with fs.open(f"{root}/k", "wb") as file:
        assert file.write(DATA[:size]) == size and file.tell() == file.loc == size
        file.flush(force=True)
        assert oss_bucket.keys() == []
    assert file.closed and oss_bucket.get("k") == DATA[:size]
    assert fs.ls(root, detail=False) == [f"{root}/k"]


@pytest.mark.parametrize("mode", ["wb", "w", "xb", "ab"])
@pytest.mark.parametrize("compression", [None, "gzip", "zip"])
@pytest.mark.parametrize("opener", ["fs.open", "fsspec.open"])
def test_nothing_is_stored_after_an_error(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, mode: str, compression: str | None, opener: str
) -> None:
    data = DATA if "b" in mode else "text"
    if opener == "fs.open":
        opened = fs.open(f"{root}/k", mode, compression=compression)
    else:
        opened = fsspec.open(f"oss://{root}/k", mode, compression=compression, **fs.storage_options)
    with pytest.raises(ZeroDivisionError):
        write_and_fail(opened, data)
    gc.collect()
    assert oss_bucket.keys() == [] and not uploads(oss_bucket)


def test_fsspecs_own_open_stores_after_no_error(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    with fsspec.open(f"oss://{root}/k", "wb", **fs.storage_options) as file:
        file.write(DATA)
    try:
        raise ValueError("handled by a program that writes")
    except ValueError:
        with fsspec.open(f"oss://{root}/t", "wt", compression="gzip", **fs.storage_options) as file:
            file.write("text")
    assert oss_bucket.get("k") == DATA and gzip.decompress(oss_bucket.get("t")) == b"text"


@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("compression", [None, "gzip", "zip"])
def test_a_file_that_is_never_closed_stores_nothing(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, mode: str, compression: str | None
) -> None:
    fs.open(f"{root}/k", mode, compression=compression).write(DATA if mode == "wb" else "text")
    gc.collect()
    assert oss_bucket.keys() == []


@pytest.mark.parametrize("size", [10, 350_000])
def test_exclusive_creation_is_atomic(fs: OssFileSystem, oss_bucket: OssBucket, root: str, size: int) -> None:
    with fs.open(f"{root}/k", "xb") as file:
        file.write(DATA[:size])
    assert oss_bucket.get("k") == DATA[:size]
    with pytest.raises(FileExistsError, match="there is such an object"):
        fs.open(f"{root}/k", "xb")
    file = fs.open(f"{root}/raced", "xb")
    file.write(DATA[:size])
    oss_bucket.put("raced", b"another's")
    with pytest.raises(OssExistsError):
        file.close()
    assert oss_bucket.get("raced") == b"another's" and not uploads(oss_bucket)


@pytest.mark.parametrize("mode", ["r+b", "wb+", "q"])
def test_other_modes_are_refused(fs: OssFileSystem, root: str, mode: str) -> None:
    with pytest.raises(OssUsageError, match="rb, wb, ab, xb"):
        fs.open(f"{root}/k", mode)


def test_options_that_do_not_exist_are_refused(fs: OssFileSystem, root: str) -> None:
    with pytest.raises(OssUsageError, match="version_id: versions of objects are not supported"):
        fs.open(f"{root}/k", version_id="1")
    with pytest.raises(OssUsageError, match="storage_class: there is no such option"):
        fs.open(f"{root}/k", "wb", storage_class="IA")
    with pytest.raises(IsADirectoryError):
        fs.open(root)


# --- appending


@pytest.mark.parametrize("old_size", [0, 5, 102_400, 250_000])
@pytest.mark.parametrize("new_size", [0, 7, 250_000])
def test_appended_bytes_follow_the_old_ones(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, old_size: int, new_size: int
) -> None:
    oss_bucket.put("k", DATA[:old_size])
    with fs.open(f"{root}/k", "ab") as file:
        assert file.tell() == old_size and not file.seekable() and not file.readable()
        file.write(DATA[:new_size])
        assert file.tell() == old_size + new_size
        assert oss_bucket.get("k") == DATA[:old_size]
    assert oss_bucket.get("k") == DATA[:old_size] + DATA[:new_size]
    sent = oss_bucket.server.counters().requests
    assert not sent["GetObject"] or old_size < 102_400, "a large object never comes through the client"


def test_appending_makes_what_is_missing_and_goes_on_with_appendable_objects(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str
) -> None:
    with fs.open(f"{root}/k", "a") as file:
        file.write("one ")
    target = OssUri(root, "log")
    fs.client.submit(lambda operations: operations.append(target, b"one ", position=0, crc64=0)).result()
    for word in (b"two ", b"three"):
        with fs.open(f"{root}/log", "ab") as file:
            file.write(word)
    assert (oss_bucket.get("k"), oss_bucket.get("log")) == (b"one ", b"one two three")
    assert oss_bucket.server.counters().requests["AppendObject"] == 3


@pytest.mark.parametrize("size", [10, 102_400])
def test_nothing_is_appended_to_what_somebody_else_changed(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, size: int
) -> None:
    oss_bucket.put("k", DATA[:size])
    file = fs.open(f"{root}/k", "ab")
    file.write(b"more")
    oss_bucket.put("k", b"another's")
    with pytest.raises(OssError, match="412|changed|replaced"):
        file.close()
    assert oss_bucket.get("k") == b"another's" and not uploads(oss_bucket)


# --- transactions


def test_a_transaction_stores_all_or_nothing(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("c", b"old")
    with fs.transaction:
        for name, mode in (("a", "wb"), ("b", "xb"), ("c", "ab")):
            with fs.open(f"{root}/{name}", mode) as file:
                file.write(DATA)
            assert file.closed
        assert oss_bucket.keys() == ["c"] and oss_bucket.get("c") == b"old"
    assert (oss_bucket.get("a"), oss_bucket.get("b"), oss_bucket.get("c")) == (DATA, DATA, b"old" + DATA)
    with pytest.raises(ZeroDivisionError), fs.transaction:
        write_and_fail(fs.open(f"{root}/d", "wb"), DATA, is_closed=True)
    assert oss_bucket.keys() == ["a", "b", "c"] and not uploads(oss_bucket)


def test_a_file_that_failed_in_a_transaction_is_left_out(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    with fs.transaction:
        with pytest.raises(ZeroDivisionError):
            write_and_fail(fs.open(f"{root}/bad", "wb"), DATA)
        with fs.open(f"{root}/good", "wb") as file:
            file.write(b"good")
    assert oss_bucket.keys() == ["good"]


# --- facts about objects


def test_facts(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    oss_bucket.put("k", b"one")
    path = f"{root}/k"
    assert fs.created(path) == fs.modified(path) == fs.info(path)["LastModified"]
    assert fs.ukey(path) == fs.info(path)["ETag"]
    before = fs.checksum(path)
    assert before == fs.checksum(path)
    fs.pipe_file(path, b"two")
    assert fs.checksum(path) != before
    with urllib.request.urlopen(fs.sign(path, 60), timeout=30) as answer:
        assert answer.read() == b"two"
    with pytest.raises(OssUsageError, match="expiration"):
        fs.sign(path, 0)


def test_other_file_systems_work_on_top(fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path) -> None:
    oss_bucket.put("dir/k", DATA)
    cached = fsspec.filesystem("simplecache", fs=fs, cache_storage=str(tmp_path / "cache"))
    assert cached.cat_file(f"{root}/dir/k") == DATA
    assert fsspec.filesystem("dir", path=f"{root}/dir", fs=fs).cat_file("k") == DATA
    mapper = fs.get_mapper(f"{root}/dir")
    mapper["new"] = b"x"
    assert dict(mapper) == {"k": DATA, "new": b"x"} and isinstance(fs.open(f"{root}/dir/k"), io.BufferedIOBase)
