"""What is known of repeated requests changes nothing about how they read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.heads import RequestHead, parse_request_head
from osstorchconnector.protocol.repeats import RepeatedHeads

SIGNATURE, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
CLAIM = "OSS4-HMAC-SHA256 Credential=id/20250314/cn-test/oss/aliyun_v4_request"


def request(
    target: str = "/bucket/key", signature: str = SIGNATURE, *, end: str = "", more: str = "", first: str = "GET"
) -> bytes:
    lines = [f"{first} {target} HTTP/1.1", "Host: 127.0.0.1:8080", "range: bytes=0-99", *more.splitlines()]
    lines += [f"authorization: {CLAIM}, Signature={signature}{end}", "x-oss-date: 20250314T150926Z"]
    return "\r\n".join([*lines, "", ""]).encode()


def read(raw: bytes, repeated: RepeatedHeads) -> tuple[RequestHead, int] | str | None:
    """Return what the parser returns, without what it knows of others, or its error."""
    try:
        found = parse_request_head(bytearray(raw), len(raw), repeated)
    except OssProtocolError as error:
        return str(error)
    return found and (found[0]._replace(common=None), found[1])


def common_of(raw: bytes, repeated: RepeatedHeads) -> object:
    found = parse_request_head(bytearray(raw), len(raw), repeated)
    assert found is not None
    return found[0].common


@pytest.mark.parametrize("end", ["", ", AdditionalHeaders=host;range", " "])
def test_a_repeated_head_reads_as_if_it_were_the_first(end: str) -> None:
    repeated, other = RepeatedHeads(), request("/bucket/other?acl&x=1", OTHER, end=end, first="HEAD")
    assert common_of(request(end=end), repeated) is None
    assert common_of(other, repeated) is common_of(request(end=end), repeated) is not None
    assert read(other + b"more", repeated) == read(other + b"more", RepeatedHeads())
    found = parse_request_head(other, len(other), repeated)
    assert found is not None
    assert found[0].common is not None
    assert found[0].common.signature_of(found[0].headers) == OTHER


@pytest.mark.parametrize(
    "others",
    [
        request(more="x-oss-meta-a: b"),
        request(end=", AdditionalHeaders=host"),
        request(end="0"),
        request(signature=OTHER.upper()),
        request(signature=OTHER[:-2] + "\r\n"),
        request(target="http://host/bucket/key"),
        request(target="/bucket/\u00e9"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        request(first="GET GET"),
        b"\r\n" + request(),
        request()[:-1],
    ],
)
def test_a_head_that_differs_elsewhere_is_none_of_them(others: bytes) -> None:
    repeated = RepeatedHeads()
    for _ in range(2):
        read(request(), repeated)
        assert read(others, repeated) == read(others, RepeatedHeads())


@pytest.mark.parametrize(
    "raw",
    [
        request(end="0"),
        request(signature=SIGNATURE.upper()),
        request(end=" Signature=0"),
        request(more="x-note: Signature=1"),
        request(more=f"x-note: Signature={SIGNATURE}").replace(b", Signature=", b", signature="),
        request(more="x-note: \u00e9"),
        request().replace(b"authorization", b"x-oss-note"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_heads_without_one_signature_of_version_4_are_not_remembered(raw: bytes) -> None:
    repeated = RepeatedHeads()
    assert [common_of(raw, repeated) for _ in range(3)] == [None] * 3


@given(
    st.integers(0, len(request())), st.sampled_from([b"\0", b"\r\n", b"\n", b" ", b":", b"\xff", b"0", b"Signature="])
)
@settings(max_examples=300)
def test_a_damaged_head_reads_the_same_after_others(at: int, put: bytes) -> None:
    repeated, damaged = RepeatedHeads(), request()[:at] + put + request()[at:]
    for _ in range(2):
        read(request(), repeated)
        assert read(damaged, repeated) == read(damaged, RepeatedHeads())


def test_so_many_are_remembered_and_no_more() -> None:
    repeated = RepeatedHeads()
    for number in range(RepeatedHeads.MAX_KNOWN):
        read(request(more=f"x-number: {number}"), repeated)
    assert common_of(request(more="x-number: 0"), repeated) is not None
    read(request(more="x-number: more"), repeated)
    assert common_of(request(more="x-number: 0"), repeated) is None
    assert common_of(request(more="x-number: more"), repeated) is not None


def test_headers_of_a_head_may_be_changed() -> None:
    repeated = RepeatedHeads()
    for _ in range(2):
        parsed = parse_request_head(bytearray(request()), len(request()), repeated)
        assert parsed is not None
        parsed[0].headers.clear()
    assert read(request(), repeated) == read(request(), RepeatedHeads())
