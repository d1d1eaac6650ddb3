from __future__ import annotations

from collections.abc import Callable

import pytest
from tar.cxx_connector.recipe import add, made

from osstorchconnector.client.client import OssClient
from osstorchconnector.tar.headers import entries
from osstorchconnector.tar.index_file import index_of, pack_index
from osstorchconnector.testing import OssBucket

PutTar = Callable[..., str]


def tar_of(files: dict[str, bytes], format_: int = 1) -> bytes:
    """Return a tar of these files, in their order."""

    def build(tar: object) -> None:
        for name, data in files.items():
            add(tar, name, data)  # type: ignore[arg-type]

    return made(build, format_)


def index_of_bytes(tar: bytes, etag: str = "") -> bytes:
    """Return the index of a tar; one with details if the ETag is given."""
    found = index_of(entries(lambda start, size: tar[start : start + size]))
    return pack_index(found._replace(tar_size=len(tar), etag=etag) if etag else found)


@pytest.fixture
def put_tar(oss_bucket: OssBucket) -> PutTar:
    """Put a tar into the bucket, without an index, with one of 1.2.3 ("plain") or of ours ("full"); return its URI."""

    def put(key: str, tar: bytes, index: str = "") -> str:
        uri = oss_bucket.put(key, tar)
        if index:
            etag = OssClient(**oss_bucket.options).head(uri).etag if index == "full" else ""
            oss_bucket.put(f"{key}.idx", index_of_bytes(tar, etag))
        return uri

    return put
