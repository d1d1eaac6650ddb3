"""Whole objects: put, get, head, delete, copy, append."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote

from . import documents, rules
from .messages import OssRequest, Refusal, Reply
from .store import Store, refuse_overwrite, s3_object_headers

MAX_DELETED_KEYS = 1000


def put_object(store: Store, request: OssRequest) -> Reply:
    rules.check_body(request)
    refuse_overwrite(store, request, forbidden=rules.forbids_overwrite(request))
    headers = s3_object_headers(request)
    reply = store.moto.call("PUT", request.bucket, request.key, headers=headers, body=request.body)
    store.was_written(request.bucket, request.key)
    return Reply(200, _written(store, reply.headers["etag"], request.body))


def get_object(store: Store, request: OssRequest) -> Reply:
    head = _existing(store, request.bucket, request.key)
    size = int(head.headers["content-length"])
    span = rules.effective_range(
        request.headers.get("range", ""),
        size,
        is_standard=request.headers.get("x-oss-range-behavior", "") == "standard",
    )
    headers = _conditions(request)
    if span and size:
        headers["range"] = span
    query = {name: value for name, value in request.query.items() if name.startswith("response-")}
    reply = store.moto.call("GET", request.bucket, request.key, headers=headers, query=query)
    if reply.status == 304:
        return _not_modified(store, request, head)
    if span and not size:  # moto refuses this too, but for a suffix
        raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
    return Reply(reply.status, store.object_headers(request.bucket, request.key, reply.headers), reply.body)


def head_object(store: Store, request: OssRequest) -> Reply:
    head = _existing(store, request.bucket, request.key)
    if store.moto.call("HEAD", request.bucket, request.key, headers=_conditions(request)).status == 304:
        return _not_modified(store, request, head)
    headers = store.object_headers(request.bucket, request.key, head.headers)
    if "objectMeta" in request.query:
        headers = {name: headers[name] for name in ("etag", "last-modified", "x-oss-hash-crc64ecma")}
    return Reply(200, headers, length=int(head.headers["content-length"]))


def delete_object(store: Store, request: OssRequest) -> Reply:
    store.moto.call("DELETE", request.bucket, request.key)
    store.was_written(request.bucket, request.key)
    return Reply(204)


def delete_objects(store: Store, request: OssRequest) -> Reply:
    if "content-md5" not in request.headers:
        raise Refusal(400, "MissingArgument", "Content-MD5 is mandatory here.", ArgumentName="Content-MD5")
    rules.check_body(request)
    names = documents.Names(request)
    root = documents.parse_sent(request.body)
    keys = [element.findtext("Key", "") for element in root.findall("Object")]
    if root.tag != "Delete" or not 0 < len(keys) <= MAX_DELETED_KEYS or "" in keys:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed or has not 1 to 1000 keys.")
    body = documents.render("Delete", [("Object", [("Key", key)]) for key in keys])
    store.moto.call("POST", request.bucket, query={"delete": ""}, body=body)
    for key in keys:
        store.was_written(request.bucket, key)
    if root.findtext("Quiet", "false").lower() == "true":
        return Reply(200)
    deleted: list[documents.Node] = [("Deleted", [("Key", names(key))]) for key in keys]
    return xml_reply("DeleteResult", [*names.nodes(), *deleted])


def copy_object(store: Store, request: OssRequest) -> Reply:
    bucket, key = copy_source(request)
    source = _existing_source(store, request, bucket, key)
    directive = request.headers.get("x-oss-metadata-directive", "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise Refusal(400, "InvalidArgument", f"{directive!r} is no metadata directive")
    refuse_overwrite(store, request, forbidden=rules.forbids_overwrite(request))
    headers = s3_object_headers(request) if directive == "REPLACE" else {}
    headers["x-amz-metadata-directive"] = directive
    headers["x-amz-copy-source"] = quote(f"/{bucket}/{key}", safe="/")
    result = store.moto.document("PUT", request.bucket, request.key, headers=headers)
    store.was_written(request.bucket, request.key)
    etag = result.findtext(".//ETag", "")
    nodes: list[documents.Node] = [
        ("ETag", documents.oss_etag(etag)),
        ("LastModified", result.findtext(".//LastModified", "")),
    ]
    reply = xml_reply("CopyObjectResult", nodes)
    reply.headers["etag"] = documents.oss_etag(etag)
    reply.headers["x-oss-hash-crc64ecma"] = str(store.crc(source.headers["etag"]))
    return reply


def append_object(store: Store, request: OssRequest) -> Reply:
    """S3 has no append: read, add, write."""
    rules.check_body(request)
    position = rules.number(request, "position", None, low=0, high=5 << 30)
    head = store.head(request.bucket, request.key)
    headers, before = s3_object_headers(request), b""
    if head is not None:
        if store.object_type(request.bucket, request.key, head.headers["etag"]) != "Appendable":
            raise Refusal(409, "ObjectNotAppendable", "The object is not appendable.")
        headers = {name: value for name, value in head.headers.items() if name.startswith(("content-type", "x-amz-"))}
        before = store.moto.call("GET", request.bucket, request.key).body
    if position != len(before):
        raise Refusal(
            409,
            "PositionNotEqualToLength",
            "Position is not equal to file length.",
            headers={"x-oss-next-append-position": str(len(before))},
        )
    body = before + request.body
    reply = store.moto.call("PUT", request.bucket, request.key, headers=headers, body=body)
    store.was_written(request.bucket, request.key, by_append=True)
    written = _written(store, reply.headers["etag"], body)
    return Reply(200, {**written, "x-oss-next-append-position": str(len(body))})


def copy_source(request: OssRequest) -> tuple[str, str]:
    """Return bucket and key of `x-oss-copy-source: /bucket/percent-encoded-key`."""
    path = request.headers["x-oss-copy-source"].partition("?")[0]
    bucket, _, key = unquote(path.removeprefix("/")).partition("/")
    if not path.startswith("/") or not key:
        raise Refusal(400, "InvalidArgument", "Copy Source must mention the source bucket and key: /bucket/key.")
    return bucket, key


def _existing_source(store: Store, request: OssRequest, bucket: str, key: str) -> Reply:
    store.require_bucket(bucket)
    source = _existing(store, bucket, key)
    modified = parsedate_to_datetime(source.headers["last-modified"])
    rules.check_copy_conditions(request, source.headers["etag"], modified)
    return source


def _existing(store: Store, bucket: str, key: str) -> Reply:
    head = store.head(bucket, key)
    if head is None:
        raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
    return head


def _not_modified(store: Store, request: OssRequest, head: Reply) -> Reply:
    headers = store.object_headers(request.bucket, request.key, head.headers)
    return Reply(304, {name: headers[name] for name in ("etag", "last-modified")})


def _conditions(request: OssRequest) -> dict[str, str]:
    """Return the conditions of a read; moto wants ETags quoted and in lower case."""
    headers: dict[str, str] = {}
    for name in ("if-modified-since", "if-unmodified-since"):
        if name in request.headers:
            headers[name] = request.headers[name]
    for name in ("if-match", "if-none-match"):
        if name in request.headers:
            headers[name] = documents.s3_etag(request.headers[name])
    return headers


def _written(store: Store, etag: str, body: bytes) -> dict[str, str]:
    return {
        "etag": documents.oss_etag(etag),
        "x-oss-hash-crc64ecma": str(store.remember_crc(etag, body)),
        "content-md5": rules.content_md5(body),
    }


def xml_reply(name: str, nodes: list[documents.Node]) -> Reply:
    return Reply(200, {"content-type": "application/xml"}, documents.render(name, nodes))
