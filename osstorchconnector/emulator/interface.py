"""What this server understands: the routes of its operations, the headers it knows, and which features of OSS it lacks.

It refuses everything else. An unknown query name may be a sub-resource on OSS, which makes the request another one: a
server that does not know `acl` must not empty the object on `PUT key?acl`. An unknown header may be a callback or a
lock, and the client must not believe that it was made or taken. A known header that means nothing to an operation is
ignored, as OSS does: SDKs send the headers of an object with each of its parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from .refusals import Refused, not_implemented


class OperationRoute(NamedTuple):
    """How a request asks for an operation: with the query name `mark`, if it has one, and optionally with `names`."""

    operation: str
    mark: str
    names: frozenset[str]


# Kinds of resources.
SERVICE, BUCKET, OBJECT = "service", "bucket", "object"

# Parameters of presigned URLs.
_SIGNATURE = """
    OSSAccessKeyId Expires Signature security-token x-oss-signature-version x-oss-credential x-oss-date x-oss-expires
    x-oss-security-token x-oss-additional-headers x-oss-signature x-oss-request-payer
"""
_LISTING = """
    list-type prefix delimiter marker max-keys encoding-type start-after continuation-token fetch-owner
"""
_OVERRIDES = """
    response-content-type response-content-language response-expires response-cache-control
    response-content-disposition response-content-encoding
