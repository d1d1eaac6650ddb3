"""Control requests, under `/-/`: faults, network, counters, credentials, the clock, and direct access to objects.

They are not OSS requests: they are not signed, not counted and never faulty. They carry the server's control token. A
server without a token refuses them all.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..credentials import Credentials
from ..protocol.heads import RequestHead
from .auth import Keyring
from .exchange import Received, Reply
from .faults import Rule
from .frontend import Frontend
from .intake import BlobIntake, DocumentIntake, Drain, Intake
from .network import Network
from .records import ObjectRecord
from .refusals import Refused
from .routing import decode_query
from .service import MAX_BODY_BYTES
from .storage import Bucket
from .wire import Early, Hangup, Pause, Step, body_steps, encode_reply_head

PREFIX = "/-/"
TOKEN_HEADER = "x-emulator-token"

Query = Mapping[str, str]


def encode_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as values for JSON: bytes become base64."""
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes | bytearray) else value
        for name, value in options.items()
    }


def decode_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `encode_data`."""
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) and set(value) == {"base64"} else value
        for name, value in options.items()
    }


class Control:
    """Answers control requests for one server."""

    def __init__(
        self,
        frontend: Frontend,
        token: str,
        *,
        end_stalls: Callable[[], None],
        network: Network | None,
        set_network: Callable[[Network | None], None],
    ) -> None:
        self._frontend, self._token, self._end_stalls = frontend, token, end_stalls
        self._first_network, self._set_network = network, set_network
        self._first_policy, self._first_identities = frontend.service.policy, frontend.service.keyring.all()
        self._actions: dict[tuple[str, str], Callable[[Query, Received], Reply]] = {
            ("GET", "counters"): self._get_counters,
            ("DELETE", "counters"): self._reset_counters,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("PUT", "network"): self._change_network,
            ("PUT", "credentials"): self._add_credentials,
            ("DELETE", "credentials"): self._remove_credentials,
            ("PUT", "clock"): self._set_clock,
            ("PUT", "policy"): self._set_policy,
            ("DELETE", "changes"): self._reset,
            ("PUT", "bucket"): self._create_bucket,
            ("DELETE", "bucket"): self._remove_bucket,
            ("GET", "keys"): self._get_keys,
            ("GET", "uploads"): self._get_uploads,
            ("PUT", "object"): self._put_object,
            ("GET", "object"): self._get_object,
            ("DELETE", "object"): self._delete_object,
            ("POST", "fill"): self._fill,
        }

    def begin(self, head: RequestHead) -> ControlWork:
        """Return the work for a request below `PREFIX`."""
        is_allowed = bool(self._token) and hmac.compare_digest(
            head.headers.get(TOKEN_HEADER, "").encode(), self._token.encode()
        )
        name = head.path.removeprefix(PREFIX)
        action = self._actions.get((head.method, name)) if is_allowed else None
        return ControlWork(self._frontend, head, action, self._intake_for(name) if action else Drain())

    def _intake_for(self, name: str) -> Intake:
        if name != "object":
            return DocumentIntake(None)
        service = self._frontend.service
        with_md5 = not service.policy.fast_etag
        return BlobIntake(service.blobs, with_md5=with_md5, content_md5=None, limit_bytes=MAX_BODY_BYTES)

    # --- the actions

    def _get_counters(self, query: Query, _received: Received) -> Reply:
        return _json_reply(self._frontend.recorder.snapshot(with_log=query.get("log") != "no").dump())

    def _reset_counters(self, _query: Query, _received: Received) -> Reply:
        self._frontend.recorder.reset()
        return Reply()

    def _add_fault(self, _query: Query, received: Received) -> Reply:
        rule = json.loads(received.data)
        rule["options"] = decode_data(rule.get("options", {}))
        if rule.get("script") is not None:
            rule["script"] = [decode_data(entry) if isinstance(entry, dict) else entry for entry in rule["script"]]
        self._frontend.faults.add(Rule(**rule))
        return Reply()

    def _clear_faults(self, _query: Query, _received: Received) -> Reply:
        self._frontend.faults.clear()
        return Reply()

    def _change_network(self, _query: Query, received: Received) -> Reply:
        values = json.loads(received.data)
        self._set_network(None if values is None else Network(**values))
        return Reply()

    def _add_credentials(self, _query: Query, received: Received) -> Reply:
        self._frontend.service.keyring.add(Credentials(**json.loads(received.data)))
        return Reply()

    def _remove_credentials(self, query: Query, _received: Received) -> Reply:
        self._frontend.service.keyring.remove(query["id"])
        return Reply()

    def _set_clock(self, query: Query, _received: Received) -> Reply:
        self._frontend.service.clock_offset_seconds = float(query["offset"])
        return Reply()

    def _set_policy(self, _query: Query, received: Received) -> Reply:
        service = self._frontend.service
        service.policy = replace(service.policy, **json.loads(received.data))
        return Reply()

    def _reset(self, _query: Query, _received: Received) -> Reply:
        """Undo all changes since the start except to buckets and objects; close connections that a fault holds up."""
        self._end_stalls()
        self._set_network(self._first_network)
        service = self._frontend.service
        service.policy, service.keyring = self._first_policy, Keyring(*self._first_identities)
        service.clock_offset_seconds = 0.0
        self._frontend.faults.clear()
        self._frontend.recorder.reset()
        return Reply()

    def _create_bucket(self, query: Query, _received: Received) -> Reply:
        self._frontend.service.ensure_bucket(query["bucket"])
        return Reply()

    def _remove_bucket(self, query: Query, _received: Received) -> Reply:
        bucket = self._bucket(query)
        for upload_id in list(bucket.uploads):
            bucket.abort_upload(upload_id)
        for key in list(bucket.objects):
            bucket.delete(key)
        self._frontend.service.storage.delete_bucket(bucket.name)
        return Reply()

    def _get_keys(self, query: Query, _received: Received) -> Reply:
        return _json_reply(self._bucket(query).sorted_keys())

    def _get_uploads(self, query: Query, _received: Received) -> Reply:
        uploads = self._bucket(query).uploads.values()
        return _json_reply(
            [{"key": item.key, "upload_id": item.upload_id, "parts": sorted(item.parts)} for item in uploads]
        )

    def _put_object(self, query: Query, received: Received) -> Reply:
        self._bucket(query).put(self._record(query["key"], received))
        return Reply()

    def _get_object(self, query: Query, _received: Received) -> Reply:
        record = self._frontend.service.find(query["bucket"], query["key"])
        return Reply(200, {}, record.content)

    def _delete_object(self, query: Query, _received: Received) -> Reply:
        self._bucket(query).delete(query["key"])
        return Reply()

    def _fill(self, _query: Query, received: Received) -> Reply:
        """Put many objects that share the same bytes."""
        wanted = decode_data(json.loads(received.data))
        service = self._frontend.service
        content = service.blobs.store(wanted["data"])
        service.blobs.retain(content)
        try:
            digest = service.digest(content)
            same = Received(digest.size, b"", content, digest.crc64, digest.md5, digest.etag)
            bucket = service.bucket(wanted["bucket"])
            bucket.put_all([self._record(wanted["pattern"].format(number), same) for number in range(wanted["count"])])
        finally:
            service.blobs.release(content)
        return Reply()

    def _bucket(self, query: Query) -> Bucket:
        return self._frontend.service.bucket(query["bucket"])

    def _record(self, key: str, received: Received) -> ObjectRecord:
        now = int(self._frontend.service.now())
        headers = {"Content-Type": "application/octet-stream"}
        return ObjectRecord(key, received.content, received.size, received.etag, received.crc64, now, headers=headers)


class ControlWork:
    """One control request under way."""

    def __init__(
        self,
        frontend: Frontend,
        head: RequestHead,
        action: Callable[[Query, Received], Reply] | None,
        intake: Intake,
    ) -> None:
        self._blobs = frontend.service.blobs
        self._query = dict(decode_query(head.query))
        self._action, self._intake = action, intake
        self._keep_alive = head.keep_alive
        self._refused: Refused | None = None

    def receive(self, data: memoryview) -> Pause | Hangup | Early | None:
        if self._refused is None:
            try:
                self._intake.write(data)
            except Refused as refused:  # the rest of the body is still received, and ignored
                self._refused = refused
        return None

    def refuse(self, refused: Refused) -> None:
        """Do nothing: the body is broken, so the connection ends without the action."""
        self._action = None

    def answer(self) -> Iterable[Step]:
        reply = self._reply()
        common = {"Connection": "keep-alive" if self._keep_alive else "close"}
        return [encode_reply_head(reply, common), *body_steps(reply.body, self._blobs)]

    def ended(self, sent: int) -> None:
        """Do nothing: this holds no resources, and control requests are not counted."""

    def _reply(self) -> Reply:
        if self._action is None:
            self._intake.abandon()
            return Reply(403, {}, b"no such control request, or not the server's control token")
        if self._refused is not None:
            self._intake.abandon()
            return Reply(self._refused.status, {}, str(self._refused).encode())
        received = self._intake.finish()
        self._blobs.retain(received.content)
        try:
            return self._action(self._query, received)
        except Refused as refused:
            return Reply(refused.status, {}, str(refused).encode())
        except (KeyError, TypeError, ValueError) as error:
            return Reply(400, {}, f"{type(error).__name__}: {error}".encode())
        finally:
            self._blobs.release(received.content)


def _json_reply(value: object) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(value).encode())
