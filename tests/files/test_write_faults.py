"""Every request of a write times every fault: the key holds the old object or the new one, and no part is left.

`once` means that trying again helps, so that the write must succeed; `always` that it can't, so that it must raise,
unless the server did what it was asked and only never said so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from files.on_oss import client_of, writer_of

from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssError
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

PART = 100 * 1024
OLD = b"old"
# the requests: which operation, which of its requests, what is written
REQUESTS = {
    "create": ("InitiateMultipartUpload", 0, 3 * PART),
    "first part": ("UploadPart", 0, 3 * PART),
    "last part": ("UploadPart", 2, 3 * PART),
    "complete": ("CompleteMultipartUpload", 0, 3 * PART),
    "put": ("PutObject", 0, PART),
}
FAULTS = ["500", "503", "reset", "close", "lost_answer", "garbage", "reset_upload", "html"]


@pytest.fixture
def client(oss_bucket: OssBucket, tmp_path: Path) -> Iterator[OssClient]:
    """A client that waits for answers longer than any test may take."""
    opened = client_of(oss_bucket, tmp_path, partSize=PART, maxAttempts=3, readTimeout=600, operationTimeout=3600)
    yield opened
    opened.close()


@pytest.fixture
def impatient(oss_bucket: OssBucket, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OssClient]:
    """A client that gives an answer up soon, and that a slow machine makes try again, which it may often enough."""
    opened = client_of(oss_bucket, tmp_path, partSize=PART, maxAttempts=request.param, readTimeout=1)
    yield opened
    opened.close()


def written(name: str) -> bytes:
    size = REQUESTS[name][2]
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def write(client: OssClient, uri: OssUri, data: bytes) -> OssError | None:
    try:
        with writer_of(client, uri) as writer:
            for start in range(0, len(data), 30_000):
                writer.write(data[start : start + 30_000])
    except OssError as error:
        return error
    return None


def break_it(bucket: OssBucket, name: str, fault: str, *, times: int | None) -> None:
    operation, after, _ = REQUESTS[name]
    bucket.server.fail(operation, fault, bucket=bucket.name, after=after, times=times)


def check_completes(bucket: OssBucket) -> None:
    """No upload was completed before all of its parts had arrived."""
    parts = 0
    for entry in bucket.server.counters().log:
        if entry.bucket == bucket.name and entry.operation == "UploadPart":
            parts += entry.status == 200
        if entry.bucket == bucket.name and entry.operation == "CompleteMultipartUpload":
            assert parts >= 3


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_write_survives_one_failure(
    client: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str, fault: str
) -> None:
    check_survival(client, uri, oss_bucket, name, fault)


@pytest.mark.parametrize("impatient", [20], indirect=True)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_write_survives_one_answer_that_never_comes(
    impatient: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str
) -> None:
    check_survival(impatient, uri, oss_bucket, name, "stall_head")


def check_survival(client: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str, fault: str) -> None:
    oss_bucket.put(uri.key, OLD)
    break_it(oss_bucket, name, fault, times=1)
    assert write(client, uri, written(name)) is None
    assert oss_bucket.get(uri.key) == written(name)
    check_completes(oss_bucket)
    if name != "create":  # a lost answer to it loses the id of an upload that has no parts
        assert oss_bucket.server.uploads(oss_bucket.name) == []


@pytest.mark.parametrize("fault", [*FAULTS, "403", "wrong_crc"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_write_that_fails_for_good_leaves_the_old_object_or_the_new_one(
    client: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str, fault: str
) -> None:
    check_failure(client, uri, oss_bucket, name, fault)


@pytest.mark.parametrize("impatient", [3], indirect=True)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_write_without_answers_leaves_the_old_object_or_the_new_one(
    impatient: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str
) -> None:
    check_failure(impatient, uri, oss_bucket, name, "stall_head")


def check_failure(client: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str, fault: str) -> None:
    oss_bucket.put(uri.key, OLD)
    break_it(oss_bucket, name, fault, times=None)
    error = write(client, uri, written(name))
    found = oss_bucket.get(uri.key)
    if error is None:
        assert (name, fault) in (("create", "wrong_crc"), ("create", "reset_upload")) or (  # it sends no body
            name == "complete" and fault in ("lost_answer", "stall_head", "garbage", "wrong_crc")
        )
        assert found == written(name)
    else:
        assert str(uri) in str(error)
        done = name in ("put", "complete") and fault in ("lost_answer", "wrong_crc", "stall_head", "garbage", "html")
        assert found == OLD or (done and found == written(name))
    check_completes(oss_bucket)
    if name != "create":
        assert oss_bucket.server.uploads(oss_bucket.name) == []


@pytest.mark.parametrize("name", REQUESTS)
def test_a_failure_names_operation_object_attempts_and_request(
    client: OssClient, uri: OssUri, oss_bucket: OssBucket, name: str
) -> None:
    break_it(oss_bucket, name, "500", times=None)
    error = str(write(client, uri, written(name)))
    assert REQUESTS[name][0] in error
    assert str(uri) in error
    assert "3 attempts" in error
    assert "InternalError" in error
    assert any(entry.status == 500 for entry in oss_bucket.server.counters().log)
