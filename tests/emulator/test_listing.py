"""Listings against a naive model, page by page; and through the front end, as clients see them."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from emulator.driver import Driver
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator.operations.listing import find_page
from osstorchconnector.emulator.service import Service

KEYS = st.lists(st.text("ab/\U0010ffff", min_size=1, max_size=5), unique=True, max_size=12)
SHORT = st.text("ab/\U0010ffff", max_size=2)


def model(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """All names of a listing, each with a mark behind it if it is a common prefix."""
    names = []
    for key in sorted(keys, key=str.encode):
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if end < 0 else key[: end + len(delimiter)] + "|"
            if name not in names:
                names.append(name)
    return names


@settings(max_examples=300, deadline=None)
@given(KEYS, SHORT, SHORT, st.integers(1, 4))
@example(["a/", "a/\U0010ffff\U0010ffff", "b"], "", "/", 1)
def test_pages_put_together_are_the_whole_listing(keys: list[str], prefix: str, delimiter: str, limit: int) -> None:
    found: list[str] = []
    after = ""
    while True:
        page = find_page(sorted(keys), prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        found += sorted([*page.keys, *(f"{name}|" for name in page.prefixes)], key=lambda name: name.rstrip("|"))
        if not page.last:
            break
        assert page.size == limit
        after = page.last
    assert found == model(keys, prefix, delimiter)


@settings(max_examples=100, deadline=None)
@given(KEYS, SHORT, SHORT)
def test_a_listing_starts_behind_a_key(keys: list[str], prefix: str, after: str) -> None:
    page = find_page(sorted(keys), prefix=prefix, delimiter="", after=after, limit=100)
    assert page == ([key for key in sorted(keys) if key.startswith(prefix) and key > after], [], "")


HOSTILE = ["a b+c%", "dir/\x01\r\n", "dir/é", "z//\U0001f600", "&<>'\""]


@pytest.fixture
def filled(send: Driver, service: Service) -> Driver:
    for key in HOSTILE:
        service.overwrite("photos", key, b"12345")
    return send


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("limit", ["1", "2", "1000"])
def test_hostile_keys_are_listed_encoded(filled: Driver, version: str, limit: str) -> None:
    keys: list[str] = []
    position = ""
    for _ in range(len(HOSTILE) + 1):
        marker = ("marker", position) if version == "v1" else ("continuation-token", position)
        kind = [("list-type", "2")] if version == "v2" else []
        answer = filled("GET", "photos", query=[*kind, marker, ("max-keys", limit), ("encoding-type", "url")])
        assert answer.status == 200
        keys += map(unquote, answer.texts("Contents/Key"))
        if answer.xml.findtext("IsTruncated") == "false":
            assert answer.xml.find("NextMarker") is None
            assert answer.xml.find("NextContinuationToken") is None
            break
        position = unquote(answer.xml.findtext("NextMarker" if version == "v1" else "NextContinuationToken", ""))
    assert keys == sorted(HOSTILE)


def test_what_a_listing_says_of_an_object(filled: Driver) -> None:
    answer = filled("GET", "photos", query=[("list-type", "2"), ("prefix", "dir/é"), ("fetch-owner", "true")])
    entry = answer.xml.find("Contents")
    assert entry is not None
    values = {child.tag: child.text for child in entry}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", values.pop("LastModified") or "")
    assert values == {
        "Key": "dir/é",
        "ETag": '"827CCB0EEA8A706C4C34A16891F84E7B"',
        "Type": "Normal",
        "Size": "5",
        "StorageClass": "Standard",
        "Owner": None,
    }
    assert answer.texts("KeyCount") == ["1"]
    assert answer.texts("Contents/Owner/ID") == ["1234567890123456"]


def test_the_defaults_of_a_listing(filled: Driver) -> None:
    answer = filled("GET", "photos", query=[("list-type", "2"), ("prefix", "z")])
    head = {child.tag: child.text for child in answer.xml if child.tag != "Contents"}
    assert head == {"Name": "photos", "Prefix": "z", "MaxKeys": "100", "IsTruncated": "false", "KeyCount": "1"}
    assert answer.xml.find("Contents/Owner") is None
    assert answer.headers["content-type"] == "application/xml"


def test_folders_are_listed_once(filled: Driver) -> None:
    query = [("list-type", "2"), ("delimiter", "/"), ("start-after", "a"), ("encoding-type", "url")]
    answer = filled("GET", "photos", query=query)
    assert answer.texts("CommonPrefixes/Prefix") == ["dir/", "z/"]
    assert answer.texts("Contents/Key") == ["a%20b%2Bc%25"]
    assert [answer.xml.findtext(tag) for tag in ("Delimiter", "StartAfter", "KeyCount")] == ["/", "a", "3"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-keys", "0"),
        ("max-keys", "1001"),
        ("max-keys", "many"),
        ("max-keys", "-1"),
        ("max-keys", "9" * 30),
        ("encoding-type", "base64"),
        ("continuation-token", "%%%"),
        ("continuation-token", "_w"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(filled: Driver, name: str, value: str) -> None:
    answer = filled("GET", "photos", query=[("list-type", "2"), (name, value)])
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.texts("ArgumentName") == [name]


@pytest.mark.parametrize("query", [[], [("list-type", "2")], [("uploads", "")]])
def test_a_bucket_that_is_not_there_has_no_listing(send: Driver, query: list[tuple[str, str]]) -> None:
    answer = send("GET", "nowhere", query=query)
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
    assert answer.texts("BucketName") == ["nowhere"]


def begin(send: Driver, key: str) -> str:
    return send("POST", "photos", key, [("uploads", "")]).xml.findtext("UploadId", "")


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_unfinished_uploads_are_listed_by_key_and_id(send: Driver, limit: int) -> None:
    begun = sorted((key, begin(send, key)) for key in ["b", "a b", "b", "dir/x", "dir/y", "b"])
    found: list[tuple[str, str]] = []
    key_marker = id_marker = ""
    while True:
        query = [("uploads", ""), ("max-uploads", str(limit)), ("encoding-type", "url")]
        answer = send("GET", "photos", query=[*query, ("key-marker", key_marker), ("upload-id-marker", id_marker)])
        rows = answer.xml.findall("Upload")
        found += [(unquote(row.findtext("Key", "")), row.findtext("UploadId", "")) for row in rows]
        if answer.xml.findtext("IsTruncated") == "false":
            break
        key_marker = unquote(answer.xml.findtext("NextKeyMarker", ""))
        id_marker = answer.xml.findtext("NextUploadIdMarker", "")
    assert found == begun


@pytest.mark.parametrize("limit", ["1", "1000"])
def test_unfinished_uploads_are_listed_by_folder(send: Driver, limit: str) -> None:
    for key in ["top", "dir/x", "dir/y", "other/z"]:
        begin(send, key)
    names: list[str] = []
    marker = ""
    while True:
        query = [("uploads", ""), ("delimiter", "/"), ("max-uploads", limit), ("key-marker", marker)]
        answer = send("GET", "photos", query=query)
        names += answer.texts("CommonPrefixes/Prefix") + answer.texts("Upload/Key")
        if answer.xml.findtext("IsTruncated") == "false":
            break
        marker = answer.xml.findtext("NextKeyMarker", "")
    assert sorted(names) == ["dir/", "other/", "top"]
    assert send("GET", "photos", query=[("uploads", ""), ("prefix", "dir/")]).texts("Upload/Key") == ["dir/x", "dir/y"]
