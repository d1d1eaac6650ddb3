"""Copies of objects and of parts: records that share the source's bytes on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..blobs import Content, cut
from ..documents import check_version, document, fields
from ..exchange import Call, Received, Reply, xml_reply
from ..records import DEFAULT_ACL, NO_TRAITS, NORMAL, SYMLINK, ObjectRecord, PartRecord, Traits
from ..refusals import Refused, invalid_argument
from ..routing import check_names, decode_path
from ..service import MAX_BODY_BYTES, Service
from .arguments import check_conditions, encryption_of, iso_time, object_headers, storage_class
from .attributes import traits
from .multipart import find_upload, part_number
from .objects import check_overwrite
from .restoring import check_readable

_SOURCE = re.compile(r"/([^/?]+)/([^?]+)(?:\?versionId=([^&]*))?", re.DOTALL)
_SOURCE_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})", re.ASCII)
_CONDITIONS = "x-oss-copy-source-"
_OF_ENCRYPTION_BY_CLIENTS = "x-oss-meta-client-side-encryption-"


class Excerpt(NamedTuple):
    """Some bytes of a source, with CRC-64 and ETag of these bytes."""

    content: Content
    size: int
    crc64: int
    etag: str


def copy_object(service: Service, call: Call, _received: Received) -> Reply:
    """Make the key an object with the bytes of the source."""
    bucket = service.bucket(call.bucket)
    source = _source(service, call)
    check_overwrite(service, call)
    given = traits(call.headers)
    tags = given.tags if _replaces(call, "x-oss-tagging-directive") else source.traits.tags
    if source.size > MAX_BODY_BYTES:
        raise Refused("EntityTooLarge", "The source of a copy is larger than 5 GB: use UploadPartCopy.")
    record = ObjectRecord(
        call.key,
        source.content,
        source.size,
        source.etag,
        source.crc64,
        int(service.now()),
        SYMLINK if source.kind == SYMLINK else NORMAL,
        storage_class(call.headers, bucket.storage_class),
        _headers_of_copy(call, source),
        _traits_of_copy(given.acl, tags, source.traits.target),
    )
    bucket.put(record)
    reply = _copied("CopyObjectResult", record.etag, record.modified)
    reply.headers.update(encryption_of(record.headers))
    if record.crc64 is not None:
        reply.headers["x-oss-hash-crc64ecma"] = str(record.crc64)
    return reply


def _replaces(call: Call, name: str) -> bool:
    """Whether a directive asks for the request's values instead of the source's."""
    directive = call.headers.get(name, "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument(name, directive, "Must be COPY or REPLACE.")
    return directive == "REPLACE"


def _headers_of_copy(call: Call, source: ObjectRecord) -> dict[str, str]:
    """Return the copy's headers: the source's, or the request's.

    Server-side encryption is never copied from the source, only taken from the request. The headers of client-side
    encryption are always kept, and so is the type unless the request names one.
    """
    given, own = object_headers(call.headers), encryption_of(source.headers)
    if not _replaces(call, "x-oss-metadata-directive"):
        return {**{name: value for name, value in source.headers.items() if name not in own}, **encryption_of(given)}
    kept = {name: value for name, value in source.headers.items() if name.startswith(_OF_ENCRYPTION_BY_CLIENTS)}
    if "content-type" not in call.headers:
        kept["Content-Type"] = source.headers.get("Content-Type", given.pop("Content-Type"))
    return {**kept, **given}


def _traits_of_copy(acl: str, tags: Mapping[str, str], target: str) -> Traits:
    return Traits(acl, tags, target) if tags or target or acl != DEFAULT_ACL else NO_TRAITS


def upload_part_copy(service: Service, call: Call, _received: Received) -> Reply:
    """Make a part of the source's bytes, all or those in `x-oss-copy-source-range`."""
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
    check_version(match[3] or "")
    bucket, key = decode_path(match[1]), decode_path(match[2])
    check_names(Call("", "", bucket, key))
    record = service.find(bucket, key)
    check_conditions(call.headers, record.etag, record.modified, _CONDITIONS)
    check_readable(service, record)
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
        raise invalid_argument("x-oss-copy-source-range", header, "Must be bytes=first-last or bytes=first-.")
    first, last = int(match[1]), int(match[2] or size - 1)
    if not first <= last < size:
        raise Refused("InvalidRange", f"The source has {size} bytes; {header} is not within them.")
    return first, last + 1


OPERATIONS = {"CopyObject": copy_object, "UploadPartCopy": upload_part_copy}
