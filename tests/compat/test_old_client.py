"""The client of 1.2.3: its positional arguments, its methods, and the objects that these return."""

from __future__ import annotations

import errno
import importlib
import io
import pickle
from typing import Any

import pytest

import osstorchconnector
from osstorchconnector import (
    DataObject,
    OssCheckpoint,
    OssClient,
    OssDCPFileSystem,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssUriError,
    OssUsageError,
    new_data_object,
)
from osstorchconnector.testing import OssBucket

KEYS = ["dir/a.txt", "dir/b.txt", "dir/c.txt"]
MISSING = "dir/none"


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(bucket.endpoint, bucket.cred_path, "", "uuid", 0, 1, None, bucket.region)


def requests(bucket: OssBucket) -> int:
    return sum(entry.bucket == bucket.name for entry in bucket.server.counters().log)


def uris(bucket: OssBucket, *keys: str) -> list[DataObject]:
    return [new_data_object(f"/{bucket.name}/{key}", 0, f"label of {key}") for key in keys]


def test_an_object_is_read_by_bucket_and_key(bucket: OssBucket, client: OssClient) -> None:
    with client.get_object(bucket.name, KEYS[0], 0, 0, "cat") as found:
        assert isinstance(found, DataObject)
        assert (found.key, found.uri, found.label) == (f"/{bucket.name}/{KEYS[0]}", bucket.uri + KEYS[0], "cat")
        assert (found.size, found.err(), found.error_msg(), found.tell()) == (len(KEYS[0]), 0, "", 0)
        assert (found.read(3), found.readinto(memory := bytearray(4)), memory) == (b"dir", 4, b"/a.t")
        assert (found.seek(0), found.readline(), found.read()) == (0, KEYS[0].encode(), b"")
    assert found.closed


def test_nothing_is_sent_before_an_object_is_read(bucket: OssBucket, client: OssClient) -> None:
    before = requests(bucket)
    missing = client.get_object(bucket.name, MISSING)
    assert (missing.key, missing.err()) == (f"/{bucket.name}/{MISSING}", 0)
    assert repr(missing) == f"<DataObject '{bucket.uri}{MISSING}'>"
    assert requests(bucket) == before
    with pytest.raises(OssNotFoundError):
        missing.read()
    with pytest.raises(RuntimeError, match=MISSING):  # what the C++ connector raises
        missing.size  # noqa: B018


def test_an_object_that_was_not_read_pickles_and_copies(bucket: OssBucket, client: OssClient) -> None:
    found = client.get_object(bucket.name, KEYS[1], label=7)
    before = requests(bucket)
    twin = pickle.loads(pickle.dumps(found))
    assert requests(bucket) == before
    found.seek(4)
    copied = found.copy()
    assert (twin.label, twin.read(), copied.label, copied.read()) == (7, KEYS[1].encode(), 7, KEYS[1].encode())
    assert found.read() == b"b.txt"
    found.close()
    assert repr(found).endswith(", closed>")
    assert pickle.loads(pickle.dumps(found)).closed
    for use in (found.read, found.copy, lambda: found.size):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_an_object_is_written_and_stored_by_close(bucket: OssBucket, client: OssClient) -> None:
    target = client.put_object(bucket.name, "new")
    assert isinstance(target, DataObject)
    assert (target.key, target.size, target.label, target.err()) == (f"/{bucket.name}/new", 0, "", 0)
    assert (target.write(b"some"), target.write(memoryview(b" bytes")), target.size, target.tell()) == (4, 6, 10, 10)
    assert (target.writable(), target.readable(), target.seekable(), target.flush()) == (True, False, False, None)
    assert bucket.keys() == KEYS
    target.close()
    target.close()
    assert (bucket.get("new"), target.closed, target.size) == (b"some bytes", True, 10)
    assert repr(target) == f"<DataObject '{bucket.uri}new', written, closed>"


