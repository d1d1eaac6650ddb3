"""Listings of objects, of pending uploads and of buckets."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from . import documents, rules, uploads
from .documents import Names, Node
from .messages import OssRequest, Refusal, Reply
from .objects import xml_reply
from .store import Store

DEFAULT_PAGE = 100


class Page(NamedTuple):
    """One page of moto's listing, names decoded; `token` is empty on the last one."""

    contents: list[tuple[str, Element]]
    prefixes: list[str]
    token: str

    @property
    def last_name(self) -> str:
        return max([*(key for key, _ in self.contents), *self.prefixes])


def list_objects_v2(store: Store, request: OssRequest) -> Reply:
    names = Names(request)
    limit = rules.page_size(request, "max-keys", DEFAULT_PAGE)
    query = request.query
    token, start_after = query.get("continuation-token", ""), query.get("start-after", "")
    page = _page(store, request, limit, token=token, start_after=start_after)
    nodes: list[Node] = [
        ("Name", request.bucket),
        ("Prefix", names(query.get("prefix", ""))),
        ("StartAfter", names(start_after)),
        ("MaxKeys", limit),
        ("Delimiter", names(query.get("delimiter", ""))),
        *names.nodes(),
        ("IsTruncated", bool(page.token)),
    ]
    if token:
        nodes.append(("ContinuationToken", names(token)))
    if page.token:
        nodes.append(("NextContinuationToken", names(page.token)))
    nodes.append(("KeyCount", len(page.contents) + len(page.prefixes)))
    owned = query.get("fetch-owner", "").lower() == "true"
    return xml_reply("ListBucketResult", [*nodes, *_entries(store, request, page, names, with_owner=owned)])


def list_objects_v1(store: Store, request: OssRequest) -> Reply:
    """Ask moto for version 2, because the NextMarker of its version 1 is no key."""
    names = Names(request)
    limit = rules.page_size(request, "max-keys", DEFAULT_PAGE)
    marker = request.query.get("marker", "")
    page = _page(store, request, limit, start_after=marker)
    nodes: list[Node] = [
        ("Name", request.bucket),
        ("Prefix", names(request.query.get("prefix", ""))),
        ("Marker", names(marker)),
        ("MaxKeys", limit),
        ("Delimiter", names(request.query.get("delimiter", ""))),
        *names.nodes(),
        ("IsTruncated", bool(page.token)),
    ]
    if page.token:
        nodes.append(("NextMarker", names(page.last_name)))
    return xml_reply("ListBucketResult", [*nodes, *_entries(store, request, page, names, with_owner=True)])


def list_uploads(store: Store, request: OssRequest) -> Reply:
    """Page through moto's uploads here: moto gives all of them at once."""
    names = Names(request)
    query = request.query
    limit = rules.page_size(request, "max-uploads", rules.MAX_PAGE)
    prefix, after = query.get("prefix", ""), (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    if query.get("delimiter", ""):
        raise Refusal(501, "NotImplemented", "the oracle lists uploads without a delimiter only")
    left = [
        upload
        for upload in uploads.pending_uploads(store, request.bucket)
        if upload.key.startswith(prefix) and _is_after(upload, *after)
    ]
    page = left[:limit]
    last = page[-1] if page else uploads.Upload("", "", "")
    nodes: list[Node] = [
        ("Bucket", request.bucket),
        *names.nodes(),
        ("KeyMarker", names(after[0])),
        ("UploadIdMarker", after[1]),
        ("NextKeyMarker", names(last.key)),
        ("NextUploadIdMarker", last.upload_id),
        ("Delimiter", ""),
        ("Prefix", names(prefix)),
        ("MaxUploads", limit),
        ("IsTruncated", len(left) > limit),
    ]
    found: list[Node] = [
        (
            "Upload",
            [
                ("Key", names(upload.key)),
                ("UploadId", upload.upload_id),
                ("StorageClass", "Standard"),
                ("Initiated", upload.initiated),
            ],
        )
        for upload in page
    ]
    return xml_reply("ListMultipartUploadsResult", [*nodes, *found])


def list_buckets(store: Store, request: OssRequest, region: str) -> Reply:
    limit = rules.page_size(request, "max-keys", DEFAULT_PAGE)
    prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
    result = store.moto.document("GET", "")
    created = {node.findtext("Name", ""): node.findtext("CreationDate", "") for node in result.iter("Bucket")}
    left = sorted(name for name in created if name.startswith(prefix) and name > marker)
    nodes: list[Node] = [
        ("Owner", [("ID", "oracle"), ("DisplayName", "oracle")]),
        ("Prefix", prefix),
        ("Marker", marker),
        ("MaxKeys", limit),
        ("IsTruncated", len(left) > limit),
    ]
    if len(left) > limit:
        nodes.append(("NextMarker", left[limit - 1]))
    buckets: list[Node] = [("Bucket", _bucket_nodes(name, created[name], region)) for name in left[:limit]]
    return xml_reply("ListAllMyBucketsResult", [*nodes, ("Buckets", buckets)])


def _page(store: Store, request: OssRequest, limit: int, *, token: str = "", start_after: str = "") -> Page:
    query = {"list-type": "2", "encoding-type": "url", "max-keys": str(limit)}
    query.update({name: request.query[name] for name in ("prefix", "delimiter") if request.query.get(name)})
    if token:
        if token not in store.tokens:
            raise Refusal(400, "InvalidArgument", "The continuation token provided is incorrect.")
        query["continuation-token"] = token
    elif start_after:
        query["start-after"] = start_after
    result = store.moto.document("GET", request.bucket, query=query)
    following = result.findtext("NextContinuationToken", "")
    store.tokens.add(following)
    contents = [(unquote(node.findtext("Key", "")), node) for node in result.findall("Contents")]
    prefixes = [unquote(node.findtext("Prefix", "")) for node in result.findall("CommonPrefixes")]
    return Page(contents, prefixes, following)


def _entries(store: Store, request: OssRequest, page: Page, names: Names, *, with_owner: bool) -> list[Node]:
    owner: list[Node] = [("Owner", [("ID", "oracle"), ("DisplayName", "oracle")])] if with_owner else []
    contents: list[Node] = [
        (
            "Contents",
            [
                ("Key", names(key)),
                ("LastModified", node.findtext("LastModified", "")),
                ("ETag", documents.oss_etag(node.findtext("ETag", ""))),
                ("Type", store.object_type(request.bucket, key, node.findtext("ETag", ""))),
                ("Size", node.findtext("Size", "")),
                ("StorageClass", documents.oss_storage_class(node.findtext("StorageClass", ""))),
                *owner,
            ],
        )
        for key, node in page.contents
    ]
    return contents + [("CommonPrefixes", [("Prefix", names(prefix))]) for prefix in page.prefixes]


def _is_after(upload: uploads.Upload, key_marker: str, id_marker: str) -> bool:
    """With no id marker a key marker excludes all uploads of its key."""
    if not key_marker:
        return True
    if upload.key == key_marker:
        return bool(id_marker) and upload.upload_id > id_marker
    return upload.key > key_marker


def _bucket_nodes(name: str, created: str, region: str) -> list[Node]:
    return [
        ("Name", name),
        ("CreationDate", created),
        ("Location", f"oss-{region}"),
        ("Region", region),
        ("StorageClass", "Standard"),
        ("ExtranetEndpoint", f"oss-{region}.aliyuncs.com"),
        ("IntranetEndpoint", f"oss-{region}-internal.aliyuncs.com"),
    ]
