"""From a request's target and `Host` to bucket, key, query and the name of the operation. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .exchange import Call
from .refusals import Refused

MAX_KEY_BYTES = 1023
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SERVICE_HOST = re.compile(r"(?:(.+)\.)?(?:oss-[a-z0-9-]+|[a-z0-9-]+\.oss)\.aliyuncs\.com")

_MARKED_BUCKET_OPERATIONS = {
    "GET": {
        "bucketInfo": "GetBucketInfo",
        "location": "GetBucketLocation",
        "acl": "GetBucketAcl",
        "uploads": "ListMultipartUploads",
    },
    "PUT": {"acl": "PutBucketAcl"},
    "POST": {"delete": "DeleteMultipleObjects"},
}
_PLAIN_BUCKET_OPERATIONS = {"GET": "ListObjects", "PUT": "PutBucket", "DELETE": "DeleteBucket"}
_MARKED_OBJECT_OPERATIONS = {
    "GET": {"uploadId": "ListParts"},
    "HEAD": {"objectMeta": "GetObjectMeta"},
    "PUT": {"uploadId": "UploadPart"},
    "POST": {"append": "AppendObject", "uploads": "InitiateMultipartUpload", "uploadId": "CompleteMultipartUpload"},
    "DELETE": {"uploadId": "AbortMultipartUpload"},
}
_PLAIN_OBJECT_OPERATIONS = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}

# The names that `name_operation` gives.
OPERATIONS = frozenset(
    [
        "ListBuckets",
        "ListObjectsV2",
        *_COPIES.values(),
        *_PLAIN_BUCKET_OPERATIONS.values(),
        *_PLAIN_OBJECT_OPERATIONS.values(),
        *(name for marked in _MARKED_BUCKET_OPERATIONS.values() for name in marked.values()),
        *(name for marked in _MARKED_OBJECT_OPERATIONS.values() for name in marked.values()),
    ]
)

# Sub-resources of real OSS that stand for operations this server does not have.
_FOREIGN_MARKS = frozenset(
    """
    accessPoint asyncFetch callback cname comp cors encryption group inventory lifecycle link live logging metaQuery
    objectInfo policy publicAccessBlock qos qosInfo referer replication requestPayment resourceGroup restore seal stat
    status style symlink tagging transferAcceleration versionId versioning versions vod website worm x-oss-process
    x-oss-async-process x-oss-rename
    """.split()
)


_NO_MARKS: frozenset[str] = frozenset()


class Place(NamedTuple):
    """What a request speaks of, as the address says; both are empty for the service itself."""

    bucket: str
    key: str


class Hosts:
    """How `Host` headers are understood.

    IP addresses and `localhost` have the bucket in the path; so have hosts that nothing is known of. In front of
    one of `domains` (and of OSS's own names) stands a bucket. `cnames` maps whole hosts to buckets.
    """

    def __init__(self, domains: Sequence[str] = (), cnames: Mapping[str, str] | None = None) -> None:
        self._domains = ("localhost", *(domain.lower() for domain in domains))
        self._cnames = {host.lower(): bucket for host, bucket in (cnames or {}).items()}
        self._known: dict[str, str | None] = {}

    def place(self, host: str, path: str) -> Place:
        """Return what `path`, still encoded, names at `host`."""
        bucket = self._bucket_of(host)
        decoded = decode_path(path)
        if bucket is None:
            bucket, _, key = decoded[1:].partition("/")
            return Place(bucket, key)
        return Place(bucket, decoded[1:])

    def _bucket_of(self, header: str) -> str | None:
        """Return the bucket a host stands for, "" for the service, None where the path has it."""
        if header not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[header] = self._find_bucket(_without_port(header).lower())
        return self._known[header]

    def _find_bucket(self, host: str) -> str | None:
        if host in self._cnames:
            return self._cnames[host]
        if _is_address(host) or host == "localhost":
            return None
        for domain in self._domains:
            if host == domain:
                return ""
            if host.endswith(f".{domain}"):
                return host.removesuffix(f".{domain}")
        match = _SERVICE_HOST.fullmatch(host)
        return None if match is None else match[1] or ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def decode_path(path: str) -> str:
    """Return a path without percent encoding; `+` stays `+`."""
    if "%" not in path and path.isascii():
        return path
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise Refused("InvalidObjectName", "The key is not valid UTF-8.") from error


def decode_query(query: str) -> list[tuple[str, str]]:
    """Return a query's parameters in order; `+` and `%20` are both a space."""
    pairs = []
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            pairs.append((_decode_parameter(name), _decode_parameter(value)))
    return pairs


def _decode_parameter(text: str) -> str:
    text = text.replace("+", " ")
    return unquote_to_bytes(text).decode(errors="replace") if "%" in text else text


def name_operation(method: str, place: Place, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> str:
    """Return OSS's name of the operation, or "" for what this server does not have."""
    marks = {name for name, _ in query} if query else _NO_MARKS
    if query and marks & _FOREIGN_MARKS:
        return ""
    if not place.bucket:
        return "ListBuckets" if method == "GET" else ""
    if not place.key:
        operation = _marked(_MARKED_BUCKET_OPERATIONS, method, marks) or _PLAIN_BUCKET_OPERATIONS.get(method, "")
        return "ListObjectsV2" if operation == "ListObjects" and ("list-type", "2") in query else operation
    operation = _marked(_MARKED_OBJECT_OPERATIONS, method, marks) or _PLAIN_OBJECT_OPERATIONS.get(method, "")
    return _COPIES.get(operation, operation) if "x-oss-copy-source" in headers else operation


def _marked(operations: Mapping[str, Mapping[str, str]], method: str, marks: Collection[str]) -> str:
    for mark, operation in operations.get(method, {}).items() if marks else ():
        if mark in marks:
            return operation
    return ""


@lru_cache(maxsize=256)
def _is_bucket_name(name: str) -> bool:
    return _BUCKET_NAME.fullmatch(name) is not None


def check_bucket_name(name: str) -> None:
    if not _is_bucket_name(name):
        raise Refused("InvalidBucketName", extras={"BucketName": name})


def check_names(call: Call) -> None:
    """Refuse bucket and object names that OSS does not allow."""
    if call.bucket:
        check_bucket_name(call.bucket)
    key = call.key
    if key and (key[0] in "/\\" or (len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES)):
        raise Refused("InvalidObjectName", extras={"BucketName": call.bucket, "ObjectName": key})
