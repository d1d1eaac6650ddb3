"""Headers of tars without an index: whatever the tar looks like, its entries; and with how many requests."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tar.conftest import PutTar, tar_of

from osstorchconnector import OssObjectChangedError, OssTarError
from osstorchconnector.client.client import OssClient
from osstorchconnector.tar.headers import TarEntry, entries
from osstorchconnector.tar.scan import scan
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import parse_uri


def scanned(bucket: OssBucket, uri: str) -> list[TarEntry]:
    client, place = OssClient(**bucket.options), parse_uri(uri)
    return list(scan(client, place, client.head(place)))


def read(tar: bytes) -> list[TarEntry]:
    return list(entries(lambda start, size: tar[start : start + size]))


def named(sizes: list[int], name: str = "{:05}.bin") -> dict[str, bytes]:
    return {name.format(number): bytes(size) for number, size in enumerate(sizes)}


def of_all_sizes(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [int(rng.lognormvariate(11, 2)) % 3_000_000 for _ in range(60)]


SMALL_TAR = tar_of(named([100] * 50))


def without_magic() -> bytes:
    """Return a tar as they were before POSIX."""
    tar = bytearray(tar_of(named([150_000] * 40)))
    for entry in read(bytes(tar)):
        old = sum(tar[entry.start + 257 : entry.start + 265])
        tar[entry.start + 257 : entry.start + 265] = bytes(8)
        checksum = int(tar[entry.start + 148 : entry.start + 154], 8) - old
        tar[entry.start + 148 : entry.start + 154] = b"%06o" % checksum
    return bytes(tar)


SHAPES: dict[str, Callable[[], bytes]] = {
    "small": lambda: tar_of(named([700] * 3000)),
    "large": lambda: tar_of(named([300_000] * 100)),
    "one": lambda: tar_of(named([3_000_000])),
    "large, then small": lambda: tar_of(named([4_000_000, *[1000] * 3000])),
    "small, then large": lambda: tar_of(named([*[1000] * 300, *[900_000] * 12])),
    "by turns": lambda: tar_of(named([400_000, 10, 200] * 60)),
    "long names, pax": lambda: tar_of(named([200_000] * 100, "n" * 300 + "{:05}"), 2),
    "very long names": lambda: tar_of(named([200_000] * 50, "n" * 9000 + "{:05}"), 1),
    "tars in a tar": lambda: tar_of({f"{number}.tar": SMALL_TAR * 3 for number in range(80)}),
    "without magic": without_magic,
    "without end": lambda: tar_of(named([200_192] * 70))[: 70 * (512 + 200_192)],
    **{f"all sizes {seed}": lambda seed=seed: tar_of(named(of_all_sizes(seed)), seed % 3) for seed in range(6)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_entries_are_those_of_the_headers_one_after_the_other(
    oss_bucket: OssBucket, put_tar: PutTar, shape: str
) -> None:
    tar = SHAPES[shape]()
    assert scanned(oss_bucket, put_tar("a.tar", tar)) == read(tar)


def test_bodies_of_large_members_are_passed_over(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    tar = tar_of(named([600_000] * 96))
    uri = put_tar("a.tar", tar)
    oss_bucket.server.fail("GetObject", "latency", seconds=0.005)
    oss_bucket.server.reset_counters()
    assert scanned(oss_bucket, uri) == read(tar)
    counters = oss_bucket.server.counters()
    assert counters.bytes_out < len(tar) // 10
    # One for each header, and for each of three segments up to four in search of the first.
    assert counters.requests["GetObject"] <= 96 + 16
    assert counters.max_concurrency["GetObject"] >= 3


def test_far_away_small_bodies_are_fetched_with_the_headers(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    tar = tar_of(named([100_000] * 160))
    uri = put_tar("a.tar", tar)
    oss_bucket.server.fail("GetObject", "latency", seconds=0.02)
    oss_bucket.server.reset_counters()
    assert scanned(oss_bucket, uri) == read(tar)
    counters = oss_bucket.server.counters()
    assert counters.requests["GetObject"] <= 1 + len(tar) // (4 << 20) + 1
    assert counters.max_concurrency["GetObject"] >= 4


def test_one_entry_takes_one_request(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    client, uri = OssClient(**oss_bucket.options), parse_uri(put_tar("a.tar", tar_of(named([100_000] * 100))))
    stat = client.head(uri)
    oss_bucket.server.reset_counters()
    with_one = scan(client, uri, stat)
    assert next(with_one).name == "00000.bin"
    with_one.close()
    assert oss_bucket.server.counters().requests["GetObject"] == 1


@pytest.mark.parametrize("size", [1000, 300_000])
def test_what_comes_before_the_damage_is_there(oss_bucket: OssBucket, put_tar: PutTar, size: int) -> None:
    tar = bytearray(tar_of(named([size] * 100)))
    want = read(bytes(tar))
    tar[want[70].start] ^= 1
    client, uri = OssClient(**oss_bucket.options), parse_uri(put_tar("a.tar", bytes(tar)))
    found = []
    with pytest.raises(OssTarError, match="there is no header"):
        found.extend(scan(client, uri, client.head(uri)))
    assert found == want[:70]


def test_a_tar_that_is_replaced_meanwhile_is_an_error(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    client, uri = OssClient(**oss_bucket.options), parse_uri(put_tar("a.tar", tar_of(named([300_000] * 100))))
    found = scan(client, uri, client.head(uri))
    next(found)
    put_tar("a.tar", tar_of(named([300_001] * 100)))
    with pytest.raises(OssObjectChangedError):
        list(found)
