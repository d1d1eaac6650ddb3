"""Whatever is sent, the answer is an OSS answer."""

from __future__ import annotations

from emulator.driver import Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
TARGETS = st.text("/abcphotos%2F0?&=+-_.~uploadId=1&x-oss-process&append\u00e9".encode().decode("latin-1"), max_size=40)
NAMES = st.sampled_from(
    """
    host range if-match if-none-match if-modified-since if-unmodified-since x-oss-copy-source x-oss-date date
    authorization content-md5 content-type x-oss-copy-source-range x-oss-forbid-overwrite x-oss-acl
    x-oss-range-behavior x-oss-storage-class x-oss-complete-all x-oss-metadata-directive
    """.split()
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=30)
HEADERS = st.dictionaries(NAMES, VALUES | st.sampled_from(["bytes=0-4", "*", "/photos/k", "true", "standard"]))
MARKS = st.sampled_from(["uploads", "uploadId", "list-type", "max-keys", "append", "continuation-token", "delete"])
IN_ONE_FOLDER = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@IN_ONE_FOLDER
@given(METHODS, TARGETS, HEADERS, st.binary(max_size=50))
def test_a_stranger_gets_an_answer_and_nothing_else(
    send: Driver, method: str, target: str, headers: dict[str, str], body: bytes
) -> None:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    path = "/" + "".join(character for character in target if "!" <= character <= "~")
    head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}content-length: {len(body)}\r\n\r\n"
    assert send.send(head.encode(), body).status >= 400
    assert list(send.frontend.service.storage.buckets) == ["photos"]
    assert send.frontend.service.bucket("photos").objects == {}


@IN_ONE_FOLDER
@given(
    METHODS,
    st.sampled_from(["", "photos", "nowhere"]),
    st.text(max_size=5),
    st.lists(st.tuples(MARKS, VALUES), max_size=3),
    HEADERS,
    st.binary(max_size=50),
)
def test_who_is_known_gets_an_answer_too(
    send: Driver,
    method: str,
    bucket: str,
    key: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
) -> None:
    key = key.encode("utf-8", "replace").decode()
    for own in ("host", "authorization", "x-oss-date", "date"):
        headers.pop(own, None)
    if bucket == "":
        key = ""
    answer = send(method, bucket, key, query, body, [(name, value.strip()) for name, value in headers.items()])
    assert 200 <= answer.status < 600
    assert answer.status != 500
    assert "x-oss-request-id" in answer.headers