def test_an_exception_while_an_object_is_written_stores_nothing(bucket: OssBucket, client: OssClient) -> None:
    def write() -> None:
        with client.put_object(bucket.name, KEYS[0]) as target:
            target.write(b"half of it")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert bucket.get(KEYS[0]) == KEYS[0].encode()
    target = client.put_object(bucket.name, "never")
    target.write(b"x")
    target.discard()
    assert target.closed
    assert bucket.keys() == KEYS


def test_an_object_that_is_written_can_not_be_read_copied_or_pickled(bucket: OssBucket, client: OssClient) -> None:
    with client.put_object(bucket.name, "new") as target:
        for use in (target.read, target.peek, target.copy, lambda: target.seek(0)):
            with pytest.raises(io.UnsupportedOperation):
                use()
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(target)


def test_head_tells_the_size_and_raises_for_what_is_not_there(bucket: OssBucket, client: OssClient) -> None:
    found = client.head_object(bucket.name, KEYS[0])
    assert (found.size, found.key) == (len(KEYS[0]), f"/{bucket.name}/{KEYS[0]}")
    assert found.etag == client.head(bucket.uri + KEYS[0]).etag
    with pytest.raises(RuntimeError, match="404"):
        client.head_object(bucket.name, MISSING)


def test_objects_are_renamed_and_removed(bucket: OssBucket, client: OssClient) -> None:
    assert not client.rename_object(bucket.name, KEYS[0], bucket.name, "moved")
    assert not client.rename_object(bucket.name, "moved", bucket.name, "moved")
    assert bucket.keys() == [*KEYS[1:], "moved"]
    assert bucket.get("moved") == KEYS[0].encode()
    with pytest.raises(RuntimeError, match="404"):
        client.rename_object(bucket.name, MISSING, bucket.name, "x")
    for key in ("moved", MISSING):
        assert not client.remove_object(bucket.name, key)
    assert bucket.keys() == KEYS[1:]


@pytest.mark.parametrize("method", ["list_objects", "list_objects_with_preload"])
def test_a_prefix_is_listed_with_its_empty_objects(bucket: OssBucket, client: OssClient, method: str) -> None:
    bucket.put("dir/", b"")
    bucket.put("dir/empty", b"")
    bucket.put("else", b"x")
    found = list(getattr(client, method)(bucket.name, "dir/"))
    assert [(each.key, each.size) for each in found] == [
        *((f"/{bucket.name}/{key}", len(key)) for key in KEYS),
        (f"/{bucket.name}/dir/empty", 0),
    ]
    assert [each.read() for each in found] == [*(key.encode() for key in KEYS), b""]
    assert list(getattr(client, method)(bucket.name, "nothing/")) == []
    assert [each.name for each in getattr(client, method)(bucket.name)][-1] == "else"


def test_a_listing_with_preload_fetches_each_object_once(bucket: OssBucket, client: OssClient) -> None:
    assert [each.read() for each in client.list_objects_with_preload(bucket.name, "dir/")]
    assert requests(bucket) == len(KEYS) + 1  # and a page of the listing


@pytest.mark.parametrize("prefetch", [False, True])
def test_named_objects_come_in_their_order_with_their_labels(
    bucket: OssBucket, client: OssClient, prefetch: bool
) -> None:
    given: list[Any] = [*uris(bucket, KEYS[2], KEYS[0]), bucket.uri + KEYS[1]]
    found = list(client.list_objects_from_uris(given, prefetch))
    assert [(each.read(), each.label) for each in found] == [
        (KEYS[2].encode(), f"label of {KEYS[2]}"),
        (KEYS[0].encode(), f"label of {KEYS[0]}"),
        (KEYS[1].encode(), ""),
    ]


def test_an_object_that_is_missing_stands_for_its_error(bucket: OssBucket, client: OssClient) -> None:
    given = uris(bucket, KEYS[0], MISSING, KEYS[1])
    first, missing, last = client.list_objects_from_uris_with_preload(given, include_errors=True)
    assert [each.err() for each in (first, missing, last)] == [0, errno.ENOENT, 0]
    assert (missing.key, missing.label, missing.size) == (f"/{bucket.name}/{MISSING}", f"label of {MISSING}", 0)
    assert "404 NoSuchKey" in missing.error_msg()
    assert "404 NoSuchKey" in repr(missing)
    for twin in (missing, missing.copy(), pickle.loads(pickle.dumps(missing))):
        with pytest.raises(OssNotFoundError, match=MISSING):
            twin.read()
        assert (twin.readable(), twin.seekable(), twin.flush(), twin.err()) == (True, True, None, 2)
        with twin:
            pass
        assert twin.closed
    missing.close()


