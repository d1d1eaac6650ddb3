from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar.conftest import PutTar, tar_of

from osstorchconnector import OssIntegrityError, OssIterableDataset
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat
from osstorchconnector.tar.headers import BLOCK_BYTES, TarEntry, is_plain_header, next_entry
from osstorchconnector.tar.ranges import RUN_BYTES, Arrival, Ranges
from osstorchconnector.testing import OssBucket

STAT = ObjectStat(RUN_BYTES, "etag", None)
# Ranges of several MiB, and of some the last one is short: 4 to a range.
MEMBERS = {f"{number:03}.bin": bytes([number]) * 1_000_000 for number in range(30)}


def test_memory_is_used_again_when_all_members_are_copied() -> None:
    ranges = Ranges()
    memory = ranges.take()
    memory[:4] = b"abcd"
    arrival = Arrival(ranges, memory, Download(STAT, ByteSpan(100, 104), b"", 0), 2)
    assert arrival.read(101, 2) == b"bc"
    assert arrival.read(103, 9) == b"d"
    arrival.note_copied()
    assert ranges.take() is not memory
    arrival.note_copied()
    assert arrival.read(100, 4) == b""
    assert ranges.take() is memory


def test_bytes_of_their_own_are_left_alone() -> None:
    arrival = Arrival(Ranges(), None, Download(STAT, ByteSpan(0, 3), b"abc", 0), 1)
    arrival.note_copied()
    assert arrival.read(0, 3) == b"abc"


def test_a_range_counts_for_more_where_oss_is_near() -> None:
    ranges = Ranges()
    assert (ranges.weight(100), ranges.weight(100, is_of_chunk=True)) == (1600, 200)
    for seconds, weight, of_chunk in ((0.5, 100, 100), (0.005, 500, 200), (0.5, 500, 200), (0.001, 1600, 200)):
        ranges.note(seconds)
        assert (ranges.weight(100), ranges.weight(100, is_of_chunk=True)) == (weight, of_chunk)


@pytest.mark.parametrize("how", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 10}])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_members_keep_their_bytes_while_memory_is_used_again(
    oss_bucket: OssBucket, put_tar: PutTar, how: dict[str, Any], is_grouped: bool
) -> None:
    uri = put_tar("a.tar", tar_of(MEMBERS))
    group: dict[str, Any] = {"group_by": "basename"} if is_grouped else {}
    dataset = OssIterableDataset.from_tar(uri, None, **oss_bucket.options, **how, **group)
    for _ in range(2):
        items = list(dataset)
        found = [item["bin"] if is_grouped else item for item in items]
        assert {data.key: data.read() for data in found} == MEMBERS


# --- the CRC-64 of a tar that is read whole


def with_a_folder(files: dict[str, bytes]) -> bytes:
    """Return a tar that begins as `tar cf x.tar folder/` writes it."""
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    return folder.tobuf(tarfile.GNU_FORMAT) + tar_of(files)


@pytest.mark.parametrize(("make", "requests"), [(tar_of, 0), (with_a_folder, 2)])
def test_a_tar_that_was_read_in_order_is_checked(
    oss_bucket: OssBucket, put_tar: PutTar, make: Callable[[dict[str, bytes]], bytes], requests: int
) -> None:
    uri = put_tar("a.tar", make(MEMBERS), "full")
    dataset = OssIterableDataset.from_tar(uri, None, **oss_bucket.options)
    bytes_of_all = sum(map(len, MEMBERS.values()))
    for fault in ("", "flip"):
        oss_bucket.server.reset_counters()
        if fault:  # a byte of a body, which nothing else would notice
            oss_bucket.server.fail("GetObject", fault, key="a.tar", at=700_000, times=1, after=2)
        found, error = [], None
        try:
            found.extend(dataset)
        except OssIntegrityError as raised:
            error = raised
        assert (error is not None) == bool(fault)
        assert len(found) == len(MEMBERS) - (2 if fault else 0)  # those of the last range
        sizes = [entry.bytes_out for entry in oss_bucket.server.counters().log if entry.key == "a.tar" and entry.range]
        if not fault:
            assert sum(size < 100_000 for size in sizes) == requests
            assert sum(sizes) < bytes_of_all + 100_000
    assert "OSS says" in str(error)


def test_what_is_wrong_with_a_tar_may_be_skipped(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", tar_of(MEMBERS), "full")
    dataset = OssIterableDataset.from_tar(uri, None, **oss_bucket.options, on_error="skip")
    oss_bucket.server.fail("GetObject", "wrong_crc", key="a.tar")
    assert len(list(dataset)) == len(MEMBERS) - dataset.skipped_objects
    assert dataset.skipped_objects


def test_bytes_for_the_check_that_do_not_come_are_only_logged(
    oss_bucket: OssBucket, put_tar: PutTar, caplog: pytest.LogCaptureFixture
) -> None:
    uri = put_tar("a.tar", with_a_folder(MEMBERS), "full")
    dataset = OssIterableDataset.from_tar(uri, None, **oss_bucket.options)
    assert len(list(dataset)) == len(MEMBERS)
    ranges = len([entry for entry in oss_bucket.server.counters().log if entry.key == "a.tar" and entry.range])
    oss_bucket.server.fail("GetObject", "AccessDenied", key="a.tar", after=ranges - 2)
    assert len(list(dataset)) == len(MEMBERS)
    assert "not checked as a whole" in caplog.text


@pytest.mark.parametrize("how", [{"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 10}])
def test_a_tar_in_another_order_is_not_checked(oss_bucket: OssBucket, put_tar: PutTar, how: dict[str, Any]) -> None:
    dataset = OssIterableDataset.from_tar(put_tar("a.tar", tar_of(MEMBERS), "full"), None, **oss_bucket.options, **how)
    oss_bucket.server.fail("GetObject", "wrong_crc", key="a.tar")
    assert len(list(dataset)) == len(MEMBERS)


def test_each_of_several_tars_is_checked(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uris = [put_tar(f"{name}.tar", tar_of(MEMBERS), "full") for name in "ab"]
    dataset = OssIterableDataset.from_tar(uris, None, **oss_bucket.options)
    oss_bucket.server.fail("GetObject", "wrong_crc", key="a.tar")
    with pytest.raises(OssIntegrityError, match=r"a\.tar"):
        list(dataset)


def header(name: str, size: int, **fields: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=110)


@given(NAMES, st.integers(0, 1 << 34), NAMES, st.integers(0, 1 << 34), st.sampled_from(b"012345Lx\0"))
def test_a_plain_header_is_what_stands_there(name: str, size: int, other: str, other_size: int, kind: int) -> None:
    block = header(name, size, type=bytes([kind]), mtime=12345)[-BLOCK_BYTES:]
    if is_plain := is_plain_header(block, name, size):
        found = next_entry(lambda start, count: block[start - 1024 : start - 1024 + count], 1024)
        assert found == TarEntry(name, True, 1024, 1536, size)
    if kind == ord("0") and len(name.encode()) < 100 and size < 1 << 33 and not name.endswith("/"):
        assert is_plain
    if (name, size) != (other, other_size):
        assert not is_plain_header(block, other, other_size)
    for place in (0, 124, 150, 156, 345, 400):
        damaged = bytearray(block)
        damaged[place] ^= 1
        assert not is_plain_header(bytes(damaged), name, size)
    assert not is_plain_header(block[:300], name, size)
