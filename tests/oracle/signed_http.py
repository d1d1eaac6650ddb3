"""A signed HTTP client that adds nothing and hides nothing, for tests of what is on the wire."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import Element

from . import documents, signature
from .messages import Account, OssRequest


@dataclass(frozen=True)
class WireReply:
    """What came back; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def expect(self, *statuses: int) -> WireReply:
        assert self.status in statuses, f"{self.status} instead of {statuses}: {self.body!r}"
        return self

    def document(self) -> Element:
        return documents.parse(self.body)

    @property
    def code(self) -> str:
        """The error code in the body, "" if there is none."""
        return self.document().findtext("Code", "") if self.body else ""


class SignedHttp:
    """Send requests to one endpoint, path style, signed V4; a connection for each."""

    def __init__(self, endpoint: str, region: str, account: Account) -> None:
        self.host, self.region, self.account = urlsplit(endpoint).netloc, region, account

    def send(
        self,
        method: str,
        bucket: str = "",
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        epoch_seconds: float | None = None,
    ) -> WireReply:
        """Return the answer to a request signed as of `epoch_seconds`, now if not given."""
        plain = {"host": self.host, **{name.lower(): value for name, value in (headers or {}).items()}}
        request = OssRequest(method, bucket, key, dict(query or {}), plain, body)
        signed = self.signed(request, time.time() if epoch_seconds is None else epoch_seconds)
        return self.send_unsigned(method, target_of(request), signed, body)

    def signed(self, request: OssRequest, epoch_seconds: float) -> dict[str, str]:
        """Return a request's headers with those of signature V4 added."""
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch_seconds))
        headers = {**request.headers, "x-oss-date": timestamp, "x-oss-content-sha256": signature.PAYLOAD}
        if self.account.security_token:
            headers["x-oss-security-token"] = self.account.security_token
        dated = OssRequest(request.method, request.bucket, request.key, request.query, headers)
        proof = signature.signature_v4(
            self.account.access_key_secret, signature.canonical_request_v4(dated), timestamp, self.region
        )
        scope = f"{self.account.access_key_id}/{timestamp[:8]}/{self.region}/oss/aliyun_v4_request"
        headers["authorization"] = f"{signature.ALGORITHM_V4} Credential={scope},Signature={proof}"
        return headers

    def send_unsigned(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, with_length: bool = True
    ) -> WireReply:
        """Send exactly these headers, a Content-Length `with_length` of PUT and POST, and nothing else."""
        connection = http.client.HTTPConnection(self.host, timeout=100)
        try:
            connection.putrequest(method, target, skip_host="host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if with_length and method in ("PUT", "POST") and "content-length" not in headers:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body or None)
            reply = connection.getresponse()
            return WireReply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()


def target_of(request: OssRequest) -> str:
    """Return the request line's target, path style."""
    path = quote(f"/{request.bucket}/{request.key}" if request.bucket else "/", safe="/-_.~", errors="surrogateescape")
    pairs = (
        f"{_encoded(name)}={_encoded(value)}" if value else _encoded(name) for name, value in request.query.items()
    )
    query = "&".join(pairs)
    return f"{path}?{query}" if query else path


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
