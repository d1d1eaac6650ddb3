"""Headers: none that asks for something is taken in silence."""

from __future__ import annotations

import string

import pytest
from emulator.driver import Answer, Driver, pauses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator.interface import KNOWN_HEADERS

MISSING = (
    "x-oss-callback",
    "x-oss-callback-var",
    "x-oss-process",
    "x-oss-object-worm-mode",
    "x-oss-write-offset",
    "x-oss-server-side-encryption-customer-algorithm",
    "x-oss-multi-range-behavior",
)
APPEND, UPLOADS = [("append", ""), ("position", "0")], [("uploads", "")]
WRITES = [("PUT", []), ("POST", APPEND), ("POST", UPLOADS)]
FREE = ("x-oss-meta-", "x-oss-copy-source-")
NAMES = st.text(string.ascii_lowercase + "-", min_size=1, max_size=20).map("x-oss-{}".format)
Query = list[tuple[str, str]]


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize(("method", "query"), [*WRITES, ("GET", []), ("DELETE", [])])
def test_a_header_of_what_there_is_not_is_refused_by_name(send: Driver, name: str, method: str, query: Query) -> None:
    send("PUT", "photos", "k", body=b"x")
    answer = send(method, "photos", "k", query, body=b"y", headers=[(name, "1")])
    assert refused(answer, 501, "NotImplemented")
    assert answer.texts("ArgumentName") == [name]
    assert send("GET", "photos", "k").body == b"x"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    name=NAMES.filter(
        lambda name: name not in KNOWN_HEADERS and not name.startswith(("x-oss-meta-", "x-oss-copy-source-"))
    )
)
def test_no_header_that_nobody_knows_is_passed_over(send: Driver, name: str) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert refused(send("PUT", "photos", "k", body=b"y", headers=[(name, "1")]), 501, "NotImplemented")
    assert send("GET", "photos", "k").body == b"x"


def test_a_header_of_an_object_may_come_with_each_part_of_it(send: Driver) -> None:
    headers = [
        ("x-oss-object-acl", "private"),
        ("x-oss-tagging", "a=1"),
        ("x-oss-meta-client-side-encryption-key", "key"),
        ("x-oss-storage-class", "IA"),
    ]
    upload = [("uploadId", send("POST", "photos", "k", UPLOADS, headers=headers).xml.findtext("UploadId", ""))]
    assert send("PUT", "photos", "k", [*upload, ("partNumber", "1")], body=b"x", headers=headers).status == 200
    assert send("GET", "photos", "k", upload, headers=headers).status == 200
    assert send("HEAD", "photos", "missing", headers=headers).status == 404
    assert send("DELETE", "photos", "k", upload, headers=headers).status == 204


def test_a_copy_may_bring_its_headers_twice(send: Driver) -> None:
    """As ali-oss sends them."""
    send("PUT", "photos", "k", body=b"x")
    source = [("x-oss-copy-source", "/photos/k"), ("x-oss-metadata-directive", "REPLACE")]
    more = [("cache-control", "no-cache"), ("x-oss-copy-source-cache-control", "no-cache")]
    assert send("PUT", "photos", "copy", headers=[*source, *more]).status == 200
    assert send("HEAD", "photos", "copy").headers["cache-control"] == "no-cache"
    unmet = [("if-match", "other"), ("x-oss-copy-source-if-match", "other")]
    assert refused(send("PUT", "photos", "copy", headers=[*source, *unmet]), 412, "PreconditionFailed")


def test_a_bucket_is_not_made_as_if_it_encrypted(send: Driver) -> None:
    answer = send("PUT", "new-one", headers=[("x-oss-server-side-encryption", "AES256")])
    assert refused(answer, 501, "NotImplemented")
    assert refused(send("GET", "new-one"), 404, "NoSuchBucket")


@pytest.mark.parametrize("name", ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"])
def test_a_conditional_write_is_refused_as_oss_refuses_it(send: Driver, name: str) -> None:
    send("PUT", "photos", "k", body=b"x")
    answer = send("PUT", "photos", "k", body=b"y", headers=[(name, "*")])
    assert refused(answer, 400, "NotImplemented")
    assert answer.texts("Header") == [name]
    assert send("GET", "photos", "k").body == b"x"


@pytest.mark.parametrize(("method", "query"), WRITES)
def test_user_metadata_has_8_kb_at_most(send: Driver, method: str, query: Query) -> None:
    names = ["x-oss-meta-a", "x-oss-meta-b"]
    most = 8192 - sum(map(len, names))
    fits = [(names[0], "x" * 5000), (names[1], "x" * (most - 5000))]
    assert send(method, "photos", "fits", query, headers=fits).status == 200
    answer = send(method, "photos", "k", query, headers=[fits[0], (names[1], fits[1][1] + "x")])
    assert refused(answer, 400, "InvalidArgument")
    assert answer.headers["x-oss-ec"] == "0011-00000002"
    assert refused(send("GET", "photos", "k"), 404, "NoSuchKey")


@pytest.mark.parametrize("name", ["x-oss-meta-a_b", "x-oss-meta-a.b"])
def test_user_metadata_has_names_of_letters_digits_and_hyphens(send: Driver, name: str) -> None:
    assert refused(send("PUT", "photos", "k", headers=[(name, "1")]), 400, "InvalidArgument")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ([("list-type", "2")], "prefix"),
        ([("list-type", "2")], "start-after"),
        ([], "prefix"),
        ([], "marker"),
        (UPLOADS, "prefix"),
        (UPLOADS, "key-marker"),
    ],
)
def test_a_listing_takes_no_name_that_no_key_can_have(send: Driver, query: Query, name: str) -> None:
    assert send("GET", "photos", query=[*query, (name, "é" * 511 + "x")]).status == 200
    answer = send("GET", "photos", query=[*query, (name, "é" * 512)])
    assert refused(answer, 400, "InvalidArgument")
    assert answer.texts("ArgumentName") == [name]


