"""Steps with oss2, the older SDK for Python."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import time
from typing import Any

import oss2
import requests
from oss2.models import PartInfo, Tagging, TaggingRule
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

auth = oss2.AuthV4(KEY_ID, KEY_SECRET) if VERSION == "v4" else oss2.Auth(KEY_ID, KEY_SECRET)
service = oss2.Service(auth, ENDPOINT, region=REGION)
bucket = oss2.Bucket(auth, ENDPOINT, BUCKET, region=REGION, is_verify_object_strict=False)


def refusal(status: int, code: str, function: Any, *arguments: object, **more: object) -> oss2.exceptions.ServerError:
    found = None
    try:
        function(*arguments, **more)
    except oss2.exceptions.ServerError as error:
        found = error
    assert found is not None, f"not refused: {status} {code}"
    assert (found.status, found.code) == (status, code), found
    return found


def step_put_and_get() -> None:
    result = bucket.put_object("k", DATA, headers={"x-oss-meta-a": "b"})
    assert result.status == 200
    assert bucket.get_object("k").read() == DATA
    head = bucket.head_object("k")
    assert (head.content_length, head.headers["x-oss-meta-a"]) == (len(DATA), "b")
    assert bucket.get_object("k", byte_range=(10, 19)).read() == DATA[10:20]
    assert bucket.get_object_meta("k").headers["ETag"] == f'"{head.etag}"'
    assert bucket.object_exists("k") and not bucket.object_exists("missing")
    refusal(404, "NoSuchKey", bucket.get_object, "missing")


def step_stream() -> None:
    bucket.put_object("stream", iter([DATA[:HALF], DATA[HALF:]]))
    assert b"".join(bucket.get_object("stream")) == DATA
    bucket.put_object("stream", io.BytesIO(DATA))
    assert bucket.get_object("stream").read() == DATA


def step_conditions() -> None:
    etag = bucket.put_object("k", DATA).etag
    assert bucket.get_object("k", headers={"If-Match": etag}).read() == DATA
    refusal(412, "PreconditionFailed", bucket.get_object, "k", headers={"If-Match": "other"})
    refusal(409, "FileAlreadyExists", bucket.put_object, "k", b"", headers={"x-oss-forbid-overwrite": "true"})


def step_odd_keys() -> None:
    for key in KEYS + CONTROL_KEYS:
        bucket.put_object(f"odd/{key}", key.encode())
        assert bucket.get_object(f"odd/{key}").read() == key.encode(), key
    wanted = sorted((f"odd/{key}" for key in KEYS + CONTROL_KEYS), key=str.encode)
    assert [entry.key for entry in oss2.ObjectIteratorV2(bucket, prefix="odd/", max_keys=7)] == wanted
    assert [entry.key for entry in oss2.ObjectIterator(bucket, prefix="odd/", max_keys=7)] == wanted
    deleted = bucket.batch_delete_objects([f"odd/{key}" for key in KEYS + CONTROL_KEYS]).deleted_keys
    assert sorted(deleted, key=str.encode) == wanted
    assert list(oss2.ObjectIteratorV2(bucket, prefix="odd/")) == []


def step_list() -> None:
    for key in ("list/a", "list/dir/1", "list/dir/2", "list/z"):
        bucket.put_object(key, b"")
    page = bucket.list_objects_v2("list/", "/", fetch_owner=True)
    assert [entry.key for entry in page.object_list] == ["list/a", "list/z"]
    assert page.prefix_list == ["list/dir/"] and page.object_list[0].owner.id
    assert [entry.key for entry in oss2.ObjectIteratorV2(bucket, "list/", max_keys=1)] == [
        "list/a",
        "list/dir/1",
        "list/dir/2",
        "list/z",
    ]


def step_multipart() -> None:
    upload_id = bucket.init_multipart_upload("parts").upload_id
    parts = []
    for number, piece in enumerate((DATA[:HALF], DATA[HALF:]), 1):
        result = bucket.upload_part("parts", upload_id, number, piece)
        parts.append(PartInfo(number, result.etag, size=len(piece), part_crc=result.crc))
    assert [part.part_number for part in oss2.PartIterator(bucket, "parts", upload_id)] == [1, 2]
    assert [upload.upload_id for upload in oss2.MultipartUploadIterator(bucket, prefix="parts")] == [upload_id]
    bucket.complete_multipart_upload("parts", upload_id, parts)
    assert bucket.get_object("parts").read() == DATA
    other = bucket.init_multipart_upload("parts").upload_id
    bucket.abort_multipart_upload("parts", other)
    refusal(404, "NoSuchUpload", bucket.abort_multipart_upload, "parts", other)


def step_copy() -> None:
    bucket.put_object("copy/source +é", DATA)
    result = bucket.copy_object(BUCKET, "copy/source +é", "copy/target")
    assert result.headers["x-oss-hash-crc64ecma"] == bucket.head_object("copy/target").headers["x-oss-hash-crc64ecma"]
    upload_id = bucket.init_multipart_upload("copy/parts").upload_id
    part = bucket.upload_part_copy(BUCKET, "copy/source +é", (HALF, None), "copy/parts", upload_id, 1)
    bucket.complete_multipart_upload("copy/parts", upload_id, [PartInfo(1, part.etag)])
    assert bucket.get_object("copy/parts").read() == DATA[HALF:]


def step_append() -> None:
    result = bucket.append_object("append", 0, DATA[:HALF])
    bucket.append_object("append", result.next_position, DATA[HALF:], init_crc=result.crc)
    assert bucket.get_object("append").read() == DATA
    error = refusal(409, "PositionNotEqualToLength", bucket.append_object, "append", 5, b"x")
    assert error.next_position == len(DATA) and error.message == "Position is not equal to file length"
    bucket.put_object("k", DATA)
    refusal(409, "ObjectNotAppendable", bucket.append_object, "k", 0, b"x")


def step_presign() -> None:
    for key in ("presign/k", "presign/space +é"):
        assert requests.put(bucket.sign_url("PUT", key, 600, slash_safe=True), data=DATA, timeout=30).status_code == 200
        params = {"response-content-type": "text/plain"}
        answer = requests.get(bucket.sign_url("GET", key, 600, params=params), timeout=30)
        assert (answer.content, answer.headers["content-type"]) == (DATA, "text/plain")
    assert requests.get(f"{ENDPOINT}/{BUCKET}/presign/k", timeout=30).status_code == 403


def step_form() -> None:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    policy = json.dumps({"expiration": expiration, "conditions": [["starts-with", "$key", "form/"]]})
    signed = base64.b64encode(policy.encode()).decode()
    signature = base64.b64encode(hmac.new(KEY_SECRET.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    form = {"key": "form/${filename}", "policy": signed, "OSSAccessKeyId": KEY_ID, "Signature": signature}
    answer = requests.post(f"{ENDPOINT}/{BUCKET}", data=form, files={"file": ("a.bin", DATA)}, timeout=30)
    assert answer.status_code == 204, answer.text
    assert bucket.get_object("form/a.bin").read() == DATA


def step_bucket() -> None:
    info = bucket.get_bucket_info()
    assert (info.name, info.acl.grant, info.data_redundancy_type) == (BUCKET, "private", "LRS")
    assert info.bucket_encryption_rule.sse_algorithm in (None, "None") and info.comment in (None, "")
    there = oss2.Bucket(auth, info.extranet_endpoint, BUCKET, region=REGION)
    there.put_object("by-its-endpoint", b"x")
    assert BUCKET in [found.name for found in oss2.BucketIterator(service)]
    assert bucket.get_bucket_stat().object_count > 0
    assert bucket.get_bucket_location().location == f"oss-{REGION}"
    bucket.put_bucket_acl("public-read")
    assert requests.get(f"{ENDPOINT}/{BUCKET}/by-its-endpoint", timeout=30).content == b"x"
    bucket.put_bucket_acl("private")
    other = oss2.Bucket(auth, ENDPOINT, f"{BUCKET}-other", region=REGION)
    refusal(404, "NoSuchBucket", other.get_object, "k")
    other.create_bucket()
    other.delete_bucket()


def step_attributes() -> None:
    bucket.put_object("attributes", DATA)
    bucket.put_object_acl("attributes", oss2.OBJECT_ACL_PUBLIC_READ)
    assert bucket.get_object_acl("attributes").acl == "public-read"
    rule = TaggingRule()
    rule.add("a b", "1")
    rule.add("c", "2+3")
    bucket.put_object_tagging("attributes", Tagging(rule))
    assert bucket.get_object_tagging("attributes").tag_set.tagging_rule == {"a b": "1", "c": "2+3"}
    bucket.delete_object_tagging("attributes")
    assert bucket.get_object_tagging("attributes").tag_set.tagging_rule == {}
    encrypted = bucket.put_object("attributes", DATA, headers={"x-oss-server-side-encryption": "AES256"})
    assert encrypted.headers["x-oss-server-side-encryption"] == "AES256"


def step_symlink() -> None:
    bucket.put_object("symlink/target é", DATA)
    bucket.put_symlink("symlink/target é", "symlink/link")
    assert bucket.get_symlink("symlink/link").target_key == "symlink/target é"
    assert bucket.get_object("symlink/link").read() == DATA


def step_restore() -> None:
    bucket.put_object("cold", DATA, headers={"x-oss-storage-class": "Archive"})
    refusal(403, "InvalidObjectState", bucket.get_object, "cold")
    assert bucket.restore_object("cold").status == 202
    assert bucket.head_object("cold").resp.headers["x-oss-restore"] == 'ongoing-request="true"'
    refusal(409, "RestoreAlreadyInProgress", bucket.restore_object, "cold")


def step_delete() -> None:
    bucket.put_object("delete", DATA)
    assert bucket.delete_object("delete").status == 204
    assert bucket.delete_object("delete").status == 204
    refusal(404, "NoSuchKey", bucket.get_object, "delete")


run_steps("oss2", steps_of(dict(globals())))
