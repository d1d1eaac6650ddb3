"""Multipart uploads: begin, parts, complete, abort, and what is pending."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise
from typing import NamedTuple

from . import documents, rules
from .messages import OssRequest, Refusal, Reply
from .objects import copy_source, xml_reply
from .store import Store, refuse_overwrite, s3_object_headers


class Part(NamedTuple):
    number: int
    etag: str
    size: int
    last_modified: str


class Upload(NamedTuple):
    key: str
    upload_id: str
    initiated: str


def create_upload(store: Store, request: OssRequest) -> Reply:
    names = documents.Names(request)
    forbidden = rules.forbids_overwrite(request)
    refuse_overwrite(store, request, forbidden=forbidden)
    headers = s3_object_headers(request)
    result = store.moto.document("POST", request.bucket, request.key, query={"uploads": ""}, headers=headers)
    upload_id = result.findtext("UploadId", "")
    store.initiated[upload_id] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    nodes: list[documents.Node] = [
        ("Bucket", request.bucket),
        ("Key", names(request.key)),
        ("UploadId", upload_id),
    ]
    return xml_reply("InitiateMultipartUploadResult", [*names.nodes(), *nodes])


def upload_part(store: Store, request: OssRequest) -> Reply:
    rules.check_body(request)
    query = _part_query(store, request)
    reply = store.moto.call("PUT", request.bucket, request.key, query=query, body=request.body)
    headers = {
        "etag": documents.oss_etag(reply.headers["etag"]),
        "x-oss-hash-crc64ecma": str(store.remember_crc(reply.headers["etag"], request.body)),
        "content-md5": rules.content_md5(request.body),
    }
    return Reply(200, headers)


def upload_part_copy(store: Store, request: OssRequest) -> Reply:
    """Read the source's range here and upload it: what moto does with a range past the end is not what OSS does."""
    query = _part_query(store, request)
    bucket, key = copy_source(request)
    store.require_bucket(bucket)
    body = store.moto.call("GET", bucket, key).body
    span = request.headers.get("x-oss-copy-source-range", "")
    if span:
        first, last = _source_range(span, len(body))
        body = body[first : last + 1]
    reply = store.moto.call("PUT", request.bucket, request.key, query=query, body=body)
    store.remember_crc(reply.headers["etag"], body)
    nodes: list[documents.Node] = [
        ("LastModified", _find_part(store, request).last_modified),
        ("ETag", documents.oss_etag(reply.headers["etag"])),
    ]
    return xml_reply("CopyPartResult", nodes)


def complete_upload(store: Store, request: OssRequest) -> Reply:
    names = documents.Names(request)
    query = _upload_query(store, request)
    parts = _parts_to_complete(store, request)
    refuse_overwrite(store, request, forbidden=rules.forbids_overwrite(request))
    body = documents.render(
        "CompleteMultipartUpload",
        [("Part", [("PartNumber", number), ("ETag", documents.s3_etag(etag))]) for number, etag in parts],
    )
    result = store.moto.document("POST", request.bucket, request.key, query=query, body=body)
    store.was_written(request.bucket, request.key)
    etag = result.findtext("ETag", "")
    whole = store.moto.call("GET", request.bucket, request.key).body
    nodes: list[documents.Node] = [
        ("Location", f"http://{request.bucket}/{names(request.key)}"),
        ("Bucket", request.bucket),
        ("Key", names(request.key)),
        ("ETag", documents.oss_etag(etag)),
    ]
    reply = xml_reply("CompleteMultipartUploadResult", [*names.nodes(), *nodes])
    reply.headers["etag"] = documents.oss_etag(etag)
    reply.headers["x-oss-hash-crc64ecma"] = str(store.remember_crc(etag, whole))
    return reply


def abort_upload(store: Store, request: OssRequest) -> Reply:
    store.moto.call("DELETE", request.bucket, request.key, query=_upload_query(store, request))
    return Reply(204)