def test_an_object_that_is_missing_is_an_error_where_nobody_asks_for_such(bucket: OssBucket, client: OssClient) -> None:
    objects = client.list_objects_from_uris(uris(bucket, KEYS[0], MISSING), True)
    assert next(objects).read() == KEYS[0].encode()
    with pytest.raises(OssNotFoundError, match=MISSING):
        next(objects)
    _, missing = client.list_objects_from_uris(uris(bucket, KEYS[0], MISSING))
    with pytest.raises(OssNotFoundError, match=MISSING):
        missing.read()


def test_a_new_data_object_only_names_an_object() -> None:
    named = new_data_object("oss://bucket/key", 5, "cat")
    assert (named.key, named.size, named.label, named.err(), named.error_msg()) == ("/bucket/key", 5, "cat", 0, "")
    assert repr(named) == "<DataObject 'oss://bucket/key', not opened>"
    assert pickle.loads(pickle.dumps(named)).label == "cat"
    with pytest.raises(OssUsageError, match="list_objects_from_uris opens it"):
        named.read()
    with pytest.raises(OssUriError):
        new_data_object("key", 0, "")


def test_one_text_is_no_list_of_uris(client: OssClient) -> None:
    with pytest.raises(OssUsageError, match="one text"):
        client.list_objects_from_uris("oss://bucket/key")


def test_readers_and_writers_have_what_the_one_class_of_1_2_3_has(bucket: OssBucket) -> None:
    checkpoint = OssCheckpoint(bucket.endpoint, bucket.cred_path, "", None, bucket.region)
    with checkpoint.writer(bucket.uri + "new") as writer:
        assert (writer.write(b"abc"), writer.size, writer.key, writer.label) == (3, 3, f"/{bucket.name}/new", "")
        assert (writer.err(), writer.error_msg()) == (0, "")
    with checkpoint.reader(bucket.uri + "new") as reader:
        assert (reader.size, reader.key, reader.label, reader.err(), reader.error_msg()) == (3, writer.key, "", 0, "")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("oss_checkpoint", {"OssCheckpoint": OssCheckpoint}),
        ("oss_iterable_dataset", {"OssIterableDataset": OssIterableDataset}),
        ("oss_map_dataset", {"OssMapDataset": OssMapDataset}),
        ("oss_dcp_filesystem", {"OssDCPFileSystem": OssDCPFileSystem}),
        ("_oss_client", {"DataObject": DataObject, "OssClient": OssClient}),
    ],
)
def test_the_modules_of_1_2_3_have_their_names(module: str, names: dict[str, object]) -> None:
    found = importlib.import_module(f"osstorchconnector.{module}")
    assert {name: getattr(found, name) for name in names} == names
    assert all(hasattr(found, name) for name in found.__all__)


def test_a_uri_is_split_as_1_2_3_does() -> None:
    from osstorchconnector._oss_bucket_iterable import parse_oss_uri

    assert parse_oss_uri("oss://bucket/some/prefix") == ("bucket", "some/prefix")
    assert parse_oss_uri("/bucket") == ("bucket", "")
    with pytest.raises(ValueError, match="oss://"):
        parse_oss_uri("bucket/key")


def test_the_public_client_is_a_client_everywhere(bucket: OssBucket, client: OssClient) -> None:
    assert osstorchconnector.OssClient is OssClient
    assert [each.name for each in OssIterableDataset.from_prefix(bucket.uri, client)] == KEYS
    assert type(pickle.loads(pickle.dumps(client))) is OssClient
    assert "list_objects" in (OssClient.__doc__ or "")
    assert "cred_provider" in (OssClient.__doc__ or "")
