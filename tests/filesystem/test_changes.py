"""Writing, copying, moving and removing."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
from fsspec.callbacks import Callback

from osstorchconnector.errors import OssError, OssExistsError, OssPermissionError, OssServiceError, OssUsageError
from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.testing import OssBucket

DATA = random.Random(6).randbytes(350_000)  # parts have 100 KiB
KEYS = ["a/1", "a/b/2", "a/b/3", "c"]


def uploads(bucket: OssBucket) -> int:
    return len(bucket.server.uploads(bucket.name))


@pytest.mark.parametrize("size", [0, 10, 350_000])
def test_bytes_become_an_object(fs: OssFileSystem, oss_bucket: OssBucket, root: str, size: int) -> None:
    fs.pipe_file(f"{root}/k", memoryview(DATA)[:size])
    assert oss_bucket.get("k") == DATA[:size]
    with pytest.raises(OssExistsError):
        fs.pipe_file(f"{root}/k", DATA[: size + 1], mode="create")
    assert oss_bucket.get("k") == DATA[:size] and not uploads(oss_bucket)
    fs.pipe({f"{root}/new": DATA[:size]}, mode="create")
    assert oss_bucket.get("new") == DATA[:size]
    with pytest.raises(ValueError, match="mode 'append'"):
        fs.pipe_file(f"{root}/k", b"", mode="append")
    with pytest.raises(OssUsageError, match="tags of objects are not supported"):
        fs.pipe_file(f"{root}/k", b"", tags={"a": "b"})
    with pytest.raises(IsADirectoryError):
        fs.pipe_file(root, b"")


@pytest.mark.parametrize("size", [0, 10, 350_000])
def test_a_file_is_uploaded(fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(DATA[:size])
    fs.put_file(tmp_path / "file", f"{root}/k")
    assert oss_bucket.get("k") == DATA[:size]
    with pytest.raises(FileExistsError):
        fs.put_file(tmp_path / "file", f"{root}/k", mode="create")
    fs.put_file(io.BytesIO(b"open"), f"{root}/k")
    assert oss_bucket.get("k") == b"open" and not uploads(oss_bucket)
    fs.put_file(tmp_path, f"{root}/folder")
    assert oss_bucket.keys() == ["k"]
    with pytest.raises(FileNotFoundError):
        fs.put_file(tmp_path / "nothing", f"{root}/k")


@pytest.mark.parametrize("size", [10, 350_000])
def test_a_file_that_is_written_meanwhile_is_not_published(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[:size])
    changing = Callback(hooks={"change": lambda size, value, **_: value and os.utime(path, (1, 1))})
    with pytest.raises(OssError, match="file was changed while it was copied"):
        fs.put_file(path, f"{root}/k", callback=changing)
    assert oss_bucket.keys() == [] and not uploads(oss_bucket)


@pytest.mark.parametrize("size", [10, 350_000])
def test_metadata_stays_with_the_object(fs: OssFileSystem, root: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(DATA[:size])
    described = {"camera": "left rear", "Run-7": "a=b"}
    kept = {"camera": "left rear", "run-7": "a=b"}
    fs.pipe_file(f"{root}/piped", DATA[:size], metadata=described)
    fs.put_file(tmp_path / "file", f"{root}/put", metadata=described)
    with fs.open(f"{root}/opened", "wb", metadata=described) as file:
        file.write(DATA[:size])
    fs.cp_file(f"{root}/put", f"{root}/copied")
    with fs.open(f"{root}/put", "ab") as file:
        file.write(b"more")
    for name in ("piped", "put", "opened", "copied"):
        assert fs.info(f"{root}/{name}")["Metadata"] == kept
    fs.pipe_file(f"{root}/piped", DATA[:size])
    assert fs.info(f"{root}/piped")["Metadata"] == {}


@pytest.mark.parametrize(
    "metadata", [{"under_score": "a"}, {"": "a"}, {"a": "Grüße"}, {"a": " a"}, {"a": "line\n"}, {"a": "x" * 8192}]
)
def test_metadata_that_would_not_stay_is_refused(
    fs: OssFileSystem, oss_bucket: OssBucket, root: str, metadata: dict[str, str]
) -> None:
    for write in (
        lambda: fs.pipe_file(f"{root}/k", DATA[:10], metadata=metadata),
        lambda: fs.pipe_file(f"{root}/k", DATA, metadata=metadata),
    ):
        with pytest.raises(OssUsageError, match="metadata"):
            write()
    with pytest.raises(OssUsageError, match="no such option"):
        fs.open(f"{root}/k", "ab", metadata={"a": "b"})
    assert not oss_bucket.keys() and not uploads(oss_bucket)


def test_trees_are_uploaded(fs: OssFileSystem, oss_bucket: OssBucket, root: str, tmp_path: Path) -> None:
    (tmp_path / "tree" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "b" / "c").write_bytes(b"c")
    (tmp_path / "tree" / "a").write_bytes(b"a")
    fs.put(str(tmp_path / "tree"), f"{root}/here", recursive=True)
    assert oss_bucket.keys() == ["here/a", "here/b/c"]


def test_touch(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    fs.touch(f"{root}/k")
    assert oss_bucket.get("k") == b""
    oss_bucket.put("k", b"data")
    fs.touch(f"{root}/k", truncate=False)
    assert oss_bucket.get("k") == b"data"
    fs.touch(f"{root}/k")
    assert oss_bucket.get("k") == b""


def test_directories_need_not_be_made(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    fs.mkdir(f"{root}/new/folder")
    fs.mkdir(root)
    fs.makedirs(f"{root}/new/folder")
    fs.makedirs(f"{root}/a", exist_ok=True)
    assert bucket.keys() == KEYS
    with pytest.raises(FileExistsError):
        fs.makedirs(f"{root}/a")
    with pytest.raises(OssUsageError, match="buckets are not created here"):
        fs.mkdir("another-bucket")
    with pytest.raises(OssUsageError, match="buckets are not removed here"):
        fs.rmdir(root)


def test_copies_are_made_by_oss(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    bucket.server.reset_counters()
    fs.cp_file(f"{root}/c", f"{root}/d")
    assert bucket.get("d") == b"c"
    assert bucket.server.counters().requests == {"HeadObject": 1, "CopyObject": 1}
    fs.cp(f"{root}/a", f"{root}/new", recursive=True)
    assert bucket.get("new/b/3") == b"a/b/3"
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{root}/nothing", f"{root}/d")


def test_a_large_object_is_copied_in_parts(oss_bucket: OssBucket, root: str) -> None:
    fs = OssFileSystem(**oss_bucket.options, multipart_copy_bytes=204_800)
    fs.pipe_file(f"{root}/k", DATA, metadata={"a": "b"})
    oss_bucket.server.reset_counters()
    fs.cp_file(f"{root}/k", f"{root}/copy")
    assert oss_bucket.get("copy") == DATA and fs.info(f"{root}/copy", refresh=True)["Metadata"] == {"a": "b"}
    sent = oss_bucket.server.counters().requests
    assert (sent["UploadPartCopy"], sent["CopyObject"], sent["GetObject"]) == (2, 0, 0)
    oss_bucket.server.fail("UploadPartCopy", "403", bucket=root, after=1)
    with pytest.raises(OssPermissionError):
        fs.cp_file(f"{root}/k", f"{root}/other")
    assert oss_bucket.keys() == ["copy", "k"] and not uploads(oss_bucket)


def test_moves(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    fs.mv(f"{root}/c", f"{root}/d")
    fs.mv(f"{root}/a", f"{root}/new", recursive=True)
    assert bucket.keys() == ["d", "new/1", "new/b/2", "new/b/3"]
    fs.rename(f"oss://{root}/d", f"oss://{root}/c")
    assert bucket.get("c") == b"c"
    for first, second in ((f"{root}/c", f"oss://{root}/c/"), (f"/{root}/new", f"{root}/new")):
        with pytest.raises(OssUsageError, match="onto itself"):
            fs.mv(first, second, recursive=True)
    with pytest.raises(OssUsageError, match="into itself"):
        fs.mv(f"{root}/new", f"{root}/new/deeper", recursive=True)
    with pytest.raises(IsADirectoryError):
        fs.mv(f"{root}/new", f"{root}/newer")
    assert bucket.keys() == ["c", "new/1", "new/b/2", "new/b/3"]


def test_removing(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    fs.rm(f"{root}/c")
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{root}/c")
    with pytest.raises(IsADirectoryError, match="recursive=True"):
        fs.rm(f"{root}/a")
    fs.rm_file(f"{root}/c")
    fs.rm(f"{root}/a/b/*")
    assert bucket.keys() == ["a/1"]
    bucket.put("a/b/", b"")
    bucket.put("a", b"beside the directory")
    fs.rm(f"{root}/a", recursive=True)
    assert bucket.keys() == []
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{root}/a", recursive=True)


def test_a_tree_is_removed_in_batches_to_a_depth_or_by_a_pattern(
    fs: OssFileSystem, bucket: OssBucket, root: str
) -> None:
    bucket.server.fill(root, "many/{:04}", 2100, b"x")
    bucket.server.reset_counters()
    fs.rm(f"{root}/many", recursive=True)
    assert bucket.keys() == KEYS
    assert bucket.server.counters().requests["DeleteMultipleObjects"] == 3
    bucket.server.fill(root, "many/{:04}", 1100, b"x")
    bucket.server.reset_counters()
    fs.rm([f"{root}/many/{number:04}" for number in range(1100)])
    assert bucket.server.counters().requests == {"DeleteMultipleObjects": 2}
    fs.rm(f"{root}/a", recursive=True, maxdepth=1)
    assert bucket.keys() == ["a/b/2", "a/b/3", "c"]


def test_a_bucket_is_never_emptied(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    for path in (root, f"oss://{root}/", [f"{root}/a", root], "", "/"):
        with pytest.raises(OssUsageError, match="not emptied"):
            fs.rm(path, recursive=True)
    with pytest.raises(IsADirectoryError):
        fs.rm(root)
    assert bucket.keys() == KEYS


def test_refusals_are_the_errors_of_files(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    bucket.server.fail("PutObject", "403", bucket=root)
    with pytest.raises(PermissionError):
        fs.pipe_file(f"{root}/k", b"")
    bucket.server.fail("HeadObject", "412", bucket=root)
    with pytest.raises(OssServiceError):
        fs.info(f"{root}/k")


@pytest.mark.parametrize("multipart_copy_bytes", [120_000, 1 << 20])
def test_copies_and_downloads_may_keep_what_is_there(
    oss_bucket: OssBucket, fs: OssFileSystem, root: str, tmp_path: Path, multipart_copy_bytes: int
) -> None:
    fs = OssFileSystem(fs.client, multipart_copy_bytes=multipart_copy_bytes)
    fs.pipe_file(f"{root}/k", DATA)
    fs.cp_file(f"{root}/k", f"{root}/new", mode="create")
    fs.get_file(f"{root}/k", tmp_path / "new", mode="create")
    assert oss_bucket.get("new") == (tmp_path / "new").read_bytes() == DATA
    fs.pipe_file(f"{root}/k", DATA[::-1])
    with pytest.raises(FileExistsError):
        fs.cp_file(f"{root}/k", f"{root}/new", mode="create")
    with pytest.raises(FileExistsError):
        fs.get_file(f"{root}/k", tmp_path / "new", mode="create")
    assert oss_bucket.get("new") == (tmp_path / "new").read_bytes() == DATA
    assert not uploads(oss_bucket) and not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match="mode 'append'"):
        fs.get_file(f"{root}/k", tmp_path / "new", mode="append")
