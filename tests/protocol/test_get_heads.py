"""Composed heads of GETs are those that the signer and the encoder make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.credentials import Credentials
from osstorchconnector.protocol.endpoint import Route, parse_endpoint
from osstorchconnector.protocol.get_heads import GetHeads
from osstorchconnector.protocol.heads import encode_head
from osstorchconnector.protocol.requests import get_object
from osstorchconnector.protocol.signing import V4Signer, encode_key
from osstorchconnector.protocol.values import ByteSpan, Request

PLAIN = Credentials(access_key_id="AK", access_key_secret="SK")
TEMPORARY = Credentials(access_key_id="AK", access_key_secret="SK", security_token="range: bytes=0-0 Signature=CANARY")


def headers_of(request: Request, route: Route, signature: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("Host", route.host_header), ("User-Agent", "agent Signature=x"), *request.headers, *signature]


def heads(signer: V4Signer, endpoint: str = "http://oss-cn-test.aliyuncs.com") -> GetHeads:
    return GetHeads(signer, "bucket", parse_endpoint(endpoint).route("bucket"), headers_of)


keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30) | st.sampled_from(
    ["key", "a/key", "~"]
)


@given(
    st.lists(st.tuples(keys, st.integers(0, 3) | st.integers(0, 2**40), st.integers(1, 2**40)), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**33), min_size=1, max_size=3),
    st.sampled_from([PLAIN, TEMPORARY]),
    st.sampled_from(["http://127.0.0.1:8080", "https://oss-cn-test.aliyuncs.com"]),
)
def test_the_bytes_are_the_same(
    asked: list[tuple[str, int, int]],
    times: list[int],
    credentials: Credentials,
    endpoint: str,
) -> None:
    composed = heads(V4Signer(credentials, "cn-test"), endpoint)
    signer = V4Signer(credentials, "cn-test")
    for epoch in times:
        for key, start, size in asked:
            span = ByteSpan(start, start + size)
            request, route = get_object("bucket", key, span), composed.route
            headers = headers_of(request, route, signer.sign(request, epoch))
            expected = encode_head("GET", route.target(encode_key(key), ""), headers)
            assert composed.compose(key, span, epoch) == expected


def test_no_secret_shows() -> None:
    composed = heads(V4Signer(TEMPORARY, "cn-test"))
    head = composed.compose("key", ByteSpan(0, 1), 1_700_000_000)
    assert b"CANARY" in bytes(head)
    for shown in (repr(head), repr(composed), repr(composed._from_start), repr(composed._from_within)):
        assert "CANARY" not in shown
        assert "Signature=" not in shown


def test_a_header_with_a_line_end_is_refused() -> None:
    signer = V4Signer(Credentials(access_key_id="A\nK", access_key_secret="SK"), "cn-test")
    with pytest.raises(ValueError, match="line end"):
        heads(signer).compose("key", ByteSpan(0, 1), 1_700_000_000)
