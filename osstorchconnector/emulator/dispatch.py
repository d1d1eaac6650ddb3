"""From a call to the operation it asks for: admitted before its body arrives, performed when it is there.

What an operation does stands in `operations/`, a module a family; each function gets the service, the call and the
received body, and returns a reply or raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable

from .auth import PUBLIC_READS, Rules, authenticate, is_signed
from .exchange import Call, Reply
from .intake import NOTHING, BlobIntake, DocumentIntake, Intake, Received
from .operations import buckets, copying, listing, multipart, objects
from .refusals import Refused
from .routing import Place, check_names, why_not
from .service import MAX_BODY_BYTES, Service

Operation = Callable[[Service, Call, Received], Reply]

OPERATIONS: dict[str, Operation] = {
    **buckets.OPERATIONS,
    **copying.OPERATIONS,
    **listing.OPERATIONS,
    **multipart.OPERATIONS,
    **objects.OPERATIONS,
}
_TAKES_OBJECT = frozenset({"PutObject", "UploadPart", "AppendObject"})
_NEEDS_LENGTH = _TAKES_OBJECT | {"DeleteMultipleObjects"}


def admit(service: Service, call: Call) -> None:
    """Refuse a call before its body: an unknown operation, a bad name, no right, no length or too much."""
    if not call.operation:
        raise why_not(call.method, Place(call.bucket, call.key), call.query)
    check_names(call)
    _check_right(service, call)
    if call.operation in _NEEDS_LENGTH:
        if "content-length" not in call.headers and not call.chunked:
            raise Refused("MissingContentLength")
        if (call.content_length or 0) > MAX_BODY_BYTES:
            raise Refused("EntityTooLarge")


def open_intake(service: Service, call: Call) -> Intake:
    """Return where the body of an admitted call goes."""
    if (
        not call.content_length
        and not call.chunked
        and call.operation not in _TAKES_OBJECT
        and "content-md5" not in call.headers
    ):
        return NOTHING
    content_md5 = call.headers.get("content-md5")
    if call.operation not in _TAKES_OBJECT:
        return DocumentIntake(content_md5)
    is_kept = not service.policy.discard_bodies or (call.content_length or 0) <= service.policy.keep_up_to_bytes
    return BlobIntake(
        service.blobs if is_kept else None,
        with_md5=not service.policy.fast_etag,
        content_md5=content_md5,
        limit_bytes=MAX_BODY_BYTES,
    )


def perform(service: Service, call: Call, received: Received) -> Reply:
    """Do what an admitted call asks for; content that nothing refers to afterwards is given back."""
    if not received.content:
        return OPERATIONS[call.operation](service, call, received)
    service.blobs.retain(received.content)
    try:
        return OPERATIONS[call.operation](service, call, received)
    finally:
        service.blobs.release(received.content)


def _check_right(service: Service, call: Call) -> None:
    if call.operation in PUBLIC_READS and not is_signed(call) and _is_public(service, call.bucket):
        return
    versions = ("v1", "v4") if service.policy.accept_v1 else ("v4",)
    authenticate(call, service.keyring, Rules(service.policy.region, versions), service.now())


def _is_public(service: Service, name: str) -> bool:
    bucket = service.storage.buckets.get(name)
    return bucket is not None and bucket.acl.startswith("public-read")