@pytest.mark.parametrize(
    "headers",
    [
        [("x-oss-server-side-encryption", "AES256")],
        [("x-oss-server-side-encryption", "SM4")],
        [("x-oss-server-side-encryption", "KMS")],
        [("x-oss-server-side-encryption", "KMS"), ("x-oss-server-side-encryption-key-id", "key-1")],
        [("x-oss-server-side-encryption", "KMS"), ("x-oss-server-side-data-encryption", "SM4")],
    ],
)
def test_encryption_is_kept_and_sent_back(send: Driver, headers: Query) -> None:
    stored = send("PUT", "photos", "k", body=b"x", headers=headers)
    begun = send("POST", "photos", "p", UPLOADS, headers=headers)
    upload = [("uploadId", begun.xml.findtext("UploadId", ""))]
    send("PUT", "photos", "p", [*upload, ("partNumber", "1")], body=b"x")
    done = send("POST", "photos", "p", upload, headers=[("x-oss-complete-all", "yes")])
    read = [send(method, "photos", key) for method in ("GET", "HEAD") for key in ("k", "p")]
    for answer in (stored, begun, done, *read):
        for name, value in headers:
            assert answer.headers[name] == value


def test_who_names_no_key_has_the_default_one(send: Driver) -> None:
    answer = send("PUT", "photos", "k", headers=[("x-oss-server-side-encryption", "KMS")])
    name = "x-oss-server-side-encryption-key-id"
    assert answer.headers[name] == send("HEAD", "photos", "k").headers[name] != ""


def test_a_copy_is_encrypted_as_its_request_says(send: Driver) -> None:
    encryption, source = ("x-oss-server-side-encryption", "AES256"), ("x-oss-copy-source", "/photos/k")
    send("PUT", "photos", "k", body=b"x", headers=[encryption, ("x-oss-meta-a", "b")])
    send("PUT", "photos", "plain", headers=[source])
    assert encryption[0] not in send("HEAD", "photos", "plain").headers
    assert send("HEAD", "photos", "plain").headers["x-oss-meta-a"] == "b"
    send("PUT", "photos", "same", headers=[source, ("x-oss-server-side-encryption", "KMS")])
    assert send("HEAD", "photos", "same").headers[encryption[0]] == "KMS"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("x-oss-server-side-encryption", "AES128")], "InvalidEncryptionAlgorithmError"),
        ([("x-oss-server-side-encryption", "")], "InvalidEncryptionAlgorithmError"),
        ([("x-oss-server-side-encryption-key-id", "key-1")], "InvalidEncryptionAlgorithmError"),
        (
            [("x-oss-server-side-encryption", "AES256"), ("x-oss-server-side-encryption-key-id", "key-1")],
            "InvalidArgument",
        ),
        (
            [("x-oss-server-side-encryption", "KMS"), ("x-oss-server-side-data-encryption", "AES256")],
            "InvalidEncryptionAlgorithmError",
        ),
    ],
)
def test_encryption_that_there_is_not_is_refused(send: Driver, headers: Query, code: str) -> None:
    assert refused(send("PUT", "photos", "k", headers=headers), 400, code)


@pytest.mark.parametrize("value", ["", "x", "-1", "245759", "838860801", "1e6", "9" * 30])
@pytest.mark.parametrize("place", ["header", "query"])
def test_a_traffic_limit_that_there_is_not_is_refused(send: Driver, value: str, place: str) -> None:
    limit = [("x-oss-traffic-limit", value)]
    send("PUT", "photos", "k", body=b"x")
    for method in ("GET", "PUT"):
        answer = send(method, "photos", "k", limit if place == "query" else [], headers=limit[: place == "header"])
        assert refused(answer, 400, "InvalidArgument")
        assert answer.headers["x-oss-ec"] == "0004-00000502"


def test_a_traffic_limit_stands_in_one_place(send: Driver) -> None:
    limit = [("x-oss-traffic-limit", "819200")]
    assert refused(send("PUT", "photos", "k", limit, headers=limit), 400, "InvalidArgument")


@pytest.mark.parametrize("place", ["header", "query"])
def test_a_download_keeps_to_its_traffic_limit(send: Driver, place: str) -> None:
    limit = [("x-oss-traffic-limit", "819200")]  # 102400 bytes a second
    send("PUT", "photos", "k", body=b"x" * 256_000)
    answer = send("GET", "photos", "k", limit if place == "query" else [], headers=limit[: place == "header"])
    assert answer.body == b"x" * 256_000
    assert sum(pauses(answer)) == pytest.approx(2.5)
    assert pauses(send("GET", "photos", "k")) == []


def test_an_upload_keeps_to_its_traffic_limit(send: Driver) -> None:
    answer = send("PUT", "photos", "k", body=b"x" * 51_200, headers=[("x-oss-traffic-limit", "819200")])
    assert pauses(answer) == [0.5]
