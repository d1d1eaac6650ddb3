"""Copies of objects and of parts: records that share the source's bytes on disk."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..blobs import Content, cut
from ..conditions import check_conditions
from ..documents import document, fields
from ..exchange import Call, Reply, xml_reply
from ..intake import Received
from ..records import NORMAL, ObjectRecord, PartRecord
from ..refusals import Refused, invalid_argument
from ..routing import check_names, decode_path
from ..service import MAX_BODY_BYTES, Service
from .arguments import iso_time, object_headers, storage_class
from .multipart import find_upload, part_number
from .objects import check_overwrite, check_readable

_SOURCE = re.compile(r"/([^/?]+)/([^?]+)(?:\?versionId=[^&]*)?", re.DOTALL)
_SOURCE_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})", re.ASCII)
_CONDITIONS = "x-oss-copy-source-"


class Excerpt(NamedTuple):
    """Bytes of a source, with CRC-64 and ETag of exactly these bytes."""

    content: Content
    size: int
    crc64: int
    etag: str


def copy_object(service: Service, call: Call, _received: Received) -> Reply:
    """Make the key an object with the source's bytes; onto itself only with new metadata."""
    bucket = service.bucket(call.bucket)
    source = _source(service, call)
    check_overwrite(service, call)
    directive = call.headers.get("x-oss-metadata-directive", "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument("x-oss-metadata-directive", directive, "Must be COPY or REPLACE.")
    if source.size > MAX_BODY_BYTES:
        raise Refused("EntityTooLarge", "The source of a copy is larger than 5 GB: use UploadPartCopy.")
    record = ObjectRecord(
        call.key,
        source.content,
        source.size,
        source.etag,
        source.crc64,
        int(service.now()),
        NORMAL,
        storage_class(call.headers, bucket.storage_class),
        object_headers(call.headers) if directive == "REPLACE" else source.headers,
    )
    bucket.put(record)
    return _copied("CopyObjectResult", record.etag, record.modified)


def upload_part_copy(service: Service, call: Call, _received: Received) -> Reply:
    """Make a part of a source's bytes, or of `x-oss-copy-source-range` of them."""
    bucket, upload = find_upload(service, call)
    number = part_number(call)
    source = _source(service, call)
    excerpt = _excerpt(service, source, call.headers.get("x-oss-copy-source-range"))
    part = PartRecord(number, excerpt.content, excerpt.size, excerpt.etag, excerpt.crc64, int(service.now()))
    bucket.put_part(upload.upload_id, part)
    return _copied("CopyPartResult", part.etag, part.modified)


def _copied(root: str, etag: str, modified: int) -> Reply:
    reply = xml_reply(document(root, fields({"LastModified": iso_time(modified), "ETag": f'"{etag}"'})))
    reply.headers["ETag"] = f'"{etag}"'
    return reply


def _source(service: Service, call: Call) -> ObjectRecord:
    header = call.headers["x-oss-copy-source"]
    match = _SOURCE.fullmatch(header)
    if match is None:
        raise invalid_argument(
            "x-oss-copy-source", header, "Copy Source must mention the source bucket and key: /bucket/key."
        )
    bucket, key = decode_path(match[1]), decode_path(match[2])
    check_names(Call("", "", bucket, key))
    record = service.find(bucket, key)
    check_conditions(call.headers, record.etag, record.modified, _CONDITIONS)
    check_readable(record)
    return record


def _excerpt(service: Service, source: ObjectRecord, header: str | None) -> Excerpt:
    start, stop = _source_span(header, source.size)
    content = cut(source.content, start, stop)
    digest = service.digest(content)
    return Excerpt(content, stop - start, digest.crc64, digest.etag)


def _source_span(header: str | None, size: int) -> tuple[int, int]:
    if header is None:
        return 0, size
    match = _SOURCE_RANGE.fullmatch(header)
    if match is None:
        raise invalid_argument("x-oss-copy-source-range", header, "Must be bytes=first-last.")
    first, last = int(match[1]), int(match[2])
    if not first <= last < size:
        raise Refused("InvalidRange", f"The source has {size} bytes; {header} is not within them.")
    return first, last + 1


OPERATIONS = {"CopyObject": copy_object, "UploadPartCopy": upload_part_copy}
