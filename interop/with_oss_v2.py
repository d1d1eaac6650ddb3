"""Steps with alibabacloud-oss-v2, the newer SDK for Python."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable
from typing import Any

import alibabacloud_oss_v2 as oss
import requests
from steps import (
    BUCKET,
    CONTROL_KEYS,
    DATA,
    ENDPOINT,
    HALF,
    KEY_ID,
    KEY_SECRET,
    KEYS,
    REGION,
    VERSION,
    run_steps,
    steps_of,
)


def make_client(endpoint: str = ENDPOINT) -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(KEY_ID, KEY_SECRET)
    config.region, config.endpoint, config.signature_version = REGION, endpoint, VERSION
    return oss.Client(config)


client = make_client()


def put(key: str, body: Any = DATA, **more: Any) -> oss.PutObjectResult:
    return client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=body, **more))


def get(key: str, **more: Any) -> bytes:
    return bytes(client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=key, **more)).body.read())


def refusal(status: int, code: str, function: Callable[[], object]) -> oss.exceptions.ServiceError:
    found: Any = None
    try:
        function()
    except oss.exceptions.OperationError as error:
        found = error.unwrap()
    assert found is not None, f"not refused: {status} {code}"
    assert (found.status_code, found.code) == (status, code), found
    return found


def step_put_and_get() -> None:
    put("k", metadata={"a": "b"})
    head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="k"))
    assert (head.content_length, head.metadata["a"]) == (len(DATA), "b")
    assert get("k") == DATA
    assert get("k", range_header="bytes=10-19", range_behavior="standard") == DATA[10:20]
    meta = client.get_object_meta(oss.GetObjectMetaRequest(bucket=BUCKET, key="k"))
    assert (meta.content_length, meta.etag) == (len(DATA), head.etag)
    assert client.is_object_exist(BUCKET, "k") and not client.is_object_exist(BUCKET, "missing")
    refusal(404, "NoSuchKey", lambda: get("missing"))


def step_stream() -> None:
    put("stream", io.BytesIO(DATA))
    with client.get_object(oss.GetObjectRequest(bucket=BUCKET, key="stream")).body as body:
        assert b"".join(body.iter_bytes(block_size=10_000)) == DATA
    put("stream", iter([DATA[:HALF], DATA[HALF:]]))
    assert get("stream") == DATA


def step_conditions() -> None:
    etag = put("k").etag
    assert get("k", if_match=etag) == DATA
    refusal(412, "PreconditionFailed", lambda: get("k", if_match='"other"'))
    refusal(409, "FileAlreadyExists", lambda: put("k", b"", forbid_overwrite=True))


def step_odd_keys() -> None:
    keys = KEYS + CONTROL_KEYS
    for key in keys:
        put(f"odd/{key}", key.encode())
        assert get(f"odd/{key}") == key.encode(), key
    wanted = sorted((f"odd/{key}" for key in keys), key=str.encode)
    pages = client.list_objects_v2_paginator(limit=7)
    request = oss.ListObjectsV2Request(bucket=BUCKET, prefix="odd/")
    assert [entry.key for page in pages.iter_page(request) for entry in page.contents or ()] == wanted
    objects = [oss.DeleteObject(key=f"odd/{key}") for key in keys]
    result = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=objects, encoding_type="url")
    )
    assert sorted((entry.key for entry in result.deleted_objects), key=str.encode) == wanted
    assert not client.list_objects_v2(request).contents


def step_list() -> None:
    for key in ("list/a", "list/dir/1", "list/dir/2", "list/z"):
        put(key, b"")
    request = oss.ListObjectsV2Request(bucket=BUCKET, prefix="list/", delimiter="/", fetch_owner=True)
    page = client.list_objects_v2(request)
    assert [entry.key for entry in page.contents] == ["list/a", "list/z"]
    assert [entry.prefix for entry in page.common_prefixes] == ["list/dir/"] and page.contents[0].owner.id
    older = client.list_objects(oss.ListObjectsRequest(bucket=BUCKET, prefix="list/", max_keys=2))
    assert older.is_truncated and older.next_marker == "list/dir/1"


def step_multipart() -> None:
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key="parts"))
    upload = {"bucket": BUCKET, "key": "parts", "upload_id": begun.upload_id}
    parts = []
    for number, piece in enumerate((DATA[:HALF], DATA[HALF:]), 1):
        result = client.upload_part(oss.UploadPartRequest(**upload, part_number=number, body=piece))
        parts.append(oss.UploadPart(part_number=number, etag=result.etag))
    assert [part.part_number for part in client.list_parts(oss.ListPartsRequest(**upload)).parts] == [1, 2]
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix="parts"))
    assert [found.upload_id for found in uploads.uploads] == [begun.upload_id]
    assert uploads.next_key_marker == "parts" and not uploads.is_truncated
    whole = oss.CompleteMultipartUpload(parts=parts)
    client.complete_multipart_upload(oss.CompleteMultipartUploadRequest(**upload, complete_multipart_upload=whole))
    assert get("parts") == DATA
    refusal(404, "NoSuchUpload", lambda: client.abort_multipart_upload(oss.AbortMultipartUploadRequest(**upload)))


def step_managers() -> None:
    uploader = client.uploader(part_size=102_400, parallel_num=2)
    uploader.upload_from(oss.PutObjectRequest(bucket=BUCKET, key="managed"), reader=io.BytesIO(DATA))
    stored = io.BytesIO()
    client.downloader(part_size=102_400).download_to(oss.GetObjectRequest(bucket=BUCKET, key="managed"), writer=stored)
    assert stored.getvalue() == DATA
    request = oss.CopyObjectRequest(bucket=BUCKET, key="managed/copy", source_bucket=BUCKET, source_key="managed")
    client.copier(part_size=102_400, multipart_copy_threshold=102_400).copy(request)
    assert get("managed/copy") == DATA


def step_copy() -> None:
    put("copy/source +é")
    source = {"source_bucket": BUCKET, "source_key": "copy/source +é"}
    result = client.copy_object(oss.CopyObjectRequest(bucket=BUCKET, key="copy/target", **source))
    assert result.hash_crc64 == client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="copy/target")).hash_crc64
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key="copy/parts"))
    upload = {"bucket": BUCKET, "key": "copy/parts", "upload_id": begun.upload_id}
    copy = oss.UploadPartCopyRequest(**upload, part_number=1, **source, source_range=f"bytes={HALF}-")
    part = oss.UploadPart(part_number=1, etag=client.upload_part_copy(copy).etag)
    whole = oss.CompleteMultipartUpload(parts=[part])
    client.complete_multipart_upload(oss.CompleteMultipartUploadRequest(**upload, complete_multipart_upload=whole))
    assert get("copy/parts") == DATA[HALF:]


def step_append() -> None:
    def append(key: str, position: int, body: bytes) -> oss.AppendObjectResult:
        return client.append_object(oss.AppendObjectRequest(bucket=BUCKET, key=key, position=position, body=body))

    append("append", append("append", 0, DATA[:HALF]).next_position, DATA[HALF:])
    assert get("append") == DATA
    error = refusal(409, "PositionNotEqualToLength", lambda: append("append", 5, b"x"))
    assert error.message == "Position is not equal to file length"
    put("k")
    refusal(409, "ObjectNotAppendable", lambda: append("k", 0, b"x"))


def step_presign() -> None:
    for key in ("presign/k", "presign/space +é"):
        signed = client.presign(oss.PutObjectRequest(bucket=BUCKET, key=key))
        answer = requests.put(signed.url, data=DATA, headers=dict(signed.signed_headers), timeout=30)
        assert answer.status_code == 200, answer.text
        signed = client.presign(oss.GetObjectRequest(bucket=BUCKET, key=key, response_content_type="text/plain"))
        answer = requests.get(signed.url, headers=dict(signed.signed_headers), timeout=30)
        assert (answer.content, answer.headers["content-type"]) == (DATA, "text/plain")


def step_form() -> None:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    told = {
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": f"{KEY_ID}/{date[:8]}/{REGION}/oss/aliyun_v4_request",
        "x-oss-date": date,
    }
    conditions = [{name: value} for name, value in told.items()] + [["content-length-range", 1, len(DATA)]]
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    policy = base64.b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode()).decode()
    key = f"aliyun_v4{KEY_SECRET}".encode()
    for step in (date[:8], REGION, "oss", "aliyun_v4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, policy.encode(), hashlib.sha256).hexdigest()
    form = {"key": "form/${filename}", **told, "policy": policy, "x-oss-signature": signature}
    answer = requests.post(f"{ENDPOINT}/{BUCKET}", data=form, files={"file": ("a.bin", DATA)}, timeout=30)
    assert answer.status_code == 204, answer.text
    assert get("form/a.bin") == DATA


def step_bucket() -> None:
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=BUCKET)).bucket_info
    assert (info.name, info.acl, info.data_redundancy_type) == (BUCKET, "private", "LRS")
    assert info.sse_rule is not None and info.bucket_policy is not None and info.resource_group_id
    there = make_client(info.extranet_endpoint)
    there.put_object(oss.PutObjectRequest(bucket=BUCKET, key="by-its-endpoint", body=b"x"))
    assert BUCKET in [found.name for found in client.list_buckets(oss.ListBucketsRequest()).buckets]
    assert client.get_bucket_stat(oss.GetBucketStatRequest(bucket=BUCKET)).object_count > 0
    assert client.get_bucket_location(oss.GetBucketLocationRequest(bucket=BUCKET)).location == f"oss-{REGION}"
    client.put_bucket_acl(oss.PutBucketAclRequest(bucket=BUCKET, acl="public-read"))
    assert client.get_bucket_acl(oss.GetBucketAclRequest(bucket=BUCKET)).acl == "public-read"
    assert requests.get(f"{ENDPOINT}/{BUCKET}/by-its-endpoint", timeout=30).content == b"x"
    other = f"{BUCKET}-other"
    assert not client.is_bucket_exist(other)
    client.put_bucket(oss.PutBucketRequest(bucket=other))
    client.delete_bucket(oss.DeleteBucketRequest(bucket=other))


def step_attributes() -> None:
    named = {"bucket": BUCKET, "key": "attributes"}
    put("attributes", acl="private", tagging="a%20b=1&c=2%2B3", server_side_encryption="AES256")
    assert client.get_object_acl(oss.GetObjectAclRequest(**named)).acl == "private"
    client.put_object_acl(oss.PutObjectAclRequest(**named, acl="public-read"))
    assert client.get_object_acl(oss.GetObjectAclRequest(**named)).acl == "public-read"
    tags = client.get_object_tagging(oss.GetObjectTaggingRequest(**named)).tag_set.tags
    assert {tag.key: tag.value for tag in tags} == {"a b": "1", "c": "2+3"}
    tagging = oss.Tagging(tag_set=oss.TagSet(tags=[oss.Tag(key="d", value="4")]))
    client.put_object_tagging(oss.PutObjectTaggingRequest(**named, tagging=tagging))
    head = client.head_object(oss.HeadObjectRequest(**named))
    assert (head.tagging_count, head.server_side_encryption) == (1, "AES256")
    client.delete_object_tagging(oss.DeleteObjectTaggingRequest(**named))


def step_symlink() -> None:
    put("symlink/target é")
    named = {"bucket": BUCKET, "key": "symlink/link"}
    client.put_symlink(oss.PutSymlinkRequest(**named, symlink_target="symlink%2Ftarget%20%C3%A9"))
    assert client.get_symlink(oss.GetSymlinkRequest(**named)).target == "symlink/target%20%C3%A9"
    assert get("symlink/link") == DATA


def step_restore() -> None:
    put("cold", storage_class="Archive")
    refusal(403, "InvalidObjectState", lambda: get("cold"))
    wanted = oss.RestoreRequest(days=2)
    request = oss.RestoreObjectRequest(bucket=BUCKET, key="cold", restore_request=wanted)
    assert client.restore_object(request).status_code == 202
    assert client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="cold")).restore == 'ongoing-request="true"'
    refusal(409, "RestoreAlreadyInProgress", lambda: client.restore_object(request))


def step_what_is_missing_is_named() -> None:
    refusal(501, "NotImplemented", lambda: client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=BUCKET)))
    refusal(501, "NotImplemented", lambda: put("callback", callback=base64.b64encode(b"{}").decode()))
    assert not client.is_object_exist(BUCKET, "callback")


def step_delete() -> None:
    put("delete")
    for _ in range(2):
        assert client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key="delete")).status_code == 204
    refusal(404, "NoSuchKey", lambda: get("delete"))


run_steps("alibabacloud-oss-v2", steps_of(dict(globals())))
