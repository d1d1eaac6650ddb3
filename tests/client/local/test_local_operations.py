"""`OssClient("")`: every operation on files, atomic, and with the errors that OSS's answers become."""

from __future__ import annotations

import errno
import inspect
import io
import os
import pickle
import stat
from pathlib import Path

import pytest

from osstorchconnector import (
    ByteSpan,
    OssCheckpoint,
    OssClient,
    OssConflictError,
    OssNotFoundError,
    OssObjectChangedError,
    OssPermissionError,
    OssServiceError,
    OssUriError,
    OssUsageError,
)
from osstorchconnector.client.local.folders import errors_of
from osstorchconnector.client.local.operations import LocalOperations
from osstorchconnector.client.operations import Operations
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import UploadedPart
from osstorchconnector.uri import OssUri, parse_object_uri

DATA = bytes(range(256)) * 4096


@pytest.fixture
def client() -> OssClient:
    return OssClient("")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_operation_is_one_on_files() -> None:
    theirs = {name for name, value in vars(Operations).items() if inspect.isfunction(value) and name[0] != "_"}
    assert theirs <= set(vars(LocalOperations))


def test_bytes_are_read_whole_in_spans_and_into_memory(client: OssClient, file: Path) -> None:
    whole = client.get(str(file))
    assert (whole.body, whole.crc64, whole.stat.size, whole.span) == (DATA, crc64(DATA), len(DATA), (0, len(DATA)))
    part = client.get(str(file), ByteSpan(10, 20))
    assert (part.body, part.span, part.crc64) == (DATA[10:20], (10, 20), crc64(DATA[10:20]))
    assert client.get(str(file), ByteSpan(len(DATA) - 5, len(DATA) + 5)).span == (len(DATA) - 5, len(DATA))
    memory = bytearray(300_000)
    into = client.get(str(file), ByteSpan(7, 300_007), into=memory)
    assert (into.body, memory) == (b"", DATA[7:300_007])
    assert client.head(str(file)) == whole.stat
    assert whole.stat.crc64 is None


