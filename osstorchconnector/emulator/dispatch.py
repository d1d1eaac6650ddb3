"""From a call to the operation it asks for: admitted before its body arrives, performed when it is there.

What an operation does stands in `operations/`, a module a family; each function gets the service, the call and the
received body, and returns a reply or raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from .auth import PUBLIC_READS, PUBLIC_WRITES, Rules, authenticate, is_signed
from .exchange import Call, Reply
from .forms import FormIntake
from .headers import refusal_of, unwanted
from .intake import NOTHING, BlobIntake, DocumentIntake, Intake, Received
from .operations import (
    attributes,
    buckets,
    copying,
    listing,
    multipart,
    objects,
    posting,
    restoring,
)
from .records import DEFAULT_ACL
from .refusals import Refused
from .routing import Place, check_names, why_not
from .service import MAX_BODY_BYTES, Service

Operation = Callable[[Service, Call, Received], Reply]

OPERATIONS: dict[str, Operation] = {
    **attributes.OPERATIONS,
    **buckets.OPERATIONS,
    **copying.OPERATIONS,
    **listing.OPERATIONS,
    **multipart.OPERATIONS,
    **objects.OPERATIONS,
    **posting.OPERATIONS,
    **restoring.OPERATIONS,
}
_TAKES_OBJECT = frozenset({"PutObject", "UploadPart", "AppendObject"})
_MAKES_BUCKET = frozenset({"PutBucket", "PutBucketAcl"})
_NEEDS_LENGTH = _TAKES_OBJECT | {"DeleteMultipleObjects", "PostObject"}


def admit(service: Service, call: Call) -> None:
    """Refuse a call before its body: an unknown operation, a bad name, no right, no length or too much."""
    if not call.operation:
        raise why_not(call.method, Place(call.bucket, call.key), call.query)
    check_names(call)
    if call.bucket and call.bucket not in service.storage.buckets and call.operation not in _MAKES_BUCKET:
        service.bucket(call.bucket)
    if call.operation != "PostObject":  # what allows a form is in its body
        _check_right(service, call)
    if name := unwanted(call.operation, call.method, tuple(call.headers)):
        raise refusal_of(call.operation, name)
    if call.operation in _NEEDS_LENGTH:
        if "content-length" not in call.headers and not call.chunked:
            raise Refused("MissingContentLength")
        if (call.content_length or 0) > MAX_BODY_BYTES:
            raise Refused("EntityTooLarge")


def open_intake(service: Service, call: Call) -> Intake:
    """Return where the body of an admitted call goes."""
    if call.operation in _TAKES_OBJECT:
        return _open_blob(service, call, call.headers)
    if call.operation == "PostObject":
        return FormIntake(call.headers.get("content-type", ""), partial(_open_blob, service, call))
    content_md5 = call.headers.get("content-md5")
    if not call.content_length and not call.chunked and content_md5 is None:
        return NOTHING
    return DocumentIntake(content_md5)


def _open_blob(service: Service, call: Call, headers: Mapping[str, str]) -> BlobIntake:
    is_kept = not service.policy.discard_bodies or (call.content_length or 0) <= service.policy.keep_up_to_bytes
    return BlobIntake(
        service.blobs if is_kept else None,
        with_md5=not service.policy.fast_etag,
        content_md5=headers.get("content-md5"),
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
    """Refuse a caller without the right. An unsigned request needs an ACL that allows everybody."""
    if not is_signed(call):
        if call.operation in PUBLIC_READS and _acls(service, call) <= {"public-read", "public-read-write"}:
            return
        if call.operation in PUBLIC_WRITES and _acls(service, call) == {"public-read-write"}:
            return
    versions = ("v1", "v4") if service.policy.accept_v1 else ("v4",)
    authenticate(call, service.keyring, Rules(service.policy.region, versions), service.now())


def _acls(service: Service, call: Call) -> set[str]:
    """Return the ACLs that hold for what a call names: the object's own or its bucket's, for a symlink two."""
    bucket = service.bucket(call.bucket)
    record = bucket.objects.get(call.key)
    target = bucket.objects.get(record.traits.target) if record is not None and record.traits.target else None
    own = {found.traits.acl for found in (record, target) if found is not None} or {DEFAULT_ACL}
    return {bucket.acl if acl == DEFAULT_ACL else acl for acl in own}
