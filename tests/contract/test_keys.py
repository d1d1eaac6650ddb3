"""Keys that break careless encoders go through every operation unharmed."""

from __future__ import annotations

import pytest
from contract.clients import Client, Refused
from oracle.signed_http import SignedHttp

HOSTILE_KEYS = [
    "with space",
    " spaces around ",
    "plus+sign and space",
    "percent%20escaped",
    "100%",
    "%2F",
    "a%2Fb/c%252Fd",
    "quote'double\"back`tick",
    "<tag>&amp;]]>",
    "a?b#c&d=e",
    "?uploads",
    "#",
    "semi;colon,comma:at@dollar$excl!star*(parens)[brackets]{braces}|^",
    "back\\slash",
    "tilde~dash-under_dot.",
    "数据/目录/é",
    "e\u0301 is not \xe9",
    "\U0001f600/\U0010ffff",
    "\ufeffbom",
    "\ufffd",
    "\xa0\x85\u2028\u200f",
    "double//slash",
    "triple///slash/",
    "folder/",
    "a/./b",
    "a/../b",
    "../a",
    "./a",
    "a/..",
    "...",
    "tab\tin",
    "line\nfeed",
    "carriage\rreturn",
    "\r\nX-Injected: 1",
    "\x01\x02\x1b[31m\x1f",
    "delete\x7f",
    "k" * 1023,
    "\xe9" * 511 + "k",
    "/".join(["s"] * 500),
    "CON",
    "nul.txt",
    "UPPER",
    "upper",
    ".metadata",
    "-",
]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=[ascii(key)[1:30] for key in HOSTILE_KEYS])
def test_a_hostile_key_goes_through_every_operation(client: Client, key: str) -> None:
    body = key.encode()
    put = client.put(key, body)
    assert client.get(key) == body
    assert client.get_range(key, 0, 1) == body[:1]
    assert client.head(key) == put
    assert client.list_page(key) == ([key], [], "")
    assert client.list_page(start_after=key) == ([], [], "")
    client.copy(key, "copy")
    assert client.get("copy") == body
    client.copy("copy", key)
    assert client.get(key) == body
    client.delete(key)
    assert client.keys() == ["copy"]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=[ascii(key)[1:30] for key in HOSTILE_KEYS])
def test_a_hostile_key_is_written_in_parts(client: Client, key: str) -> None:
    upload_id = client.create_upload(key)
    assert client.list_uploads() == [(key, upload_id)]
    part = client.upload_part(key, upload_id, 1, b"body")
    if client.can_put_in_xml(key):
        assert client.list_parts(key, upload_id) == [(1, part.etag, 4)]
    client.complete_upload(key, upload_id, [part])
    assert client.get(key) == b"body"


def test_uploads_of_hostile_keys_are_aborted(client: Client) -> None:
    begun = [(key, client.create_upload(key)) for key in HOSTILE_KEYS]
    assert sorted(client.list_uploads()) == sorted(begun)
    for key, upload_id in begun:
        client.abort_upload(key, upload_id)
    assert client.list_uploads() == []


def test_hostile_keys_live_side_by_side(client: Client) -> None:
    for key in HOSTILE_KEYS:
        client.put(key, key.encode())
    pages = client.list_all(max_keys=7)
    assert [key for page in pages for key in page.keys] == sorted(HOSTILE_KEYS, key=str.encode)
    assert [client.get(key) for key in HOSTILE_KEYS] == [key.encode() for key in HOSTILE_KEYS]


@pytest.mark.parametrize("delimiter", [" ", "+", "%", "&", "é", "\x01", "\n", "//", "%2F"])
def test_hostile_delimiters_fold(client: Client, delimiter: str) -> None:
    for key in (f"a{delimiter}1", f"a{delimiter}2", "b"):
        client.put(key, b"")
    assert client.list_page(delimiter=delimiter) == (["b"], [f"a{delimiter}"], "")
    assert client.list_page(f"a{delimiter}", delimiter=delimiter).keys == [f"a{delimiter}1", f"a{delimiter}2"]


def test_hostile_keys_are_deleted_at_once(client: Client) -> None:
    keys = [key for key in HOSTILE_KEYS if client.can_put_in_xml(key)]
    for key in [*keys, "kept"]:
        client.put(key, b"")
    client.delete_many(keys)
    assert client.keys() == ["kept"]


@pytest.mark.parametrize("key", ["/starts/with/slash", "//", "\\starts", "k" * 1024, "é" * 512])
def test_a_key_that_oss_does_not_allow_is_refused(wire: SignedHttp, sdk: Client, key: str) -> None:
    reply = wire.send("PUT", sdk.bucket, key, body=b"x").expect(400)
    assert reply.code == "InvalidObjectName"
    assert sdk.keys() == []


def test_a_key_that_is_no_utf8_is_refused(wire: SignedHttp, sdk: Client) -> None:
    reply = wire.send("PUT", sdk.bucket, "\udcff", body=b"x")
    assert (reply.status, reply.code) == (400, "InvalidObjectName")


def test_slashes_in_a_path_may_be_escaped_or_not(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("a/b", b"body")  # oss2 writes %2F
    assert wire.send("GET", sdk.bucket, "a/b").expect(200).body == b"body"  # this one writes /


def test_an_upload_of_a_key_that_is_too_long_is_refused(sdk: Client) -> None:
    with pytest.raises(Refused) as caught:
        sdk.create_upload("k" * 1024)
    assert (caught.value.status, caught.value.code) == (400, "InvalidObjectName")