def test_an_empty_file_is_an_empty_object(client: OssClient, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for span in (None, ByteSpan(0, 1), ByteSpan(0, 100)):
        found = client.get(f"{tmp_path}/empty", span)
        assert (found.body, found.span, found.stat.size, found.crc64) == (b"", (0, 0), 0, 0)


@pytest.mark.parametrize("size", [0, 10])
def test_a_span_behind_the_end_is_refused(client: OssClient, tmp_path: Path, size: int) -> None:
    (tmp_path / "short").write_bytes(b"x" * size)
    with pytest.raises(OssServiceError, match="416 InvalidRange") as caught:
        client.get(f"{tmp_path}/short", ByteSpan(10, 20))
    assert caught.value.status == 416


def test_a_file_that_was_changed_or_replaced_is_noticed(client: OssClient, file: Path) -> None:
    etag = client.head(str(file)).etag
    assert client.get(str(file), if_match=etag).body == DATA
    file.write_bytes(DATA[::-1])
    with pytest.raises(OssObjectChangedError, match="412 PreconditionFailed.*changed or replaced"):
        client.get(str(file), if_match=etag)
    with OssCheckpoint(client).reader(str(file)) as reader:
        reader.read(1)
        _sibling(file, DATA).replace(file)
        with pytest.raises(OssObjectChangedError):
            reader.readinto(bytearray(len(DATA)))


def test_a_file_that_is_cut_while_it_is_read_is_noticed(client: OssClient, file: Path) -> None:
    class Cutting:
        """A checksum that cuts the file when the first bytes come."""

        def add(self, data: memoryview) -> None:
            os.truncate(file, 1000)

        def clear(self) -> None: ...

    uri, memory = parse_object_uri(str(file)), memoryview(bytearray(len(DATA)))
    span = ByteSpan(0, len(DATA))
    future = client.submit(lambda operations: operations.get(uri, span, into=memory, checksum=Cutting()))
    with pytest.raises(OssObjectChangedError):
        future.result()


def _sibling(file: Path, data: bytes) -> Path:
    path = file.with_name("other")
    path.write_bytes(data)
    return path


def test_a_file_is_written_at_once_and_its_folders_are_made(client: OssClient, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "file"
    stored = client.put(str(path), [b"some", bytearray(b" bytes")])
    assert (path.read_bytes(), stored.crc64, stored.etag) == (b"some bytes", crc64(b"some bytes"), _etag(client, path))
    with pytest.raises(OssConflictError, match="409 FileAlreadyExists"):
        client.put(str(path), b"x", forbid_overwrite=True)
    client.put(str(path), b"")
    client.put(str(path.with_name("other")), b"y", forbid_overwrite=True)
    assert (path.read_bytes(), names(path.parent)) == (b"", ["file", "other"])


def _etag(client: OssClient, path: Path) -> str:
    return client.head(str(path)).etag


def test_a_link_is_replaced_and_not_written_through(client: OssClient, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    client.put(str(link), b"new")
    assert (link.is_symlink(), link.read_bytes(), file.read_bytes()) == (False, b"new", DATA)


def test_what_is_not_there_is_not_found(client: OssClient, file: Path) -> None:
    os.mkfifo(file.parent / "pipe")
    (file.parent / "loop").symlink_to(file.parent / "loop")
    for path in (f"{file.parent}/none", f"{file.parent}", f"{file}/x", f"{file.parent}/pipe", f"{file.parent}/loop"):
        for use in (client.get, client.head, lambda uri: client.copy(uri, f"{file.parent}/y")):
            with pytest.raises(OssNotFoundError, match="404 NoSuchKey.*endpoint is empty") as caught:
                use(path)
            assert caught.value.errno == errno.ENOENT
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        client.put("/no-such-folder/key", b"x")
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        client.delete("/no-such-folder/key")


def test_errors_of_files_become_those_of_oss() -> None:
    uri = OssUri("tmp", "x")
    cases = [(errno.EACCES, 403, OssPermissionError), (errno.ENOSPC, 500, OssServiceError)]
    for number, status, kind in cases:
        with (
            pytest.raises(kind, match=f"PutObject /tmp/x: {status}") as caught,
            errors_of("PutObject", OssUri("tmp", "x")),
        ):
            raise OSError(number, os.strerror(number))
        assert (type(caught.value), caught.value.status) == (kind, status)
    with pytest.raises(OssServiceError, match="OSError"), errors_of("PutObject", uri):
        raise OSError


@pytest.mark.parametrize("key", ["../x", "a/../../x", "./x", "a//b", "a/", "a\0b", ".osstorchconnector-x"])
def test_a_key_does_not_lead_out_of_its_folder(client: OssClient, tmp_path: Path, key: str) -> None:
    for use in (client.get, client.delete, lambda uri: client.put(uri, b"x"), client.create_upload):
        with pytest.raises(OssUriError):
            use(f"{tmp_path}/{key}")
    assert names(tmp_path) == []


def test_files_are_deleted_and_folders_and_what_links_lead_to_stay(client: OssClient, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    for uri in (link, file.parent, file.with_name("none")):
        client.delete(str(uri))
    assert names(file.parent) == ["file"]
    key = parse_object_uri(str(file)).key
    client.delete_many(file.parts[1], [key, key + "x"])
    assert names(file.parent) == []
    with pytest.raises(OssUsageError, match="one text"):
        client.delete_many("tmp", "abc")


def test_files_are_copied(client: OssClient, file: Path) -> None:
    target = file.parent / "deep" / "copy"
    stored = client.copy(str(file), str(target), if_match=_etag(client, file))
    assert (target.read_bytes(), stored.etag, stored.crc64) == (DATA, _etag(client, target), None)
    with pytest.raises(OssObjectChangedError):
        client.copy(str(file), str(target), if_match="another")


def test_an_upload_is_a_file_when_it_is_complete(client: OssClient, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    upload_id = client.create_upload(str(path))
    parts = [client.upload_part(str(path), upload_id, number, DATA[number:]) for number in (3, 1, 2)]
    listed = client.list_parts(str(path), upload_id)
    assert [part._replace(last_modified="") for part in listed] == sorted(parts)
    (found,) = client.list_uploads(f"{tmp_path}/dee")
    assert (found.key, found.upload_id) == (parse_object_uri(str(path)).key, upload_id)
    assert list(client.list_uploads(f"{tmp_path}/deep/other")) == []
    assert list(client.list(f"{tmp_path}/")) == []
    stored = client.complete_upload(str(path), upload_id, sorted(parts))
    whole = DATA[1:] + DATA[2:] + DATA[3:]
    assert (path.read_bytes(), stored.crc64, stored.etag) == (whole, crc64(whole), _etag(client, path))
    assert names(path.parent) == ["file"]
    client.abort_upload(str(path), upload_id)
    for use in (client.list_parts, lambda *upload: client.upload_part(*upload, 1, b"x")):
        with pytest.raises(OssNotFoundError, match="no such upload"):
            use(str(path), upload_id)


def test_an_upload_that_was_aborted_leaves_nothing(client: OssClient, file: Path) -> None:
    upload_id = client.create_upload(str(file))
    part = client.upload_part(str(file), upload_id, 1, b"x")
    with pytest.raises(OssServiceError, match="1 bytes, not 2"):
        client.complete_upload(str(file), upload_id, [UploadedPart(1, part.etag, 2, part.crc64)])
    client.abort_upload(str(file), upload_id)
    assert (names(file.parent), file.read_bytes()) == (["file"], DATA)
    with pytest.raises(OssNotFoundError):
        client.complete_upload(str(file), "../../x", [part])


def test_a_folder_that_is_no_upload_is_not_listed_as_one(client: OssClient, tmp_path: Path) -> None:
    (tmp_path / ".osstorchconnector-something").mkdir()
    (tmp_path / f".osstorchconnector-{'0' * 32}.upload").mkdir()
    assert list(client.list_uploads(f"{tmp_path}/")) == []


def test_bytes_are_appended_and_parts_copied(client: OssClient, file: Path) -> None:
    uri, new = parse_object_uri(str(file)), parse_object_uri(str(file.with_name("new")))

    def append(target: OssUri, data: bytes, position: int, crc: int) -> int | None:
        return client.submit(lambda each: each.append(target, data, position=position, crc64=crc)).result().crc64

    assert append(new, b"abc", 0, 0) == crc64(b"abc")
    assert append(new, b"def", 3, crc64(b"abc")) == crc64(b"abcdef")
    with pytest.raises(OssConflictError, match="it has 6 bytes, not 5"):
        append(new, b"x", 5, 0)
    upload_id = client.create_upload(new)
    client.submit(lambda each: each.upload_part_copy(new, upload_id, 1, uri, ByteSpan(5, 9))).result()
    client.complete_upload(new, upload_id, client.list_parts(new, upload_id))
    assert client.get(new).body == DATA[5:9]


def test_a_checkpoint_of_several_parts_is_written_and_read(client: OssClient, tmp_path: Path) -> None:
    path, data = tmp_path / "checkpoint", os.urandom(40 << 20)
    checkpoint = OssCheckpoint(client)
    with checkpoint.writer(str(path)) as writer:
        writer.write(data)
        assert not path.exists()
    assert path.read_bytes() == data
    assert names(tmp_path) == ["checkpoint"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0
    with checkpoint.reader(str(path)) as reader:
        memory = bytearray(len(data))
        assert (reader.readinto(memory), memory) == (len(data), data)
    broken = checkpoint.writer(str(path))
    broken.write(data[::-1])
    broken.discard()
    assert (path.read_bytes(), names(tmp_path)) == (data, ["checkpoint"])


def test_what_files_have_not_says_so(client: OssClient, tmp_path: Path) -> None:
    assert client.server_time(f"{tmp_path}/") > 1.7e9
    for name, ask in {
        "create_bucket": lambda each: each.create_bucket("tmp"),
        "list_buckets": lambda each: each.list_buckets(),
        "signed_url": lambda each: each.signed_url(OssUri("tmp", "x"), seconds=1),
    }.items():
        with pytest.raises(OssUsageError, match=f"{name}: endpoint is empty"):
            client.submit(ask).result()


def test_a_client_of_files_pickles_closes_and_has_no_endpoint(client: OssClient, file: Path) -> None:
    twin = pickle.loads(pickle.dumps(client))
    assert (twin.endpoint, repr(twin)) == ("", "OssClient('')")
    assert twin.get(str(file)).body == DATA
    twin.close()
    assert twin.head(str(file)).size == len(DATA)


def test_the_first_client_of_files_in_a_process_warns_of_it(caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    from osstorchconnector.client import opening

    monkeypatch.setattr(opening, "_warned_of", set())
    OssClient("")
    OssClient("")
    assert [record.getMessage()[:18] for record in caplog.records] == ["endpoint is empty,"]


def test_an_old_clients_methods_work_on_files(client: OssClient, file: Path) -> None:
    bucket, key = parse_object_uri(str(file))
    with client.put_object(bucket, f"{key}-2") as target:
        target.write(b"abc")
    found = [(each.key, each.read()) for each in client.list_objects(bucket, key)]
    assert found == [(str(file), DATA), (f"{file}-2", b"abc")]
    assert [each.key for each in client.list_objects_with_preload(bucket, key)] == [str(file), f"{file}-2"]
    client.rename_object(bucket, f"{key}-2", bucket, f"{key}-3")
    assert isinstance(client.head_object(bucket, f"{key}-3"), io.IOBase)
    client.remove_object(bucket, f"{key}-3")
    assert names(file.parent) == ["file"]
