"""One OSS request in, one OSS answer out."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from email.utils import formatdate

from . import documents, listings, objects, rules, signature, uploads
from .messages import Account, OssRequest, Refusal, Reply
from .store import Store

Operation = Callable[[Store, OssRequest], Reply]

# Parameters that make a request another operation, as does every name that is in neither list. Those not in a table
# below are not served: nothing unknown becomes an operation without a sub-resource.
SUBRESOURCES = frozenset(
    """acl append bucketInfo cname comp cors delete encryption inventory lifecycle live location logging objectMeta
    policy qos referer replication restore stat style symlink tagging transferAcceleration uploadId uploads versionId
    versioning versions vod website worm x-oss-process x-oss-rename""".split()
)
PARAMETERS = frozenset(
    """list-type prefix delimiter marker max-keys encoding-type start-after continuation-token fetch-owner key-marker
    upload-id-marker max-uploads part-number-marker max-parts partNumber position response-content-type
    response-content-language response-expires response-cache-control response-content-disposition
    response-content-encoding OSSAccessKeyId Expires Signature security-token x-oss-signature-version x-oss-credential
    x-oss-date x-oss-expires x-oss-security-token x-oss-additional-headers x-oss-signature""".split()
)
BUCKET_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "uploads"): listings.list_uploads,
    ("POST", "delete"): objects.delete_objects,
}
OBJECT_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", ""): objects.get_object,
    ("HEAD", ""): objects.head_object,
    ("HEAD", "objectMeta"): objects.head_object,
    ("PUT", ""): objects.put_object,
    ("DELETE", ""): objects.delete_object,
    ("POST", "append"): objects.append_object,
    ("POST", "uploads"): uploads.create_upload,
    ("PUT", "uploadId"): uploads.upload_part,
    ("POST", "uploadId"): uploads.complete_upload,
    ("DELETE", "uploadId"): uploads.abort_upload,
    ("GET", "uploadId"): uploads.list_parts,
}


class Facade:
    """The service: accounts of one region over one store."""

    def __init__(self, accounts: Iterable[Account], region: str, clock: Callable[[], float] = time.time) -> None:
        self._accounts, self._region, self._clock = tuple(accounts), region, clock
        self._store = Store()
        self._lock = threading.Lock()

    def answer(self, request: OssRequest) -> Reply:
        """Return the answer to a request, also where that is an error; never raises a `Refusal`."""
        request_id = uuid.uuid4().hex[:24].upper()
        try:
            signature.check(request, self._accounts, self._region, self._clock())
            rules.check_names(request)
            with self._lock:
                reply = self._perform(request)
        except Refusal as refusal:
            reply = refused(refusal, request, request_id)
        reply.headers = {
            "server": "AliyunOSS",
            "date": formatdate(self._clock(), usegmt=True),
            "x-oss-request-id": request_id,
            "x-oss-server-time": "1",
            **reply.headers,
        }
        return reply

    def _perform(self, request: OssRequest) -> Reply:
        if not request.bucket:
            return self._service(request)
        if not request.key:
            return self._bucket(request)
        self._store.require_bucket(request.bucket)
        if request.method == "PUT" and "x-oss-copy-source" in request.headers:
            copy = uploads.upload_part_copy if "uploadId" in request.query else objects.copy_object
            return copy(self._store, request)
        return operation_of(request, OBJECT_OPERATIONS)(self._store, request)

    def _service(self, request: OssRequest) -> Reply:
        if request.method != "GET":
            raise Refusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        return listings.list_buckets(self._store, request, self._region)

    def _bucket(self, request: OssRequest) -> Reply:
        if request.method == "PUT" and not subresource_of(request):
            self._store.moto.call("PUT", request.bucket)
            return Reply(200, {"location": f"/{request.bucket}"})
        self._store.require_bucket(request.bucket)
        if request.method == "DELETE" and not subresource_of(request):
            self._store.moto.call("DELETE", request.bucket)
            return Reply(204)
        if request.method == "GET" and not subresource_of(request):
            is_v2 = request.query.get("list-type") == "2"
            return (listings.list_objects_v2 if is_v2 else listings.list_objects_v1)(self._store, request)
        return operation_of(request, BUCKET_OPERATIONS)(self._store, request)


def subresource_of(request: OssRequest) -> str:
    """Return the parameter that says which operation this is, or ""."""
    known = (name for name in sorted(request.query) if name in SUBRESOURCES)
    return next(known, "") or next((name for name in request.query if name not in PARAMETERS), "")


def operation_of(request: OssRequest, table: dict[tuple[str, str], Operation]) -> Operation:
    subresource = subresource_of(request)
    if (request.method, subresource) in table:
        return table[request.method, subresource]
    if subresource:
        raise Refusal(501, "NotImplemented", f"the oracle does not know {request.method} ?{subresource}")
    raise Refusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")


def refused(refusal: Refusal, request: OssRequest, request_id: str) -> Reply:
    """Return an error's answer: for HEAD the document goes into a header, for 304 nowhere."""
    document = documents.render_error(refusal, request_id=request_id, host=request.headers.get("host", ""))
    headers = {"x-oss-ec": documents.error_number(refusal), **refusal.headers}
    if refusal.status == 304:
        return Reply(304, headers)
    headers["content-type"] = "application/xml"
    if request.method == "HEAD":
        return Reply(refusal.status, {**headers, "x-oss-err": base64.b64encode(document).decode()}, length=0)
    return Reply(refusal.status, headers, document)
