"""Multipart uploads: begin, upload and list parts, complete, abort."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ...protocol.checksum import combine_crc64
from ..documents import PartName, document, element, fields, parse_complete
from ..exchange import Call, Received, Reply, xml_reply
from ..records import MULTIPART, ObjectRecord, PartRecord, UploadRecord
from ..refusals import Refused, invalid_argument
from ..service import Service, new_upload_id
from ..storage import Bucket
from .arguments import encryption_of, iso_time, listing_encoding, object_headers, storage_class, whole_number
from .attributes import object_acl, traits
from .objects import check_overwrite, written_reply

MAX_PARTS = 10_000


def initiate(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    encoding, encode = listing_encoding(call)
    check_overwrite(service, call)
    upload = UploadRecord(
        new_upload_id(),
        call.key,
        int(service.now()),
        storage_class(call.headers, bucket.storage_class),
        object_headers(call.headers),
        traits(call.headers),
    )
    bucket.begin_upload(upload)
    answer = {"EncodingType": encoding, "Bucket": call.bucket, "Key": encode(call.key), "UploadId": upload.upload_id}
    reply = xml_reply(document("InitiateMultipartUploadResult", fields(answer)))
    reply.headers.update(encryption_of(upload.headers))
    return reply


def upload_part(service: Service, call: Call, received: Received) -> Reply:
    bucket, upload = find_upload(service, call)
    part = PartRecord(
        part_number(call), received.content, received.size, received.etag, received.crc64, int(service.now())
    )
    bucket.put_part(upload.upload_id, part)
    return written_reply(received)


def complete(service: Service, call: Call, received: Received) -> Reply:
    """Join the listed parts to the object and drop the others; this replaces the old object in the same step."""
    bucket, upload = find_upload(service, call)
    encoding, encode = listing_encoding(call)
    parts = _chosen_parts(upload, call, received)
    _check_sizes(parts, service.policy.min_part_bytes)
    check_overwrite(service, call)
    record = _joined(upload, parts, int(service.now()))
    if "x-oss-object-acl" in call.headers:
        record = replace(record, traits=replace(record.traits, acl=object_acl(call.headers)))
    bucket.complete_upload(upload.upload_id, record)
    answer = {
        "EncodingType": encoding,
        "Location": service.location(call, encode(call.key)),
        "Bucket": call.bucket,
        "Key": encode(call.key),
        "ETag": f'"{record.etag}"',
    }
    reply = xml_reply(document("CompleteMultipartUploadResult", fields(answer)))
    reply.headers["ETag"] = f'"{record.etag}"'
    reply.headers["x-oss-hash-crc64ecma"] = str(record.crc64)
    reply.headers.update(encryption_of(record.headers))
    return reply


def abort(service: Service, call: Call, _received: Received) -> Reply:
    bucket, upload = find_upload(service, call)
    bucket.abort_upload(upload.upload_id)
    return Reply(204)


def list_parts(service: Service, call: Call, _received: Received) -> Reply:
    _, upload = find_upload(service, call)
    encoding, encode = listing_encoding(call)
    limit = whole_number(call, "max-parts", default=1000, least=1, most=1000)
    marker = whole_number(call, "part-number-marker", default=0, least=0, most=MAX_PARTS)
    later = [upload.parts[number] for number in sorted(upload.parts) if number > marker]
    shown = later[:limit]
    head: dict[str, object] = {
        "EncodingType": encoding,
        "Bucket": call.bucket,
        "Key": encode(call.key),
        "UploadId": upload.upload_id,
        "StorageClass": upload.storage_class,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": shown[-1].number if shown else 0,
        "MaxParts": limit,
        "IsTruncated": str(len(later) > limit).lower(),
    }
    return xml_reply(document("ListPartsResult", fields(head), *map(_part_row, shown)))


def find_upload(service: Service, call: Call) -> tuple[Bucket, UploadRecord]:
    """Return bucket and upload of a call; refuse an unknown id and the id of another key."""
    bucket = service.bucket(call.bucket)
    upload_id = call.parameter("uploadId")
    upload = bucket.uploads.get(upload_id)
    if upload is None or upload.key != call.key:
        raise Refused("NoSuchUpload", extras={"BucketName": call.bucket, "Key": call.key, "UploadId": upload_id})
    return bucket, upload


def part_number(call: Call) -> int:
    text = call.parameter("partNumber")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= MAX_PARTS):
        raise invalid_argument("partNumber", text, f"Part number must be an integer between 1 and {MAX_PARTS}.")
    return int(text)


def _chosen_parts(upload: UploadRecord, call: Call, received: Received) -> list[PartRecord]:
    if call.headers.get("x-oss-complete-all", "").lower() == "yes":
        if received.data:
            raise invalid_argument("x-oss-complete-all", "yes", "A body must not be given as well.")
        if not upload.parts:
            raise Refused("InvalidPart", "No part was uploaded.")
        return [upload.parts[number] for number in sorted(upload.parts)]
    names = parse_complete(received.data)
    if any(left.number >= right.number for left, right in pairwise(names)):
        raise Refused("InvalidPartOrder")
    return [_part(upload, name) for name in names]


def _part(upload: UploadRecord, name: PartName) -> PartRecord:
    part = upload.parts.get(name.number)
    if part is None or part.etag != name.etag:
        raise Refused("InvalidPart", extras={"PartNumber": str(name.number), "ETag": name.etag})
    return part


def _check_sizes(parts: Sequence[PartRecord], least_bytes: int) -> None:
    for part in parts[:-1]:
        if part.size < least_bytes:
            sizes = {"ProposedSize": str(part.size), "MinSizeAllowed": str(least_bytes)}
            raise Refused("EntityTooSmall", extras={"PartNumber": str(part.number), "ETag": part.etag, **sizes})


def _joined(upload: UploadRecord, parts: Sequence[PartRecord], now: int) -> ObjectRecord:
    crc = 0
    for part in parts:
        crc = combine_crc64(crc, part.crc64, part.size)
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return ObjectRecord(
        upload.key,
        tuple(piece for part in parts for piece in part.content),
        sum(part.size for part in parts),
        f"{digest.hexdigest().upper()}-{len(parts)}",
        crc,
        now,
        MULTIPART,
        upload.storage_class,
        upload.headers,
        upload.traits,
    )


def _part_row(part: PartRecord) -> str:
    row = {
        "PartNumber": part.number,
        "LastModified": iso_time(part.modified),
        "ETag": f'"{part.etag}"',
        "HashCrc64ecma": part.crc64,
        "Size": part.size,
    }
    return element("Part", fields(row))


OPERATIONS = {
    "InitiateMultipartUpload": initiate,
    "UploadPart": upload_part,
    "CompleteMultipartUpload": complete,
    "AbortMultipartUpload": abort,
    "ListParts": list_parts,
}
