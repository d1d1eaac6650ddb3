"""One request from its head to the steps of its answer: understood, admitted, performed, disturbed by faults, counted.

A connection gives `OssWork` the head and the body of a request and gets the steps to send. What each operation does is
in `operations/`, one module per family: a function of the service, the call and the received body that returns a reply
or raises `Refused`. A request is admitted or refused before its body arrives.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from ..protocol.heads import RequestHead, http_date
from .auth import PUBLIC_READS, PUBLIC_WRITES, authenticate, is_signed, rules_of
from .blobs import Content
from .counters import Recorder
from .effects import Effect
from .exchange import Call, Received, Reply
from .faults import FaultBook, names_of
from .intake import NOTHING, BlobIntake, DocumentIntake, Intake
from .interface import header_refusal, unwanted_header
from .operations import OPERATIONS
from .operations.arguments import TRAFFIC_LIMIT, traffic_limit
from .operations.posting import FormIntake
from .records import DEFAULT_ACL
from .refusals import Refused
from .routing import Hosts, Resource, check_names, decode_query, name_operation, why_not
from .service import MAX_BODY_BYTES, Service
from .wire import (
    Early,
    Hangup,
    Pause,
    Step,
    body_steps,
    common_headers,
    encode_reply_head,
    error_reply,
    in_small_pieces,
)

_TAKES_OBJECT = frozenset({"PutObject", "UploadPart", "AppendObject"})
_MAKES_BUCKET = frozenset({"PutBucket", "PutBucketAcl"})
_NEEDS_LENGTH = _TAKES_OBJECT | {"DeleteMultipleObjects", "PostObject"}

# A request with a traffic limit sends its share this often.
PACE_SECONDS = 0.1

_logger = logging.getLogger(__name__)


class Frontend:
    """The service with host names, faults and counters around it."""

    def __init__(self, service: Service, hosts: Hosts | None = None) -> None:
        self.service = service
        self.hosts = hosts or Hosts()
        self.faults = FaultBook()
        self.recorder = Recorder()
        self._id_prefix = os.urandom(6).hex().upper()
        self._last_id = 0
        self._date: tuple[int, str] = (0, "")

    def begin(self, head: RequestHead) -> OssWork:
        """Return the work for a request whose head has arrived."""
        return OssWork(self, head)

    def next_request_id(self) -> str:
        """Return a new request id: 24 hex digits."""
        self._last_id += 1
        return f"{self._id_prefix}{self._last_id:012X}"

    def date(self) -> str:
        """The server's time in the format of `Date`."""
        now = int(self.service.now())
        if self._date[0] != now:
            self._date = (now, http_date(now))
        return self._date[1]


