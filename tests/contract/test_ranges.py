"""Parts of objects: the standard meaning of ranges, which clients ask for, and the one OSS has by default."""

from __future__ import annotations

import random

import pytest
from contract.clients import Client, Refused
from oracle.signed_http import SignedHttp

BODY = random.Random(8).randbytes(1000)
STANDARD = {"x-oss-range-behavior": "standard"}


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 500), (500, 1000), (999, 1000), (0, 1000), (500, 2001), (999, 5000), (0, 70000)]
)
def test_a_range_gives_what_the_object_has_of_it(client: Client, start: int, stop: int) -> None:
    client.put("k", BODY)
    assert client.get_range("k", start, stop) == BODY[start:stop]


@pytest.mark.parametrize("start", [1000, 1001, 5000])
def test_a_range_past_the_end_is_refused(client: Client, start: int) -> None:
    client.put("k", BODY)
    with pytest.raises(Refused) as caught:
        client.get_range("k", start, start + 10)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")


def test_a_range_of_a_multipart_object_crosses_its_parts(client: Client) -> None:
    body = random.Random(9).randbytes(3 * 102400)
    client.put_in_parts("k", body[:102400], body[102400:204800], body[204800:])
    assert client.get_range("k", 102300, 204900) == body[102300:204900]


@pytest.mark.parametrize(
    ("text", "first", "stop"),
    [("bytes=0-499", 0, 500), ("bytes=500-", 500, 1000), ("bytes=-200", 800, 1000), ("bytes=0-999", 0, 1000)],
)
@pytest.mark.parametrize("behavior", [{}, STANDARD])
def test_a_range_inside_the_object_means_the_same_either_way(
    wire: SignedHttp, sdk: Client, text: str, first: int, stop: int, behavior: dict[str, str]
) -> None:
    sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": text, **behavior}).expect(206)
    assert reply.body == BODY[first:stop]
    assert reply.headers["content-range"] == f"bytes {first}-{stop - 1}/1000"
    assert reply.headers["content-length"] == str(stop - first)


@pytest.mark.parametrize("text", ["bytes=500-2000", "bytes=1000-2000", "bytes=1000-", "bytes=-2000"])
def test_by_default_a_range_that_leaves_the_object_gets_all_of_it(wire: SignedHttp, sdk: Client, text: str) -> None:
    sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": text}).expect(200)
    assert reply.body == BODY
    assert "content-range" not in reply.headers


def test_the_standard_behaviour_clips_a_range_at_the_end(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": "bytes=500-2000", **STANDARD}).expect(206)
    assert reply.headers["content-range"] == "bytes 500-999/1000"
    assert reply.body == BODY[500:]


def test_the_standard_behaviour_gives_a_long_suffix_the_whole_object(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": "bytes=-2000", **STANDARD}).expect(206)
    assert reply.headers["content-range"] == "bytes 0-999/1000"
    assert reply.body == BODY


@pytest.mark.parametrize("text", ["bytes=1000-2000", "bytes=1000-"])
def test_the_standard_behaviour_refuses_a_range_past_the_end(wire: SignedHttp, sdk: Client, text: str) -> None:
    sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": text, **STANDARD}).expect(416)
    assert reply.code == "InvalidRange"


@pytest.mark.parametrize("text", ["byte=0-4", "bytes=4-2", "bytes=a-b", "bytes=", "0-4"])
@pytest.mark.parametrize("behavior", [{}, STANDARD])
def test_what_is_no_range_gets_the_whole_object(
    wire: SignedHttp, sdk: Client, text: str, behavior: dict[str, str]
) -> None:
    sdk.put("k", BODY)
    assert wire.send("GET", sdk.bucket, "k", headers={"range": text, **behavior}).expect(200).body == BODY


def test_a_range_of_an_empty_object_is_all_of_it_by_default_and_refused_by_the_standard(
    wire: SignedHttp, sdk: Client
) -> None:
    sdk.put("empty", b"")
    assert wire.send("GET", sdk.bucket, "empty", headers={"range": "bytes=0-9"}).expect(200).body == b""
    wire.send("GET", sdk.bucket, "empty", headers={"range": "bytes=0-9", **STANDARD}).expect(416)


def test_a_part_comes_with_etag_and_crc64_of_the_whole(wire: SignedHttp, sdk: Client) -> None:
    put = sdk.put("k", BODY)
    reply = wire.send("GET", sdk.bucket, "k", headers={"range": "bytes=10-19", **STANDARD}).expect(206)
    assert reply.headers["etag"] == f'"{put.etag}"'
    assert reply.headers["x-oss-hash-crc64ecma"] == str(put.crc64)


def test_a_condition_goes_before_a_range(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", BODY)
    headers = {"range": "bytes=0-9", "if-match": '"' + "0" * 32 + '"', **STANDARD}
    assert wire.send("GET", sdk.bucket, "k", headers=headers).expect(412).code == "PreconditionFailed"
