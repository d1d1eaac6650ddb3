"""kill -9, and exceptions of the caller, at every request of a write: the key holds the old object or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.killing import check_completes, kill_when, requests_of
from faults.users import DATA, LARGE, Site, furnish

from osstorchconnector import OssCheckpoint
from osstorchconnector.testing import OssBucket

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

PARTS = 3
# which operation, its number, and how the server holds it: before or after it has done what it was asked
MOMENTS = {
    "at the beginning": ("InitiateMultipartUpload", 1, "stall_head"),
    "in the first part": ("UploadPart", 1, "stall_upload"),
    "after the first part": ("UploadPart", 1, "stall_head"),
    "in the last part": ("UploadPart", PARTS, "stall_upload"),
    "after the last part": ("UploadPart", PARTS, "stall_head"),
    "at completion": ("CompleteMultipartUpload", 1, "stall_head"),
    "in a put": ("PutObject", 1, "stall_upload"),
    "after a put": ("PutObject", 1, "stall_head"),
}


@pytest.fixture
def site(oss_bucket: OssBucket, tmp_path: Path) -> Site:
    furnished = furnish(oss_bucket, tmp_path)
    furnished.configure(readTimeout=50, operationTimeout=50)
    furnished.bucket.server.reset_counters()
    return furnished


def data_of(moment: str) -> bytes:
    return DATA if MOMENTS[moment][0] == "PutObject" else LARGE


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_writer_that_is_killed_leaves_the_old_object_or_the_new_one(site: Site, moment: str) -> None:
    operation, number, fault = MOMENTS[moment]
    bucket, new = site.bucket, data_of(moment)
    bucket.server.fail(operation, fault, bucket=bucket.name, after=number - 1, times=1)

    def write() -> None:
        with OssCheckpoint(**site.options).writer(site.uri("old")) as stream:
            stream.write(new)

    assert kill_when(write, lambda: requests_of(bucket.server, operation) >= number)
    found = bucket.get("old")
    may_be_new = operation in ("CompleteMultipartUpload", "PutObject")
    assert found == b"old" or (found == new and may_be_new)
    check_completes(bucket, PARTS)


@pytest.mark.parametrize("written", [0, 1, len(DATA), len(LARGE) // 2, len(LARGE)])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_of_the_caller_publishes_nothing(site: Site, written: int, error: type[BaseException]) -> None:
    def write() -> None:
        with OssCheckpoint(**site.options).writer(site.uri("old")) as stream:
            stream.write(LARGE[:written])
            raise error

    with pytest.raises(error):
        write()
    assert site.bucket.get("old") == b"old"
    assert site.bucket.server.uploads(site.bucket.name) == []
    sent = site.bucket.server.counters(with_log=False).requests
    assert "CompleteMultipartUpload" not in sent
    assert "PutObject" not in sent
