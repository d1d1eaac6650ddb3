from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar.cxx_connector.recipe import FOLDER, TARS

from osstorchconnector.errors import OssTarError
from osstorchconnector.tar.headers import BLOCK_BYTES, entries
from osstorchconnector.tar.index_file import (
    HEAD_BYTES,
    MemberDetails,
    TarIndex,
    _crc32c,
    index_of,
    pack_index,
    table_bytes,
    unpack_index,
)

GENERATED = (FOLDER / "generated.tar").read_bytes()


def index_of_tar(data: bytes, **known: object) -> TarIndex:
    return index_of(entries(lambda start, size: data[start : start + size]), **known)  # type: ignore[arg-type]


def held(name: str) -> bytes:
    return Path(FOLDER, f"{name}.idx").read_bytes()


@pytest.mark.parametrize("name", [*TARS, "generated"])
def test_an_index_without_details_has_the_bytes_that_the_cxx_connector_writes(name: str) -> None:
    data = GENERATED if name == "generated" else TARS[name]()
    assert pack_index(index_of_tar(data)) == held(name)
    assert list(unpack_index(held(name), len(data)).bounds) == list(index_of_tar(data).bounds)


def test_details_come_back_and_leave_the_rest_as_it_was() -> None:
    index = index_of_tar(GENERATED, tar_size=len(GENERATED), etag="0A" * 16)
    data = pack_index(index)
    found = unpack_index(data, len(GENERATED))
    assert found.details is not None and index.details is not None
    assert list(map(list, found.details)) == list(map(list, index.details))
    assert (found.tar_size, found.etag) == (len(GENERATED), "0A" * 16)
    table = held("generated")[HEAD_BYTES:]
    assert data[HEAD_BYTES:].startswith(table)
    assert HEAD_BYTES + table_bytes(data[:HEAD_BYTES]) == len(data)


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 1 << 33)), max_size=20))
def test_any_index_comes_back(members: list[tuple[str, int]]) -> None:
    names = [name.encode("utf-8", "replace").decode() for name, _ in members]
    bounds, bodies = [0], []
    for _, size in members:
        bodies.append(bounds[-1] + BLOCK_BYTES)
        bounds.append(bodies[-1] + -(-size // BLOCK_BYTES) * BLOCK_BYTES)
    index = TarIndex(bounds, MemberDetails(names, bodies, [size for _, size in members]), bounds[-1], "etag")
    found = unpack_index(pack_index(index), bounds[-1])
    assert list(found.bounds) == bounds
    if members:
        assert found.details is not None
        assert list(map(list, found.details)) == [names, bodies, [size for _, size in members]]


def test_very_long_names_are_left_out() -> None:
    index = TarIndex([0, 1024], MemberDetails(["n" * 5000], [512], [1]), 2048, "etag")
    assert unpack_index(pack_index(index), 2048).details is None
    assert unpack_index(pack_index(index._replace(etag="e" * 65)), 2048).tar_size == -1


def test_a_member_can_be_too_large_for_the_format() -> None:
    with pytest.raises(OssTarError, match="larger than 2 TiB"):
        pack_index(TarIndex([0, BLOCK_BYTES << 32]))


def resealed(data: bytes, at: int, new: bytes) -> bytes:
    """Return the index with other bytes in its head, and the right checksum of that."""
    head = data[:at] + new + data[at + len(new) : HEAD_BYTES - 4]
    return head + struct.pack("<I", _crc32c(head + bytes(4))) + data[HEAD_BYTES:]


def with_table(numbers: list[int]) -> bytes:
    table = zlib.compress(struct.pack(f"<{len(numbers)}I", *numbers))
    head = resealed(held("plain")[:HEAD_BYTES], 20, struct.pack("<QQI", len(table), len(numbers), _crc32c(table)))
    return head + table


FULL = pack_index(TarIndex([0, 1024], MemberDetails(["a"], [512], [5]), 20480, "E"))


def with_details(raw: bytes) -> bytes:
    details = zlib.compress(raw)
    start = HEAD_BYTES + struct.unpack_from("<Q", FULL, 20)[0]
    fields = struct.pack("<IQQ", _crc32c(details), len(details), len(raw))
    return resealed(FULL[:start], 52, fields) + details


def details_of(sizes: int = 5, body: int = 512, length: int = 1, name: bytes = b"a") -> bytes:
    return struct.pack("<QII", sizes, body, length) + name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no index of a tar"),
        (b"TarIdx\0\0", "no index of a tar"),
        (bytes(600), "no index of a tar"),
        (held("plain")[:100] + b"x" + held("plain")[101:], "its head is damaged"),
        (resealed(held("plain"), 8, b"\2\0"), "its format is 2.1"),
        (held("plain")[:-1], "table is damaged or cut off"),
        (held("plain")[:-1] + b"x", "table is damaged or cut off"),
        (resealed(held("plain"), 28, struct.pack("<Q", 10)), "not the size that it states"),
        (resealed(held("plain"), 28, struct.pack("<Q", 12)), "not the size that it states"),
        (resealed(held("plain"), 28, struct.pack("<Q", 1 << 60)), "the tar of 20480 bytes can't"),
        (resealed(held("plain"), 28, bytes(8)), "the tar of 20480 bytes can't"),
        (with_table([0, 1, 0, 2]), "its members end at"),
        (with_table([0, 41]), "its members end at"),
        (resealed(FULL, 72, struct.pack("<Q", 1)), "made of a tar of 1 bytes, and this one has 20480"),
        (resealed(FULL, 64, struct.pack("<Q", 1 << 40)), "longer than names can be"),
        (with_details(b""), "of fewer members"),
        (with_details(details_of(sizes=513)), "no room"),
        (with_details(details_of(body=0)), "no room"),
        (with_details(details_of(sizes=(1 << 64) - 1)), "no room"),
        (with_details(details_of(length=2)), "not the lengths"),
        (with_details(details_of(name=b"\xff")), "not UTF-8"),
        (FULL[:-1], "details is damaged or cut off"),
    ],
)
def test_a_damaged_index_says_why(data: bytes, said: str) -> None:
    with pytest.raises(OssTarError, match=said):
        unpack_index(data, 20480)


def test_a_table_that_is_no_zlib_is_damaged() -> None:
    table = b"not zlib"
    head = resealed(held("plain")[:HEAD_BYTES], 20, struct.pack("<QQI", len(table), 2, _crc32c(table)))
    with pytest.raises(OssTarError, match="table is damaged"):
        unpack_index(head + table, 20480)


def test_details_of_a_later_version_are_passed_over() -> None:
    assert unpack_index(resealed(FULL, 48, b"\2"), 20480) == TarIndex([0, 1024])
