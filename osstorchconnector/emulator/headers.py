"""OSS's own request headers: which of them each operation takes. Pure.

One that an operation does not take is refused: a callback that is never made, or a lock that is never taken, must not
look as if it had been.
"""

from __future__ import annotations

from functools import lru_cache

from .refusals import Refused, not_implemented

_ALWAYS = "x-oss-date x-oss-content-sha256 x-oss-security-token x-oss-request-payer x-oss-user-agent"
_OF_OBJECTS = """
    x-oss-storage-class x-oss-object-acl x-oss-tagging x-oss-forbid-overwrite x-oss-server-side-encryption
    x-oss-server-side-encryption-key-id x-oss-server-side-data-encryption
"""
_OF_SOURCES = """
    x-oss-copy-source x-oss-copy-source-if-match x-oss-copy-source-if-none-match x-oss-copy-source-if-modified-since
    x-oss-copy-source-if-unmodified-since
"""
_TAKEN = {
    "GetObject": "x-oss-range-behavior x-oss-traffic-limit",
    "HeadObject": "x-oss-range-behavior",
    "PutObject": f"{_OF_OBJECTS} x-oss-traffic-limit",
    "AppendObject": f"{_OF_OBJECTS} x-oss-traffic-limit",
    "CopyObject": f"{_OF_OBJECTS} {_OF_SOURCES} x-oss-metadata-directive x-oss-tagging-directive x-oss-traffic-limit",
    "InitiateMultipartUpload": _OF_OBJECTS,
    "UploadPart": "x-oss-traffic-limit",
    "UploadPartCopy": f"{_OF_SOURCES} x-oss-copy-source-range x-oss-traffic-limit",
    "CompleteMultipartUpload": "x-oss-complete-all x-oss-forbid-overwrite",
    "PutSymlink": f"{_OF_OBJECTS} x-oss-symlink-target",
    "PutObjectACL": "x-oss-object-acl",
    "PutBucket": "x-oss-acl",
    "PutBucketAcl": "x-oss-acl",
}
TAKEN = {operation: frozenset([*_ALWAYS.split(), *names.split()]) for operation, names in _TAKEN.items()}
TAKEN_ALWAYS = frozenset(_ALWAYS.split())
# Operations that keep user metadata (`x-oss-meta-...`).
_WITH_METADATA = frozenset({"PutObject", "AppendObject", "CopyObject", "InitiateMultipartUpload", "PutSymlink"})
# OSS has no conditional writes of this kind, and says so.
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


@lru_cache(maxsize=1024)
def unwanted(operation: str, method: str, names: tuple[str, ...]) -> str:
    """Return the first header that asks for what its operation does not do, or "". Pure, and cached."""
    taken = TAKEN.get(operation, TAKEN_ALWAYS)
    for name in names:
        if name in _CONDITIONS and method in ("PUT", "POST"):
            return name
        is_kept = name.startswith("x-oss-meta-") and operation in _WITH_METADATA
        if name.startswith("x-oss-") and name not in taken and not is_kept:
            return name
    return ""


def refusal_of(operation: str, name: str) -> Refused:
    """Return the refusal of a header that `unwanted` found."""
    if name in _CONDITIONS:
        message = "A header you provided implies functionality that is not implemented."
        return Refused("NotImplemented", message, status=400, extras={"Header": name})
    return not_implemented(name, f"{operation} does not take the header {name} in this emulator.")
