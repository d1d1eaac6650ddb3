from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import blank, differences, many_kinds
from torch.distributed.checkpoint.filesystem import FileSystemBase

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem, OssStorageReader, OssStorageWriter
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssUriError
from osstorchconnector.testing import OssBucket


def test_torchs_own_reader_and_writer_work_on_it(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = many_kinds()
    target = blank(state)
    writer, reader = dcp.FileSystemWriter("/unused", thread_count=2), dcp.FileSystemReader("/unused")
    writer.fs = reader.fs = fs
    writer.path = reader.path = fs.init_path(oss_bucket.uri + "ckpt")
    dcp.save(state, storage_writer=writer)
    dcp.load(target, storage_reader=reader)
    assert differences(state, target) == []
    assert names(oss_bucket) == ["ckpt/.metadata", "ckpt/__0_0.distcp", "ckpt/__0_1.distcp"]


def test_it_is_what_torch_calls_a_file_system(fs: OssDCPFileSystem) -> None:
    assert isinstance(fs, FileSystemBase)


def test_readers_and_writers_are_made_as_with_the_cpp_connector(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.ones(3)}
    target = blank(state)
    dcp.save(state, storage_writer=OssStorageWriter(fs, oss_bucket.uri + "ckpt", thread_count=2))
    dcp.load(target, storage_reader=OssStorageReader(fs=fs, path=oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []


@pytest.mark.parametrize("kind", [OssDCPFileSystem, OssStorageReader, OssStorageWriter])
@pytest.mark.parametrize(
    ("checkpoint_id", "is_ours"),
    [
        ("oss://bucket/key", True),
        ("/bucket/key", True),
        ("oss://bucket", True),
        ("s3://bucket/key", False),
        ("relative/path", False),
        ("", False),
        (Path("/bucket/key"), False),
        (5, False),
    ],
)
def test_checkpoint_ids_of_oss_are_told_from_others(kind: Any, checkpoint_id: Any, is_ours: bool) -> None:
    assert kind.validate_checkpoint_id(checkpoint_id) is is_ours


def test_streams_read_and_write_bytes_and_text(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    path = oss_bucket.uri + "file"
    with fs.create_stream(path, "wb") as stream:
        stream.write(b"bytes")
    with fs.create_stream(path, "rb") as stream:
        assert stream.read() == b"bytes"
    with fs.create_stream(path, "w") as stream:
        assert stream.write("größer") == 6
    with fs.create_stream(path, "r") as stream:
        assert stream.read() == "größer"
    with pytest.raises(ValueError, match="mode 'a'"), fs.create_stream(path, "a"):
        pass


def test_a_stream_that_fails_writes_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    def fail_halfway() -> None:
        with fs.create_stream(oss_bucket.uri + "file", "wb") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert names(oss_bucket) == []


def test_files_and_folders_exist_or_do_not(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.put("folder/file", b"")
    assert fs.exists(oss_bucket.uri + "folder/file")
    assert fs.exists(oss_bucket.uri + "folder")
    assert fs.exists(oss_bucket.uri + "folder/")
    assert not fs.exists(oss_bucket.uri + "fold")
    with pytest.raises(OssUriError):
        fs.exists(oss_bucket.uri)


def test_files_are_renamed_removed_and_listed(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    old, new = fs.concat_path(oss_bucket.uri + "folder", "old"), fs.concat_path(oss_bucket.uri + "folder/", "new")
    fs.mkdir(oss_bucket.uri + "folder")
    oss_bucket.put("folder/old", b"content")
    oss_bucket.put("folder/deeper/file", b"")
    fs.rename(old_path=old, new_path=new)
    fs.rename(new, new)
    assert oss_bucket.get("folder/new") == b"content"
    assert sorted(fs.ls(oss_bucket.uri + "folder")) == [oss_bucket.uri + "folder/deeper", new]
    fs.rm_file(new)
    assert names(oss_bucket) == ["folder/deeper/file"]
    with pytest.raises(OssNotFoundError):
        fs.rm_file(new)
    with pytest.raises(OssUriError):
        fs.init_path("s3://elsewhere")


def test_what_is_missing_or_too_much_is_told(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="no endpoint"):
        OssStorageWriter("oss://bucket/key")
    with pytest.raises(OssConfigError, match="no checkpoint"):
        OssStorageReader(**oss_bucket.options)
    with pytest.raises(OssConfigError, match="two paths"):
        OssStorageReader("oss://bucket/key", "oss://bucket/key", **oss_bucket.options)
    client = OssClient(**oss_bucket.options)
    for known in (client, OssDCPFileSystem(client)):
        with pytest.raises(OssConfigError, match="has its endpoint already"):
            OssStorageReader(known, "oss://bucket/key", endpoint=oss_bucket.endpoint)
        with pytest.raises(OssConfigError, match="a client has its credentials"):
            OssStorageReader(known, "oss://bucket/key", region=oss_bucket.region)


def test_a_writer_crosses_processes_as_a_recipe(oss_bucket: OssBucket) -> None:
    writer = OssStorageWriter(oss_bucket.uri + "ckpt", endpoint=OssClient(**oss_bucket.options), thread_count=3)
    pickled = pickle.dumps(writer)
    assert oss_bucket.server.credentials.access_key_secret.encode() not in pickled
    copy = pickle.loads(pickled)
    assert copy.checkpoint_id == writer.checkpoint_id
    dcp.save({"a": torch.ones(3), "b": torch.ones(3), "c": torch.ones(3)}, storage_writer=copy)
    assert len(names(oss_bucket, ".distcp")) == 3
