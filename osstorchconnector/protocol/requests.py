"""The requests of OSS, one function per operation: arguments in, a `Request` out.

ETags have no quotes in this library (`5B3C…`); they get them here. Each request with a body names its content type:
a transport would else add one of its own, which is not signed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from ..errors import OssUriError
from ..uri import OssUri
from .attributes import BYTES, PLAIN, Attributes
from .signing import encode_key
from .values import Buffer, ByteSpan, Pairs, Request, UploadedPart, flat_buffers
from .xml import quoted_etag, render_bucket, render_complete, render_delete

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

MAX_KEYS = 1000
_XML = "application/xml"
_URL_ENCODED = ("encoding-type", "url")  # a key may hold characters that XML can't carry


def get_object(bucket: str, key: str, span: ByteSpan | None = None, if_match: str = "") -> Request:
    """Ask for an object or a span of it; a span may reach past the end."""
    headers: Pairs = ()
    if span is not None:
        headers = (("range", span.header()),)
        # By default OSS sends the whole object if the span reaches past its end. If the span starts at 0 that is right,
        # for an empty object too: with "standard" it would be refused (416), and one more request (HEAD) needed.
        if span.start:
            headers += (("x-oss-range-behavior", "standard"),)
    if if_match:
        headers += (("if-match", quoted_etag(if_match)),)
    return _of_object("GetObject", "GET", bucket, key, headers=headers)


def head_object(bucket: str, key: str) -> Request:
    """Ask for an object's size, ETag, CRC and types."""
    return _of_object("HeadObject", "HEAD", bucket, key)


def put_object(
    bucket: str,
    key: str,
    body: BytesLike | Iterable[BytesLike],
    forbid_overwrite: bool = False,
    attributes: Attributes = PLAIN,
) -> Request:
    """Store an object; with `forbid_overwrite` an existing one is an error (409)."""
    headers: Pairs = (*attributes.headers(), *_forbidding(forbid_overwrite))
    return _of_object("PutObject", "PUT", bucket, key, headers=headers, body=_buffers("PutObject", bucket, key, body))


def append_object(bucket: str, key: str, position: int, body: BytesLike | Iterable[BytesLike]) -> Request:
    """Add bytes to an appendable object that has `position` bytes; at 0 a missing one is created."""
    query = (("append", ""), ("position", str(position)))
    buffers = _buffers("AppendObject", bucket, key, body)
    return _of_object("AppendObject", "POST", bucket, key, query, (("content-type", BYTES),), buffers)


def copy_object(
    source_bucket: str, source_key: str, bucket: str, key: str, if_match: str = "", forbid_overwrite: bool = False
) -> Request:
    """Copy an object within OSS; with `if_match` only while the source has that ETag.

    With `forbid_overwrite` an existing object is an error (409).
    """
    headers = _copy_source("CopyObject", source_bucket, source_key, if_match) + _forbidding(forbid_overwrite)
    return _of_object("CopyObject", "PUT", bucket, key, headers=headers)


def delete_object(bucket: str, key: str) -> Request:
    """Delete an object; a missing one is no error."""
    return _of_object("DeleteObject", "DELETE", bucket, key)


def delete_objects(bucket: str, keys: Sequence[str], quiet: bool = True) -> Request:
    """Delete up to 1000 objects; `ValueError` for a key that XML can't carry (see `xml.carries_key`)."""
    if not 0 < len(keys) <= MAX_KEYS:
        raise ValueError(f"{len(keys)} keys in one DeleteMultipleObjects; OSS takes 1 to {MAX_KEYS}")
    if "" in keys:
        _refuse_empty_key("DeleteMultipleObjects", bucket)
    body = render_delete(keys, quiet)
    # OSS refuses this operation without Content-MD5 (EC 0016-00000606).
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = (("content-type", _XML), ("content-md5", digest))
    return Request("DeleteMultipleObjects", "POST", bucket, "", (("delete", ""), _URL_ENCODED), headers, (body,))


def list_objects(
    bucket: str,
    prefix: str = "",
    delimiter: str = "",
    start_after: str = "",
    token: str = "",
    max_keys: int = MAX_KEYS,
) -> Request:
    """Ask for a page of the bucket's keys: those after `start_after`, or the page that `token` stands for."""
    query = (
        ("list-type", "2"),
        _URL_ENCODED,
        ("max-keys", str(max_keys)),
        *_given(("prefix", prefix), ("delimiter", delimiter), ("start-after", start_after)),
        *_given(("continuation-token", token)),
    )
    return Request("ListObjectsV2", "GET", bucket, "", query)


def create_upload(bucket: str, key: str, attributes: Attributes = PLAIN) -> Request:
    """Begin a multipart upload, of an object with these attributes."""
    query = (("uploads", ""), _URL_ENCODED)
    return _of_object("InitiateMultipartUpload", "POST", bucket, key, query, attributes.headers())