def list_parts(store: Store, request: OssRequest) -> Reply:
    names = documents.Names(request)
    upload_id = _upload_query(store, request)["uploadId"]
    marker = rules.number(request, "part-number-marker", 0, low=0, high=rules.MAX_PART_NUMBER)
    limit = rules.page_size(request, "max-parts", rules.MAX_PAGE)
    left = [part for part in _stored_parts(store, request) if part.number > marker]
    page = left[:limit]
    nodes: list[documents.Node] = [
        ("Bucket", request.bucket),
        ("Key", names(request.key)),
        ("UploadId", upload_id),
        ("StorageClass", "Standard"),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else 0),
        ("MaxParts", limit),
        ("IsTruncated", len(left) > limit),
    ]
    return xml_reply("ListPartsResult", [*names.nodes(), *nodes, *(_part_node(store, part) for part in page)])


def pending_uploads(store: Store, bucket: str) -> list[Upload]:
    """Return a bucket's uploads by key, then by id; moto says of each that it began in 2010."""
    result = store.moto.document("GET", bucket, query={"uploads": ""})
    found = ((node.findtext("Key", ""), node.findtext("UploadId", "")) for node in result.findall("Upload"))
    return sorted(Upload(key, upload_id, store.initiated[upload_id]) for key, upload_id in found)


def _part_node(store: Store, part: Part) -> documents.Node:
    return (
        "Part",
        [
            ("PartNumber", part.number),
            ("LastModified", part.last_modified),
            ("ETag", documents.oss_etag(part.etag)),
            ("HashCrc64ecma", store.crc(part.etag)),
            ("Size", part.size),
        ],
    )


def _upload_query(store: Store, request: OssRequest) -> dict[str, str]:
    """Return moto's query for an upload that is pending for this key; moto itself takes any key, and any id twice."""
    upload_id = request.query["uploadId"]
    pending = pending_uploads(store, request.bucket)
    if not any((upload.key, upload.upload_id) == (request.key, upload_id) for upload in pending):
        raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.", UploadId=upload_id)
    return {"uploadId": upload_id}


def _part_query(store: Store, request: OssRequest) -> dict[str, str]:
    number = rules.number(request, "partNumber", None, low=1, high=rules.MAX_PART_NUMBER)
    return {**_upload_query(store, request), "partNumber": str(number)}


def _stored_parts(store: Store, request: OssRequest) -> list[Part]:
    query = {"uploadId": request.query["uploadId"], "max-parts": str(rules.MAX_PART_NUMBER)}
    result = store.moto.document("GET", request.bucket, request.key, query=query)
    return [
        Part(
            int(node.findtext("PartNumber", "")),
            node.findtext("ETag", ""),
            int(node.findtext("Size", "")),
            node.findtext("LastModified", ""),
        )
        for node in result.findall("Part")
    ]


def _find_part(store: Store, request: OssRequest) -> Part:
    number = int(request.query["partNumber"])
    return next(part for part in _stored_parts(store, request) if part.number == number)


def _parts_to_complete(store: Store, request: OssRequest) -> list[tuple[int, str]]:
    if request.headers.get("x-oss-complete-all", "").lower() == "yes":
        if request.body:
            raise Refusal(400, "InvalidArgument", "x-oss-complete-all: yes goes without a body")
        return [(part.number, part.etag) for part in _stored_parts(store, request)]
    root = documents.parse_sent(request.body)
    numbers = [node.findtext("PartNumber", "") for node in root.findall("Part")]
    if root.tag != "CompleteMultipartUpload" or not numbers or not all(text.strip().isdigit() for text in numbers):
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed or names no parts.")
    parts = [(int(text), node.findtext("ETag", "")) for text, node in zip(numbers, root.findall("Part"), strict=True)]
    if any(later[0] <= earlier[0] for earlier, later in pairwise(parts)):
        raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    return parts


def _source_range(span: str, size: int) -> tuple[int, int]:
    first, _, last = span.removeprefix("bytes=").partition("-")
    last = last or str(size - 1)
    if not (span.startswith("bytes=") and first.isdigit() and last.isdigit() and int(first) <= int(last) < size):
        raise Refusal(400, "InvalidArgument", f"the source has {size} bytes and not {span!r}")
    return int(first), int(last)