class OssWork:
    """One OSS request, from its head to the last byte of its answer (see `connection.Work`)."""

    __slots__ = (
        "_began",
        "_call",
        "_effects",
        "_frontend",
        "_head",
        "_head_size",
        "_held",
        "_intake",
        "_is_taken",
        "_pace",
        "_past",
        "_received",
        "_refused",
        "_request_id",
        "_since",
        "_status",
    )

    def __init__(self, frontend: Frontend, head: RequestHead) -> None:
        self._frontend, self._head = frontend, head
        self._began = time.perf_counter()
        self._refused: Refused | None = None
        self._intake: Intake = NOTHING
        self._is_taken = False
        self._received = self._head_size = self._status = self._pace = 0
        self._request_id = frontend.next_request_id()
        self._held: Content = ()
        self._past: list[Effect] = []
        self._call = self._understand()
        self._effects: Sequence[Effect] = frontend.faults.draw(self._call)
        fault = names_of(self._effects) if self._effects else ""
        self._since = frontend.recorder.begun(self._call.operation, fault)
        self._admit()
        for effect in self._effects:
            effect.rewrite(self._call)

    def receive(self, data: memoryview) -> Pause | Hangup | Early | None:
        for effect in self._effects:
            data = _flipped(data, effect.flipped_at, self._received)
        self._received += len(data)
        if self._refused is None:
            try:
                self._intake.write(data)
            except (Refused, OSError) as error:
                self.refuse(_as_refused(error))
        wanted = self._interruption() if self._effects else None
        return Pause(len(data) / self._pace) if self._pace and wanted is None else wanted

    def _interruption(self) -> Pause | Hangup | Early | None:
        """Return what a fault does at this point of the body: each fault once, except a drip, which repeats."""
        for effect in self._effects:
            if effect.during_body is not None and self._received >= effect.during_body[0]:
                if effect in self._past:
                    continue
                self._past.append(effect)
                return effect.during_body[1]
        return next((Pause(effect.read_seconds) for effect in self._effects if effect.read_seconds), None)

    def refuse(self, refused: Refused) -> None:
        self._refused = self._refused or refused
        self._let_go_of_intake()

    def answer(self) -> Iterable[Step]:
        frontend, call = self._frontend, self._call
        result = self._result()
        if isinstance(result, Hangup):
            return (result,)
        for effect in self._effects:
            result = effect.reshape(call, result)
        self._status = result.status
        common = common_headers(
            date=frontend.date(),
            server_time_ms=int((time.perf_counter() - self._began) * 1000),
            request_id=self._request_id,
            keep_alive=self._head.keep_alive,
        )
        head = encode_reply_head(result, common)
        self._head_size = len(head)
        body = [] if call.method == "HEAD" else body_steps(result.body, frontend.service.blobs)
        if self._pace:
            pieces = in_small_pieces(body, max(int(self._pace * PACE_SECONDS), 1), PACE_SECONDS)
            self._hold(result)
            return self._disturbed(chain((head,), pieces))
        if not self._effects and len(body) == 1 and isinstance(body[0], bytes):
            return (head + body[0],)
        self._hold(result)
        return self._disturbed([head, *body])

    def _disturbed(self, steps: Iterable[Step]) -> Iterable[Step]:
        service = self._frontend.service
        for effect in sorted(self._effects, key=lambda effect: effect.is_endless):
            steps = effect.disturb(steps, service.blobs)
        for effect in self._effects:
            effect.afterwards(service, self._call)
        return steps

    def ended(self, sent: int) -> None:
        self._let_go_of_intake()
        self._frontend.service.blobs.release(self._held)
        self._held = ()
        self._frontend.recorder.ended(
            self._call,
            self._since,
            status=self._status if sent else 0,
            code=self._refused.code if self._refused is not None else "",
            fault=names_of(self._effects) if self._effects else "",
            received=self._received,
            sent=max(sent - self._head_size, 0),
        )

    def _understand(self) -> Call:
        """Return the call that the head means; an invalid path is refused later, with the others."""
        head = self._head
        query = decode_query(head.query) if head.query else []
        try:
            resource = self._frontend.hosts.resource(head.headers.get("host", ""), head.path)
        except Refused as refused:
            self._refused, resource = refused, Resource("", "")
        operation = name_operation(head.method, resource, query, head.headers)
        bucket, key = resource
        framing = (head.content_length, head.chunked)
        return Call(operation, head.method, bucket, key, query, head.headers, *framing, head.common)

    def _admit(self) -> None:
        if self._refused is not None:
            return
        try:
            _admit(self._frontend.service, self._call)
            if self._call.query or TRAFFIC_LIMIT in self._call.headers:
                self._pace = traffic_limit(self._call)
            self._intake = _open_intake(self._frontend.service, self._call)
        except (Refused, OSError) as error:
            self._refused = _as_refused(error)

    def _result(self) -> Reply | Hangup:
        """Perform the call, unless a fault prevents it, and return the answer."""
        reply: Reply | Hangup | Refused | None = self._struck() if self._effects else self._perform()
        self._let_go_of_intake()
        if isinstance(reply, Refused):
            self._refused = reply
            host = self._call.headers.get("host", "")
            return error_reply(reply, method=self._call.method, request_id=self._request_id, host=host)
        assert reply is not None
        return reply

    def _struck(self) -> Reply | Hangup | Refused | None:
        """Return the result of a call that has faults."""
        instead = [effect for effect in self._effects if effect.instead is not None]
        result = self._perform() if all(effect.after_work for effect in instead) else None
        if not instead:
            return result
        first = instead[0].instead
        return replace(first, headers=dict(first.headers)) if isinstance(first, Reply) else first

    def _perform(self) -> Reply | Refused:
        if self._refused is not None:
            return self._refused
        try:
            self._is_taken = True
            return _perform(self._frontend.service, self._call, self._intake.finish())
        except Refused as refused:
            return refused
        except Exception as error:
            _logger.exception("%s failed", self._call.operation)
            return Refused("InternalError", f"{type(error).__name__}: {error}")

    def _hold(self, reply: Reply) -> None:
        """Keep the blobs of an answer until it is sent, even if the object is deleted meanwhile."""
        if not isinstance(reply.body, bytes):
            self._held = reply.body
            self._frontend.service.blobs.retain(self._held)

    def _let_go_of_intake(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            self._intake.abandon()


def _as_refused(error: Refused | OSError) -> Refused:
    return error if isinstance(error, Refused) else Refused("InternalError", str(error))


def _admit(service: Service, call: Call) -> None:
    """Refuse a call before its body arrives: unknown operation, invalid name, no permission, no length, too long."""
    if not call.operation:
        raise why_not(call.method, Resource(call.bucket, call.key), call.query)
    check_names(call)
    if call.bucket and call.bucket not in service.storage.buckets and call.operation not in _MAKES_BUCKET:
        service.bucket(call.bucket)
    if call.operation != "PostObject":  # a form's signature is in its body
        _check_right(service, call)
    if name := unwanted_header(call.operation, call.method, tuple(call.headers)):
        raise header_refusal(call.operation, name)
    if call.operation in _NEEDS_LENGTH:
        if "content-length" not in call.headers and not call.chunked:
            raise Refused("MissingContentLength")
        if (call.content_length or 0) > MAX_BODY_BYTES:
            raise Refused("EntityTooLarge")


def _open_intake(service: Service, call: Call) -> Intake:
    """Return the intake for the body of an admitted call."""
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


def _perform(service: Service, call: Call, received: Received) -> Reply:
    """Perform an admitted call. Received content that no record refers to afterwards is deleted."""
    if not received.content:
        return OPERATIONS[call.operation](service, call, received)
    service.blobs.retain(received.content)
    try:
        return OPERATIONS[call.operation](service, call, received)
    finally:
        service.blobs.release(received.content)


def _check_right(service: Service, call: Call) -> None:
    """Refuse a call without permission. An unsigned request needs a public ACL."""
    if "authorization" not in call.headers and not is_signed(call):
        if call.operation in PUBLIC_READS and _acls(service, call) <= {"public-read", "public-read-write"}:
            return
        if call.operation in PUBLIC_WRITES and _acls(service, call) == {"public-read-write"}:
            return
    authenticate(call, service.keyring, rules_of(service.policy.region, service.policy.accept_v1), service.now())


def _acls(service: Service, call: Call) -> set[str]:
    """Return the ACLs that apply to the call: the object's or its bucket's, and for a symlink also its target's."""
    bucket = service.bucket(call.bucket)
    record = bucket.objects.get(call.key)
    target = bucket.objects.get(record.traits.target) if record is not None and record.traits.target else None
    own = {found.traits.acl for found in (record, target) if found is not None} or {DEFAULT_ACL}
    return {bucket.acl if acl == DEFAULT_ACL else acl for acl in own}


def _flipped(data: memoryview, at: int | None, position: int) -> memoryview:
    """Return `data`, which is at `position` of its body, with the body's byte `at` changed, if `data` contains it."""
    if at is None or not position <= at < position + len(data):
        return data
    changed = bytearray(data)
    changed[at - position] ^= 1
    return memoryview(changed)
