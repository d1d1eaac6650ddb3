"""The official SDK as a foreign client, with either signature: what it does with OSS it does with the emulator."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
from oss2.models import PartInfo, RequestResult

from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator import Emulator

DATA = os.urandom(1_500_000)
HOSTILE = ["a b+c%20", "dir//./../x", "é\U0001f600", "nul\0tab\t\r\n", "&<>'\"", "k" * 1023, "~!@#$^*()_=[]{};:,.?|"]


def finish(result: RequestResult) -> RequestResult:
    """Read an answer that oss2 itself does not: it would leave the connection open."""
    result.resp.read()
    return result


@pytest.fixture(params=["V1", "V4"])
def bucket(request: pytest.FixtureRequest, oss: Emulator) -> Iterator[oss2.Bucket]:
    auth = oss2.Auth if request.param == "V1" else oss2.AuthV4
    session = oss2.Session()
    credentials = oss.credentials
    yield oss2.Bucket(
        auth(credentials.access_key_id, credentials.access_key_secret),
        oss.endpoint,
        "photos",
        session=session,
        region=oss.region,
    )
    session.session.close()


def test_hostile_keys_make_the_round_trip(bucket: oss2.Bucket) -> None:
    for key in HOSTILE:
        bucket.put_object(key, key.encode())
        assert bucket.get_object(key).read() == key.encode()
        assert bucket.head_object(key).content_length == len(key.encode())
    for iterator in (oss2.ObjectIterator, oss2.ObjectIteratorV2):
        assert [found.key for found in iterator(bucket, max_keys=3)] == sorted(HOSTILE)
    for key in HOSTILE:
        finish(bucket.copy_object("photos", key, f"copy of {key}"[:255]))
    deletable = [key for key in HOSTILE if "\0" not in key]
    assert bucket.batch_delete_objects(deletable).deleted_keys == deletable
    assert [found.key for found in oss2.ObjectIteratorV2(bucket) if found.key in deletable] == []


def test_what_oss2_checks_is_right(bucket: oss2.Bucket) -> None:
    put = bucket.put_object("k", DATA, headers={"Content-MD5": oss2.utils.content_md5(DATA)})
    got = bucket.get_object("k")
    assert got.read() == DATA
    assert got.client_crc == got.server_crc == put.crc
    assert got.etag == put.etag
    part = bucket.get_object("k", byte_range=(1000, 1_999_999), headers={"x-oss-range-behavior": "standard"})
    assert part.read() == DATA[1000:]
    meta = bucket.get_object_meta("k")
    assert (meta.content_length, meta.etag) == (len(DATA), put.etag)


def test_resumable_transfers_of_oss2(bucket: oss2.Bucket, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    store, store_down = oss2.ResumableStore(str(tmp_path)), oss2.ResumableDownloadStore(str(tmp_path))
    finish(
        oss2.resumable_upload(
            bucket, "big", str(source), store=store, multipart_threshold=0, part_size=500_000, num_threads=3
        )
    )
    oss2.resumable_download(
        bucket, "big", str(target), store=store_down, multiget_threshold=0, part_size=300_000, num_threads=3
    )
    assert target.read_bytes() == DATA
    assert bucket.head_object("big").object_type == "Multipart"


def test_multipart_uploads_of_oss2(bucket: oss2.Bucket) -> None:
    upload_id = bucket.init_multipart_upload("big", headers={"x-oss-meta-a": "b"}).upload_id
    parts = []
    for number, start in enumerate((0, 500_000, 1_000_000), 1):
        data = DATA[start : start + 500_000]
        done = bucket.upload_part("big", upload_id, number, data)
        parts.append(PartInfo(number, done.etag, size=len(data), part_crc=done.crc))
    assert [part.size for part in bucket.list_parts("big", upload_id).parts] == [500_000] * 3
    assert [upload.upload_id for upload in oss2.MultipartUploadIterator(bucket)] == [upload_id]
    finish(bucket.complete_multipart_upload("big", upload_id, parts))
    copied = bucket.init_multipart_upload("copy").upload_id
    part = finish(bucket.upload_part_copy("photos", "big", (0, 999_999), "copy", copied, 1))
    finish(bucket.complete_multipart_upload("copy", copied, [PartInfo(1, part.etag)]))
    assert bucket.get_object("copy").read() == DATA[:1_000_000]
    aborted = bucket.init_multipart_upload("big").upload_id
    bucket.abort_multipart_upload("big", aborted)
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.list_parts("big", aborted)


def test_errors_of_oss2(bucket: oss2.Bucket) -> None:
    bucket.put_object("k", b"x")
    for call in (bucket.get_object, bucket.head_object, bucket.get_object_meta):
        with pytest.raises(oss2.exceptions.NoSuchKey) as missing:
            call("missing")
        assert missing.value.request_id
    with pytest.raises(oss2.exceptions.NotModified):
        bucket.get_object("k", headers={"If-None-Match": bucket.head_object("k").etag})
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.get_object("k", headers={"If-Match": "other"})
    with pytest.raises(oss2.exceptions.InvalidDigest):
        bucket.put_object("k", b"x", headers={"Content-MD5": oss2.utils.content_md5(b"y")})
    with pytest.raises(oss2.exceptions.ServerError) as exists:
        bucket.put_object("k", b"x", headers={"x-oss-forbid-overwrite": "true"})
    assert (exists.value.status, exists.value.code) == (409, "FileAlreadyExists")
    with pytest.raises(oss2.exceptions.BucketNotEmpty):
        bucket.delete_bucket()
    bucket.append_object("log", 0, b"1234")
    with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as position:
        bucket.append_object("log", 3, b"x")
    assert position.value.next_position == 4
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        bucket.append_object("k", 1, b"x")


def test_presigned_urls_of_oss2(bucket: oss2.Bucket) -> None:
    bucket.put_object("a b+c", b"hello")
    for slash_safe in (True, False):
        url = bucket.sign_url("GET", "a b+c", 60, slash_safe=slash_safe)
        with urllib.request.urlopen(url) as response:
            assert response.read() == b"hello"


def test_bucket_operations_of_oss2(bucket: oss2.Bucket, oss: Emulator) -> None:
    info = bucket.get_bucket_info()
    assert (info.name, info.location, info.acl.grant) == ("photos", f"oss-{oss.region}", "private")
    assert bucket.get_bucket_location().location == f"oss-{oss.region}"
    bucket.put_bucket_acl("public-read")
    assert bucket.get_bucket_acl().acl == "public-read"
    service = oss2.Service(bucket.auth, oss.endpoint, region=oss.region, session=bucket.session)
    assert "photos" in [found.name for found in oss2.BucketIterator(service)]
    other = oss2.Bucket(bucket.auth, oss.endpoint, "other-bucket", region=oss.region, session=bucket.session)
    other.create_bucket()
    other.delete_bucket()
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        other.get_bucket_info()


def test_a_token_of_oss2(oss: Emulator, bucket: oss2.Bucket) -> None:
    oss.accept(Credentials(access_key_id="sts", access_key_secret="s", security_token="to+ken/=="))
    session = bucket.session
    for region, auth in (
        (None, oss2.StsAuth("sts", "s", "to+ken/==")),
        (oss.region, oss2.ProviderAuthV4(oss2.credentials.StaticCredentialsProvider("sts", "s", "to+ken/=="))),
    ):
        own = oss2.Bucket(auth, oss.endpoint, "photos", region=region, session=session)
        own.put_object("k", b"hello")
        with urllib.request.urlopen(own.sign_url("GET", "k", 60)) as response:
            assert response.read() == b"hello"
