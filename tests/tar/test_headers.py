from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar.cxx_connector.recipe import TARS, add, made, without_end

from osstorchconnector.errors import OssTarError
from osstorchconnector.tar.headers import (
    BLOCK_BYTES,
    MAX_EXTENSION_BYTES,
    TarEntry,
    entries,
    next_entry,
    padded,
    parse_header,
)

FORMATS = (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)


def entries_of(data: bytes) -> list[TarEntry]:
    return list(entries(lambda start, size: data[start : start + size]))


def members_of(data: bytes) -> list[tuple[str, int, int]]:
    return [(entry.name, entry.body, entry.size) for entry in entries_of(data) if entry.is_member]


def as_tarfile_sees(data: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]


def header(
    name: bytes = b"a", size: bytes = b"00000000001\0", kind: bytes = b"0", magic: bytes = b"ustar\x0000"
) -> bytes:
    """Return a header with fields that `tarfile` would not write."""
    block = name.ljust(100, b"\0") + bytes(24) + size + bytes(12) + b" " * 8 + kind + bytes(100) + magic
    block = block.ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    body = b""
    for record in records:
        length = len(record) + 3
        while len(b"%d " % length) + len(record) + 1 != length:
            length += 1
        body += b"%d %s\n" % (length, record)
    return header(b"pax", b"%011o\0" % len(body), kind) + body + bytes(-len(body) % BLOCK_BYTES)


@pytest.mark.parametrize("name", [name for name in TARS if name != "nothing"])
def test_members_are_those_that_tarfile_sees(name: str) -> None:
    data = TARS[name]()
    assert members_of(data) == as_tarfile_sees(data)


@given(
    format_=st.sampled_from(FORMATS),
    files=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60),
            st.binary(max_size=1500),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_whatever_tarfile_writes_is_read(format_: int, files: list[tuple[str, bytes]]) -> None:
    def build(tar: tarfile.TarFile) -> None:
        for name, body in files:
            add(tar, name, body)

    try:
        data = made(build, format_)
    except ValueError:  # ustar has no room for the name
        return
    found = members_of(data)
    assert [(name, data[body : body + size]) for name, body, size in found] == files


def test_a_tar_of_no_members_has_none() -> None:
    assert entries_of(TARS["nothing"]()) == []


@pytest.mark.parametrize("format_", FORMATS)
def test_a_name_of_more_than_a_hundred_bytes(format_: int) -> None:
    name = "/".join(["folder"] * 20) + "/file"
    assert members_of(made(lambda tar: add(tar, name, b"1"), format_))[0][0] == name


@pytest.mark.parametrize("format_", FORMATS[1:])
def test_a_member_of_more_than_8_gib(format_: int) -> None:
    member = tarfile.TarInfo("large")
    member.size = 9 << 30
    head = member.tobuf(format_)
    entry = next_entry(lambda start, size: head[start : start + size], 0)
    assert entry == TarEntry("large", True, 0, len(head), 9 << 30)
    assert entry.stop == len(head) + (9 << 30)


def test_a_header_without_magic_and_one_with_a_signed_checksum() -> None:
    old = header(b"dir/", b"00000000000\0", b"\0", b"") + header(b"f", kind=b"\0", magic=b"") + b"x" + bytes(511)
    assert [(entry.name, entry.is_member) for entry in entries_of(old)] == [("dir/", False), ("f", True)]
    block = header("\u00e9".encode())
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
    assert parse_header(block[:148] + b"%06o\0 " % signed + block[156:], 0).name == "\u00e9"


def test_a_name_that_is_not_utf_8_is_escaped() -> None:
    assert parse_header(header(b"\xff"), 0).name == "\\xff"


def test_links_have_no_body_whatever_they_say_and_unknown_kinds_have_one() -> None:
    data = header(b"hard", kind=b"1") + header(b"odd", kind=b"Z") + bytes(512) + header(b"f") + b"x" + bytes(511)
    assert [(entry.name, entry.is_member, entry.size) for entry in entries_of(data)] == [
        ("hard", False, 0),
        ("odd", False, 1),
        ("f", True, 1),
    ]


def test_pax_says_name_and_size() -> None:
    data = pax(b"path=other", b"mtime=1.5", b"size=513") + header(b"a", b"00000000000\0") + bytes(1024)
    assert entries_of(data) == [TarEntry("other", True, 0, 1536, 513)]


def test_a_global_header_is_part_of_the_member_behind_it() -> None:
    data = pax(b"comment=hello", kind=b"g") + header()
    assert entries_of(data + bytes(512))[0].start == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\x1f\x8b\x08" + bytes(600), "compressed by gzip"),
        (b"BZh9" + bytes(600), "compressed by bzip2"),
        (b"\xfd7zXZ\0" + bytes(600), "compressed by xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed by zstd"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"no tar" * 100, "no header at its beginning"),
        (b"short", "no header at its beginning"),
        (header() + bytes(512) + b"rubbish" * 100, "no header at byte 1024"),
        (header() + bytes(512) + header()[:100], "cut off in the header at byte 1024"),
        (header(size=b"77777777777\0")[:-1] + b"x", "no header"),
        (header(size=b"0000000000x\0"), "the size in the header at byte 0"),
        (header(size=b"\xff" * 12), "the size in the header at byte 0"),
        (header(size=b"\x80" + b"\xff" * 11), "the size in the header at byte 0"),
        (header(kind=b"S"), "sparse file"),
        (pax(b"GNU.sparse.major=1") + header(), "sparse file"),
        (pax(b"size=-1") + header(), "size that is no number"),
        (pax(b"size=" + b"9" * 19) + header(), "larger than any tar"),
        (pax(b"size=" + b"9" * 20) + header(), "size that is no number"),
        (pax(b"path=all", kind=b"g") + header(), "global header"),
        (pax(b"no equals sign") + header(), "pax header at byte 512 is damaged"),
        (header(b"p", b"00000000003\0", b"x") + b"99 a=b\n" + bytes(505), "pax header at byte 512 is damaged"),
        (header(b"p", b"%011o\0" % (MAX_EXTENSION_BYTES + 1), b"x"), "too many for names"),
        (header(b"p", b"%011o\0" % 700, b"L") + bytes(512), "cut off in the extended header"),
        (pax(b"path=a"), "the header of a member is missing"),
        (pax(b"path=a") + bytes(1024), "the header of a member is missing"),
        (pax(b"path=a") * 17 + header(), "more than 16 extended headers"),
    ],
)
def test_what_is_no_tar_says_why(data: bytes, said: str) -> None:
    with pytest.raises(OssTarError, match=said):
        entries_of(data)


def test_a_tar_without_end_blocks_ends_where_it_ends() -> None:
    data = without_end(TARS["plain"]())
    assert len(entries_of(data)) == 10


@given(st.integers(0, 1 << 40))
def test_bodies_are_filled_up_to_blocks(size: int) -> None:
    assert padded(size) % BLOCK_BYTES == 0
    assert 0 <= padded(size) - size < BLOCK_BYTES
