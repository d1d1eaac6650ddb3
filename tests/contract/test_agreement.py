"""Whatever is asked, the emulator answers what the oracle answers."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from contract.clients import Server, wire_to
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.signed_http import SignedHttp, WireReply

NAME_PIECES = ["a", "b", "/", "//", "ab", "é", "中", "\U0001f600", " ", "+", "%", "%2F", "&", "-", "~"]
SIZES = [0, 1, 10, 1000]
BUCKET = "contract-agreement"
LISTING_FIELDS = (
    *("Name", "Prefix", "Delimiter", "EncodingType", "MaxKeys", "IsTruncated"),
    *("StartAfter", "KeyCount", "Marker", "NextMarker"),
)
OBJECT_FIELDS = ("Key", "ETag", "Type", "Size", "StorageClass")

names = st.lists(st.sampled_from(NAME_PIECES), max_size=3).map("".join)
delimiters = st.sampled_from(["", "/", "//", "a", "é", " ", "+", "%"])
page_sizes = st.integers(1, 50)
numbers = st.one_of(st.just(""), st.integers(0, 1100).map(str), st.sampled_from(["00", "9" * 15]))
ranges = st.one_of(
    st.builds("bytes={}-{}".format, numbers, numbers),
    st.sampled_from(["bytes=", "bytes=-", "bytes=a-b", "bytes 0-4", "byte=0-4", "0-4", "BYTES=0-4", "bytes=0--1"]),
)


class Both(NamedTuple):
    oracle: SignedHttp
    emulator: SignedHttp

    def send(self, *arguments: str, **more: object) -> tuple[WireReply, WireReply]:
        """Return both answers to the same request."""
        first, second = (wire.send(*arguments, **more) for wire in self)  # type: ignore[arg-type]
        return first, second


@pytest.fixture(scope="module")
def both(oracle_server: Server, emulator_server: Server) -> Both:
    """Both servers with the same objects."""
    wires = Both(wire_to(oracle_server), wire_to(emulator_server))
    choose = random.Random(2)
    keys = {"".join(choose.choices(NAME_PIECES, k=choose.randint(1, 4))).lstrip("/") for _ in range(120)} - {""}
    for wire in wires:
        wire.send("PUT", BUCKET).expect(200)
        for key in sorted(keys):
            wire.send("PUT", BUCKET, key, body=key.encode()).expect(200)
        for size in SIZES:
            wire.send("PUT", BUCKET, f"size/{size}", body=(bytes(range(256)) * 4)[:size]).expect(200)
    return wires


def listed(reply: WireReply) -> dict[str, object]:
    """Return what a listing says, but for times and tokens."""
    root = reply.expect(200).document()
    plain = (
        "Name",
        "Prefix",
        "StartAfter",
        "MaxKeys",
        "Delimiter",
        "EncodingType",
        "IsTruncated",
        "KeyCount",
        "Marker",
    )
    described = ("Key", "ETag", "Type", "Size", "StorageClass")
    return {
        **{name: root.findtext(name) or "" for name in (*plain, "NextMarker")},
        "objects": [[node.findtext(name) for name in described] for node in root.findall("Contents")],
        "prefixes": [node.findtext("Prefix") for node in root.findall("CommonPrefixes")],
    }


def part(reply: WireReply) -> tuple[int, str | None, str | bytes]:
    """Return what an answer to a range says."""
    if reply.status >= 400:
        return reply.status, None, reply.code
    return reply.status, reply.headers.get("content-range"), reply.body


def pages(wire: SignedHttp, query: dict[str, str]) -> list[dict[str, object]]:
    """Return all pages of a listing of version 2."""
    found: list[dict[str, object]] = []
    token = ""
    while True:
        reply = wire.send("GET", BUCKET, query={**query, "continuation-token": token})
        found.append(listed(reply))
        token = reply.document().findtext("NextContinuationToken", "")
        if not token:
            return found


@settings(max_examples=60, deadline=None)
@given(prefix=names, delimiter=delimiters, size=st.integers(5, 50), encoding=st.sampled_from(["", "url"]))
def test_on_every_page_of_a_listing(both: Both, prefix: str, delimiter: str, size: int, encoding: str) -> None:
    query = {
        "list-type": "2",
        "prefix": prefix,
        "delimiter": delimiter,
        "max-keys": str(size),
        "encoding-type": encoding,
    }
    first, second = (pages(wire, query) for wire in both)
    assert first == second


@settings(max_examples=100, deadline=None)
@given(prefix=names, start_after=names, delimiter=delimiters, size=page_sizes)
def test_on_where_a_listing_starts(both: Both, prefix: str, start_after: str, delimiter: str, size: int) -> None:
    query = {"list-type": "2", "prefix": prefix, "start-after": start_after, "delimiter": delimiter}
    query["max-keys"] = str(size)
    first, second = both.send("GET", BUCKET, query=query)
    assert listed(first) == listed(second)


@settings(max_examples=100, deadline=None)
@given(prefix=names, marker=names, delimiter=delimiters, size=page_sizes)
def test_on_version_1_of_the_listing(both: Both, prefix: str, marker: str, delimiter: str, size: int) -> None:
    query = {"prefix": prefix, "marker": marker, "delimiter": delimiter, "max-keys": str(size)}
    first, second = both.send("GET", BUCKET, query=query)
    assert listed(first) == listed(second)


@settings(max_examples=200, deadline=None)
@given(size=st.sampled_from(SIZES), text=ranges, is_standard=st.booleans())
def test_on_every_range(both: Both, size: int, text: str, is_standard: bool) -> None:
    headers = {"range": text, **({"x-oss-range-behavior": "standard"} if is_standard else {})}
    first, second = both.send("GET", BUCKET, f"size/{size}", headers=headers)
    assert part(first) == part(second)
