from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.emulator.operations.arguments import check_conditions, resolve_range
from osstorchconnector.emulator.refusals import Refused

WHOLE = None
REFUSED = "416"

# Range, what OSS does by default, and with x-oss-range-behavior: standard, for an object of 1000 bytes.
RANGES = [
    ("bytes=0-499", (0, 500), (0, 500)),
    ("bytes=500-", (500, 1000), (500, 1000)),
    ("bytes=-200", (800, 1000), (800, 1000)),
    ("bytes=-1000", (0, 1000), (0, 1000)),
    ("bytes=999-999", (999, 1000), (999, 1000)),
    ("bytes=0-999", (0, 1000), (0, 1000)),
    ("bytes=0-1000", WHOLE, (0, 1000)),
    ("bytes=500-2000", WHOLE, (500, 1000)),
    ("bytes=1000-2000", WHOLE, REFUSED),
    ("bytes=1000-", WHOLE, REFUSED),
    ("bytes=-2000", WHOLE, (0, 1000)),
    ("bytes=-0", WHOLE, REFUSED),
    ("bytes=5-4", WHOLE, WHOLE),
    ("byte=0-4", WHOLE, WHOLE),
    ("bytes=a-b", WHOLE, WHOLE),
    ("bytes=-", WHOLE, WHOLE),
    ("bytes=0-4,6-9", WHOLE, WHOLE),
    ("bytes=" + "9" * 5000 + "-", WHOLE, WHOLE),
    ("", WHOLE, WHOLE),
    (None, WHOLE, WHOLE),
]


def resolved(header: str | None, size: int, *, is_standard: bool) -> object:
    try:
        return resolve_range(header, size, is_standard=is_standard)
    except Refused as refused:
        return f"{refused.status}"


def test_a_range_that_is_refused_tells_the_size() -> None:
    with pytest.raises(Refused) as caught:
        resolve_range("bytes=1000-", 1000, is_standard=True)
    assert (caught.value.code, caught.value.headers) == ("InvalidRange", {"Content-Range": "bytes */1000"})


@pytest.mark.parametrize(("header", "by_default", "standard"), RANGES)
def test_both_range_behaviours(header: str | None, by_default: object, standard: object) -> None:
    assert resolved(header, 1000, is_standard=False) == by_default
    assert resolved(header, 1000, is_standard=True) == standard


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-1"])
def test_an_empty_object_has_no_ranges(header: str) -> None:
    assert resolved(header, 0, is_standard=False) is WHOLE
    assert resolved(header, 0, is_standard=True) == REFUSED


@given(st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2000), st.booleans())
def test_a_range_is_never_empty_and_never_outside_the_object(header: str, size: int, is_standard: bool) -> None:
    span = resolved(header, size, is_standard=is_standard)
    if isinstance(span, tuple):
        assert 0 <= span[0] < span[1] <= size


ETAG = "0A" * 16
MODIFIED = 1741964966
BEFORE, THEN, AFTER = (f"Fri, 14 Mar 2025 15:09:{second} GMT" for second in (25, 26, 27))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"if-match": f'"{ETAG}"'},
        {"if-match": ETAG.lower()},
        {"if-match": f'"other", "{ETAG}"'},
        {"if-match": "*"},
        {"if-match": ETAG, "if-unmodified-since": BEFORE},
        {"if-unmodified-since": THEN},
        {"if-unmodified-since": "not a date"},
        {"if-none-match": '"other"'},
        {"if-none-match": "other", "if-modified-since": AFTER},
        {"if-modified-since": BEFORE},
        {"if-modified-since": "not a date"},
    ],
)
def test_a_condition_that_holds_lets_the_request_through(headers: dict[str, str]) -> None:
    check_conditions(headers, ETAG, MODIFIED)
    check_conditions({f"x-{name}": value for name, value in headers.items()}, ETAG, MODIFIED, "x-")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": '"other"'}, 412),
        ({"if-match": ""}, 412),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-none-match": f'"{ETAG}"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-modified-since": THEN}, 304),
        ({"if-match": "other", "if-none-match": ETAG}, 412),
    ],
)
def test_a_condition_that_does_not_hold_stops_it(headers: dict[str, str], status: int) -> None:
    with pytest.raises(Refused) as caught:
        check_conditions(headers, ETAG, MODIFIED)
    assert caught.value.status == status
    check_conditions(headers, ETAG, MODIFIED, "x-")
