"""What is packed: each object as it was listed, by one request that takes the short way."""

from __future__ import annotations

from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssObjectChangedError
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.tar.sources import bodies_of, sources_in
from osstorchconnector.testing import OssBucket

LARGE = bytes(range(256)) * (20 << 10)


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    return OssClient(**oss_bucket.options)


def test_objects_come_whole_with_what_oss_says_of_them(oss_bucket: OssBucket, client: OssClient) -> None:
    files = {"in/a": b"first", "in/b": b"", "in/large": LARGE}
    for key, data in files.items():
        oss_bucket.put(key, data)
    sources = list(sources_in(client, oss_bucket.uri + "in/"))
    assert [(source.name, source.size) for source in sources] == [
        (f"/{oss_bucket.name}/{key}", len(data)) for key, data in files.items()
    ]
    oss_bucket.server.reset_counters()
    bodies = [list(body) for body in bodies_of(client, sources)]
    assert bodies[:2] == [[(b"first", crc64(b"first"))], [(b"", 0)]]
    assert b"".join(data for data, _ in bodies[2]) == LARGE
    log = [entry for entry in oss_bucket.server.counters().log if entry.key == "in/a"]
    assert [entry.operation for entry in log] == ["GetObject"]


@pytest.mark.parametrize("key", ["a", "empty", "large"])
def test_an_object_that_was_replaced_since_it_was_listed_is_an_error(
    oss_bucket: OssBucket, client: OssClient, key: str
) -> None:
    data = {"a": b"first", "empty": b"", "large": LARGE}[key]
    oss_bucket.put(key, data)
    sources = list(sources_in(client, oss_bucket.uri))
    oss_bucket.put(key, data[::-1] or b"no more")  # of the same size, if it has one
    with pytest.raises(OssObjectChangedError, match=rf"{key} was replaced since it was listed \(ETag .*\): pack again"):
        list(bodies_of(client, sources))


def test_the_pieces_of_a_file_have_no_checksum_yet(client: OssClient, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(LARGE)
    (tmp_path / "a").write_bytes(b"")
    sources = list(sources_in(client, str(tmp_path)))
    assert [source.size for source in sources] == [0, len(LARGE)]
    (empty, large) = [list(body) for body in bodies_of(client, sources)]
    assert empty == []
    assert b"".join(data for data, crc in large if crc is None) == LARGE
