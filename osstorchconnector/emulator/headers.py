"""OSS's own request headers: which of them this server knows. Pure.

One that it does not know is refused: a callback that is never made, or a lock that is never taken, must not look as if
it had been. One that it knows and that says nothing to an operation is passed over, as OSS does: SDKs send the headers
of an object with each of its parts.
"""

from __future__ import annotations

from functools import lru_cache

from .refusals import Refused, not_implemented

KNOWN = frozenset(
    """
    x-oss-date x-oss-content-sha256 x-oss-security-token x-oss-request-payer x-oss-user-agent x-oss-acl x-oss-object-acl
    x-oss-storage-class x-oss-tagging x-oss-forbid-overwrite x-oss-server-side-encryption
    x-oss-server-side-encryption-key-id x-oss-server-side-data-encryption x-oss-traffic-limit x-oss-range-behavior
    x-oss-copy-source x-oss-copy-source-range x-oss-copy-source-if-match x-oss-copy-source-if-none-match
    x-oss-copy-source-if-modified-since x-oss-copy-source-if-unmodified-since x-oss-metadata-directive
    x-oss-tagging-directive x-oss-complete-all x-oss-symlink-target
    """.split()
)
# What may stand behind these is open: ali-oss sends every header of a copy a second time behind the latter.
_FREE = ("x-oss-meta-", "x-oss-copy-source-")
# Of these, what asks for something else where an object is not meant: to encrypt all that a bucket will hold.
_NOT_OF_BUCKETS = frozenset({"x-oss-server-side-encryption", "x-oss-server-side-data-encryption"})
# OSS has no conditional writes of this kind, and says so. With a copy it passes over them.
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


@lru_cache(maxsize=1024)
def unwanted(operation: str, method: str, names: tuple[str, ...]) -> str:
    """Return the first header that asks for what an operation does not do, or "". Pure, and cached."""
    is_copy = "x-oss-copy-source" in names
    for name in names:
        if name in _CONDITIONS and method in ("PUT", "POST") and not is_copy:
            return name
        if name.startswith("x-oss-") and name not in KNOWN and not name.startswith(_FREE):
            return name
        if name in _NOT_OF_BUCKETS and operation == "PutBucket":
            return name
    return ""


def refusal_of(operation: str, name: str) -> Refused:
    """Return the refusal of a header that `unwanted` found."""
    if name in _CONDITIONS:
        message = "A header you provided implies functionality that is not implemented."
        return Refused("NotImplemented", message, status=400, extras={"Header": name})
    return not_implemented(name, f"{operation} does not take the header {name} in this emulator.")
