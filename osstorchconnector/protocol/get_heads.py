"""The signed heads of GETs, composed from text that is the same for all of them in one second.

To make the request for an object of a few KB takes as long as anything else that is done for it. But the head of one
GET differs from that of the next in three places only: the key, the range and the signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from ..redaction import Secret, SecretBytes
from .endpoint import Route
from .heads import encode_head
from .requests import get_object
from .signing import V4Signer, encode_key, is_plain_key
from .values import ByteSpan, Request

_PROBE = "key"
_SIGNATURE_LETTERS = 64

HeadersOf = Callable[[Request, Route, list[tuple[str, str]]], list[tuple[str, str]]]


class _Cut(NamedTuple):
    """The head of a GET without key, range and signature, and the end of the text that is signed."""

    before_key: Secret
    before_range: Secret
    before_signature: Secret
    end: Secret
    signed_tail: SecretBytes


class GetHeads:
    """The heads of `get_object(bucket, key, span)` for any key and span, signed by version 4.

    `compose` returns the bytes that `V4Signer.sign` and `encode_head` make of that request. All that is constant comes
    from them: once a second, one head that they have made is cut up. `headers_of` returns all headers of a request; it
    gets the request, its route and the headers that sign it.
    """

    def __init__(self, signer: V4Signer, bucket: str, route: Route, headers_of: HeadersOf) -> None:
        self.route = route
        self._signer, self._bucket, self._headers_of = signer, bucket, headers_of
        self._epoch_seconds = -1
        self._from_start: _Cut
        self._from_within: _Cut

    def compose(self, key: str, span: ByteSpan, epoch_seconds: int) -> SecretBytes:
        """Return the head of a GET of `span`, which has a byte at least, of the object `key`."""
        if epoch_seconds != self._epoch_seconds:
            self._begin(epoch_seconds)
        start, stop = span
        cut = self._from_within if start else self._from_start
        path = key if is_plain_key(key) else encode_key(key)
        canonical = hashlib.sha256(f"GET\n/{self._bucket}/{path}\n\n".encode() + cut.signed_tail)
        inner, outer = self._inner.copy(), self._outer.copy()  # as `Moment.signature`, without the call
        inner.update(canonical.hexdigest().encode())
        outer.update(inner.digest())
        key_and_range = f"{cut.before_key}{path}{cut.before_range}{start}-{stop - 1}"
        return SecretBytes(f"{key_and_range}{cut.before_signature}{outer.hexdigest()}{cut.end}".encode())

    def _begin(self, epoch_seconds: int) -> None:
        moment = self._signer.moment(epoch_seconds)
        self._inner, self._outer = moment.inner, moment.outer
        self._from_start = self._cut_up(ByteSpan(0, 1), epoch_seconds)
        self._from_within = self._cut_up(ByteSpan(1, 2), epoch_seconds)
        self._epoch_seconds = epoch_seconds

    def _cut_up(self, span: ByteSpan, epoch_seconds: int) -> _Cut:
        request = get_object(self._bucket, _PROBE, span)
        headers = self._headers_of(request, self.route, self._signer.sign(request, epoch_seconds))
        target = self.route.target(_PROBE, "")
        head = Secret(encode_head(request.method, target, headers).decode())
        key = head.index(target) + len(target) - len(_PROBE)
        number = f"{span.start}-{span.start}"
        place = head.index(f"\r\nrange: bytes={number}\r\n") + len("\r\nrange: bytes=")
        signature = head.rindex("Signature=") + len("Signature=")
        return _Cut(
            head[:key],
            head[key + len(_PROBE) : place],
            head[place + len(number) : signature],
            head[signature + _SIGNATURE_LETTERS :],
            self._signer.tail(request, self._signer.moment(epoch_seconds)),
        )