"""


def _route(operation: str, mark: str = "", names: str = "") -> OperationRoute:
    return OperationRoute(operation, mark, frozenset([*names.split(), *_SIGNATURE.split(), *mark.split()]))


# A request is for the first route whose mark is among its query names. The route without a mark comes last.
ROUTES: Mapping[tuple[str, str], tuple[OperationRoute, ...]] = MappingProxyType(
    {
        ("GET", SERVICE): (_route("ListBuckets", "", "prefix marker max-keys"),),
        ("GET", BUCKET): (
            _route("GetBucketInfo", "bucketInfo"),
            _route("GetBucketLocation", "location"),
            _route("GetBucketAcl", "acl"),
            _route("GetBucketStat", "stat"),
            _route(
                "ListMultipartUploads",
                "uploads",
                "prefix delimiter max-uploads key-marker upload-id-marker encoding-type",
            ),
            _route("ListObjects", "", _LISTING),
        ),
        ("PUT", BUCKET): (_route("PutBucketAcl", "acl"), _route("PutBucket")),
        ("POST", BUCKET): (_route("DeleteMultipleObjects", "delete", "encoding-type"), _route("PostObject")),
        ("DELETE", BUCKET): (_route("DeleteBucket"),),
        ("GET", OBJECT): (
            _route("ListParts", "uploadId", "max-parts part-number-marker encoding-type"),
            _route("GetObjectACL", "acl"),
            _route("GetObjectTagging", "tagging"),
            _route("GetSymlink", "symlink"),
            _route("GetObject", "", f"{_OVERRIDES} x-oss-traffic-limit"),
        ),
        ("HEAD", OBJECT): (_route("GetObjectMeta", "objectMeta"), _route("HeadObject")),
        ("PUT", OBJECT): (
            _route("UploadPart", "uploadId", "partNumber x-oss-traffic-limit"),
            _route("PutObjectACL", "acl"),
            _route("PutObjectTagging", "tagging"),
            _route("PutSymlink", "symlink"),
            _route("PutObject", "", "x-oss-traffic-limit"),
        ),
        ("POST", OBJECT): (
            _route("AppendObject", "append", "position x-oss-traffic-limit"),
            _route("InitiateMultipartUpload", "uploads", "encoding-type"),
            _route("CompleteMultipartUpload", "uploadId", "encoding-type"),
            _route("RestoreObject", "restore"),
        ),
        ("DELETE", OBJECT): (
            _route("AbortMultipartUpload", "uploadId"),
            _route("DeleteObjectTagging", "tagging"),
            _route("DeleteObject"),
        ),
    }
)
# With a copy source in its headers a write is another operation.
COPIES: Mapping[str, str] = MappingProxyType({"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"})
# The names of all operations.
OPERATIONS = frozenset(
    ["ListObjectsV2", *COPIES.values(), *(route.operation for routes in ROUTES.values() for route in routes)]
)

# What OSS has and this server does not, with the query names that ask for it.
MISSING: Mapping[str, str] = MappingProxyType(
    {
        "versions of objects": "versionId versioning versions",
        "lifecycle rules": "lifecycle",
        "cross-origin and referer rules": "cors referer",
        "websites and custom domains": "website cname comp httpsConfig",
        "policies, access points and access by address": "accessPoint accessPointPolicy accessPointForObjectProcess "
        "accessPointConfigForObjectProcess accessPointPolicyForObjectProcess policy policyStatus publicAccessBlock "
        "x-oss-access-point-name x-oss-ac-forward-allow x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id "
        "x-oss-write-get-object-response",
        "default encryption of buckets": "encryption",
        "logging, inventories and indexes": "logging userDefinedLogFieldsConfig inventory inventoryId metaQuery",
        "replication and acceleration": "replication replicationLocation replicationProgress rtc "
        "transferAcceleration dataAccelerator redundancyTransition x-oss-redundancy-transition-taskid "
        "x-oss-target-redundancy-type",
        "retention": "worm wormId wormExtend legalHold objectRetention objectWorm overwriteConfig seal "
        "cleanRestoredObject bucketArchiveDirectRead",
        "payment, quotas and resource groups": "requestPayment qos qosInfo qosRequester requesterQosInfo resourceGroup "
        "resourcePool resourcePoolInfo resourcePoolBuckets resourcePoolBucketGroup group",
        "processing of images, documents and videos": "x-oss-process x-oss-async-process asyncFetch style styleName "
        "processConfiguration img",
        "live channels": "live vod status endTime startTime",
        "callbacks": "callback callback-var",
        "regions and cloud boxes": "regions regionList cloudboxes",
        "renaming and other forms of writing": "x-oss-rename x-oss-select sequential link objectInfo",
        "directories": "x-oss-dir x-oss-delete-recursive",
    }
)
_FEATURES = {name: feature for feature, names in MISSING.items() for name in names.split()}
# OSS ignores custom parameters, such as `?v=3` against caches. This server does so for these operations, which read.
_IGNORE_CUSTOM_NAMES = frozenset({"GetObject", "HeadObject"})


def find_route(method: str, kind: str, names: Collection[str]) -> OperationRoute | None:
    """Return the route of a request with these query names, whether or not it takes all of them."""
    for route in ROUTES.get((method, kind), ()):
        if not route.mark or route.mark in names:
            return route
    return None


def stranger(route: OperationRoute, query: Mapping[str, str]) -> str | None:
    """Return the first query name that the route does not take, or `None`. The name may be empty: `?=1`."""
    strangers = [name for name in query if name not in route.names]
    if route.operation in _IGNORE_CUSTOM_NAMES:
        strangers = [name for name in strangers if not query[name] or name.startswith("x-oss-") or name in _FEATURES]
    return strangers[0] if strangers else None


def feature_of(name: str) -> str:
    """Return the feature of OSS that a query name asks for, or "" if the name is unknown."""
    return _FEATURES.get(name, "")


KNOWN_HEADERS = frozenset(
    """
    x-oss-date x-oss-content-sha256 x-oss-security-token x-oss-request-payer x-oss-user-agent x-oss-acl x-oss-object-acl
    x-oss-storage-class x-oss-tagging x-oss-forbid-overwrite x-oss-server-side-encryption
    x-oss-server-side-encryption-key-id x-oss-server-side-data-encryption x-oss-traffic-limit x-oss-range-behavior
    x-oss-copy-source x-oss-copy-source-range x-oss-copy-source-if-match x-oss-copy-source-if-none-match
    x-oss-copy-source-if-modified-since x-oss-copy-source-if-unmodified-since x-oss-metadata-directive
    x-oss-tagging-directive x-oss-complete-all x-oss-symlink-target
    """.split()
)
# Any name with one of these prefixes is known. ali-oss sends every header of a copy again with the second prefix.
_FREE = ("x-oss-meta-", "x-oss-copy-source-")
# In PutBucket these would mean that the bucket encrypts all its objects.
_NOT_OF_BUCKETS = frozenset({"x-oss-server-side-encryption", "x-oss-server-side-data-encryption"})
# OSS refuses conditional writes. It ignores these headers in a copy.
CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


@lru_cache(maxsize=1024)
def unwanted_header(operation: str, method: str, names: tuple[str, ...]) -> str:
    """Return the first header that asks for something that the operation does not do, or ""."""
    is_copy = "x-oss-copy-source" in names
    for name in names:
        if name in CONDITIONS and method in ("PUT", "POST") and not is_copy:
            return name
        if name.startswith("x-oss-") and name not in KNOWN_HEADERS and not name.startswith(_FREE):
            return name
        if name in _NOT_OF_BUCKETS and operation == "PutBucket":
            return name
    return ""


def header_refusal(operation: str, name: str) -> Refused:
    """Return the refusal of a header that `unwanted_header` returned."""
    if name in CONDITIONS:
        message = "A header you provided implies functionality that is not implemented."
        return Refused("NotImplemented", message, status=400, extras={"Header": name})
    return not_implemented(name, f"{operation} does not take the header {name} in this emulator.")
