"""The oracle's own reading of ranges, hosts and checksums, against the tables of the protocol."""

from __future__ import annotations

import pytest

from oracle import rules
from oracle.checksum import crc64_of
from oracle.messages import bucket_of_host, read_target


@pytest.mark.parametrize(
    ("header", "by_default", "standard"),
    [
        ("bytes=0-499", True, True),
        ("bytes=500-", True, True),
        ("bytes=-200", True, True),
        ("bytes=999-999", True, True),
        ("bytes=500-2000", False, True),
        ("bytes=1000-2000", False, True),
        ("bytes=1000-", False, True),
        ("bytes=-2000", False, True),
        ("byte=0-4", False, False),
        ("bytes=-", False, False),
        ("bytes=4-2", False, False),
        ("bytes=0-1,3-4", False, False),
        ("", False, False),
    ],
)
def test_a_range_counts_or_does_not(header: str, by_default: bool, standard: bool) -> None:
    assert rules.effective_range(header, 1000, is_standard=False) == (header if by_default else "")
    assert rules.effective_range(header, 1000, is_standard=True) == (header if standard else "")


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("127.0.0.1:8080", ""),
        ("[::1]:8080", ""),
        ("localhost:80", ""),
        ("photos.oss-cn-test.aliyuncs.com", "photos"),
        ("photos.localhost:8080", "photos"),
    ],
)
def test_a_host_names_a_bucket_or_an_address(host: str, bucket: str) -> None:
    assert bucket_of_host(host) == bucket


def test_a_target_is_decoded_once() -> None:
    target = "/bucket-1/a%2Fb+c%2520//d?prefix=x%2By+z&delete&empty="
    assert read_target("127.0.0.1", target) == (
        "bucket-1",
        "a/b+c%20//d",
        {"prefix": "x+y z", "delete": "", "empty": ""},
    )
    assert read_target("bucket-1.localhost", "/a/b") == ("bucket-1", "a/b", {})


@pytest.mark.parametrize(
    ("body", "crc"),
    [
        (b"", 0),
        (b"a", 3675645893302102789),
        (b"123456789", 11051210869376104954),
        (b"hello world\n", 14969823782951187105),
        (bytes(1024), 14085117335336199948),
    ],
)
def test_crc64_agrees_with_the_vectors(body: bytes, crc: int) -> None:
    assert crc64_of(body) == crc