def upload_part(bucket: str, key: str, upload_id: str, number: int, body: BytesLike | Iterable[BytesLike]) -> Request:
    """Send part `number` (1 to 10000) of an upload; sent again it replaces the first."""
    query = (("partNumber", str(number)), ("uploadId", upload_id))
    return _of_object(
        "UploadPart", "PUT", bucket, key, query, (("content-type", BYTES),), _buffers("UploadPart", bucket, key, body)
    )


def upload_part_copy(
    bucket: str, key: str, upload_id: str, number: int, source: OssUri, span: ByteSpan, if_match: str = ""
) -> Request:
    """Make part `number` of an upload from a span of the object `source`."""
    query = (("partNumber", str(number)), ("uploadId", upload_id))
    headers = _copy_source("UploadPartCopy", source.bucket, source.key, if_match)
    return _of_object(
        "UploadPartCopy", "PUT", bucket, key, query, (*headers, ("x-oss-copy-source-range", span.header()))
    )


def complete_upload(
    bucket: str, key: str, upload_id: str, parts: Iterable[UploadedPart], forbid_overwrite: bool = False
) -> Request:
    """Make an object of the parts, in ascending order of their numbers.

    With `forbid_overwrite` an existing object is an error (409).
    """
    query = (("uploadId", upload_id), _URL_ENCODED)
    headers = (("content-type", _XML), *_forbidding(forbid_overwrite))
    return _of_object("CompleteMultipartUpload", "POST", bucket, key, query, headers, (render_complete(parts),))


def abort_upload(bucket: str, key: str, upload_id: str) -> Request:
    """Abort an upload and free the space of its parts."""
    return _of_object("AbortMultipartUpload", "DELETE", bucket, key, (("uploadId", upload_id),))


def list_parts(bucket: str, key: str, upload_id: str, marker: int = 0, max_parts: int = MAX_KEYS) -> Request:
    """Ask for a page of an upload's parts: those with numbers above `marker`."""
    query: Pairs = (("uploadId", upload_id), ("max-parts", str(max_parts)), _URL_ENCODED)
    if marker:
        query += (("part-number-marker", str(marker)),)
    return _of_object("ListParts", "GET", bucket, key, query)


def list_uploads(
    bucket: str, prefix: str = "", key_marker: str = "", upload_id_marker: str = "", max_uploads: int = MAX_KEYS
) -> Request:
    """Ask for a page of the uploads that are neither completed nor aborted."""
    query = (
        ("uploads", ""),
        ("max-uploads", str(max_uploads)),
        _URL_ENCODED,
        *_given(("prefix", prefix), ("key-marker", key_marker), ("upload-id-marker", upload_id_marker)),
    )
    return Request("ListMultipartUploads", "GET", bucket, "", query)


def put_bucket(bucket: str, storage_class: str = "", redundancy: str = "") -> Request:
    """Create a bucket; one that the account has already stays as it is."""
    body = render_bucket(storage_class, redundancy) if storage_class or redundancy else b""
    headers: Pairs = (("content-type", _XML),) if body else ()
    return Request("PutBucket", "PUT", bucket, "", (), headers, (body,) if body else ())


def list_buckets(prefix: str = "", marker: str = "", max_keys: int = MAX_KEYS) -> Request:
    """Ask for a page of the account's buckets: those whose names come after `marker`."""
    query = (*_given(("prefix", prefix), ("marker", marker)), ("max-keys", str(max_keys)))
    return Request("ListBuckets", "GET", query=query)


def _copy_source(operation: str, bucket: str, key: str, if_match: str) -> Pairs:
    source = encode_key(key or _refuse_empty_key(operation, bucket))
    headers: Pairs = (("x-oss-copy-source", f"/{bucket}/{source}"),)
    return (*headers, ("x-oss-copy-source-if-match", quoted_etag(if_match))) if if_match else headers


def _forbidding(forbid_overwrite: bool) -> Pairs:
    return (("x-oss-forbid-overwrite", "true"),) if forbid_overwrite else ()


def _of_object(
    operation: str,
    method: str,
    bucket: str,
    key: str,
    query: Pairs = (),
    headers: Pairs = (),
    body: tuple[Buffer, ...] = (),
) -> Request:
    """Return a request for one object. An empty key is refused: a PUT or DELETE would create or delete the bucket."""
    return Request(operation, method, bucket, key or _refuse_empty_key(operation, bucket), query, headers, body)


def _refuse_empty_key(operation: str, bucket: str) -> NoReturn:
    raise OssUriError(f"{operation} oss://{bucket}/: no object is named, the key is empty")


def _given(*pairs: tuple[str, str]) -> Pairs:
    """Return the query parameters that have a value."""
    return tuple(pair for pair in pairs if pair[1])


def _buffers(operation: str, bucket: str, key: str, body: BytesLike | Iterable[BytesLike]) -> tuple[Buffer, ...]:
    return (body,) if type(body) is bytes else flat_buffers(f"{operation} {OssUri(bucket, key).shown}", body)
