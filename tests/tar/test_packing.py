"""A tar that is written: its headers are tarfile's, and nothing is written twice."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from osstorchconnector import OssTarError
from osstorchconnector.tar.headers import entries, next_entry
from osstorchconnector.tar.packing import END, Output, header_of, pack
from osstorchconnector.tar.sources import Piece, TarSource

NAMES = ["/bucket/key", "a" * 100, "a" * 101, "x" * 300, "folder/", "\x7f\n", "", "é/日本", "nul\0inside", "\udcff"]


def source(name: str, size: int) -> TarSource:
    return TarSource(name, size, Path(name), "")


@pytest.mark.parametrize("size", [0, 1, 511, 512, 100_000, 8**11 - 1, 8**11, 1 << 40])
@pytest.mark.parametrize("name", NAMES)
def test_a_header_is_that_of_tarfile_and_read_as_expected(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    header, entry = header_of(source(name, size), 1024)
    assert header == member.tobuf(tarfile.PAX_FORMAT)
    found = next_entry(lambda start, count: header[start : start + count], 0)
    assert found is not None
    assert entry == found._replace(start=1024, body=1024 + found.body)


def bodies(sizes: list[int]) -> dict[str, bytes]:
    return {f"{number:03}": bytes([number % 256]) * size for number, size in enumerate(sizes)}


def packed(files: dict[str, bytes], there: int = 0) -> tuple[bytes, int]:
    """Return the tar, but for the first `there` bytes, and how often something was written."""
    file = io.BytesIO()
    writes = []
    write = file.write
    file.write = lambda data: (writes.append(len(data)), write(data))[1]  # type: ignore[method-assign, assignment]
    sources = [source(name, len(data)) for name, data in files.items()]
    pieces: list[list[Piece]] = [[(data[:70_000], None), (data[70_000:], None)] for data in files.values()]
    pack(Output(file, there), sources, pieces, 0, lambda _: None)
    return file.getvalue(), len(writes)


def test_short_pieces_are_joined() -> None:
    tar, writes = packed(bodies([100] * 1000))
    assert len(tar) == 1000 * 1024 + len(END)
    assert writes <= 5
    _, writes = packed(bodies([50_000] * 10))
    assert writes <= 21  # a body, and what is between two


@pytest.mark.parametrize("sizes", [[0, 1, 511, 512, 513], [100_000, 3, 20_000], [16 << 10, (16 << 10) - 1, 200_000]])
def test_a_tar_goes_on_behind_any_byte(sizes: list[int]) -> None:
    files = bodies(sizes)
    whole, _ = packed(files)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == files  # type: ignore[union-attr]
    for there in {0, 1, 511, 512, 513, 17_000, len(whole) // 2, len(whole) - 1, len(whole)}:
        if there <= len(whole):
            assert packed(files, there)[0] == whole[there:]


def test_the_entries_are_those_that_a_reader_finds() -> None:
    files = bodies([5, 0, 600])
    sources = [source(name, len(data)) for name, data in files.items()]
    file, sizes = io.BytesIO(), []
    found = pack(Output(file, 0), sources, [[(data, None)] for data in files.values()], 0, sizes.append)
    tar = file.getvalue()
    assert found == list(entries(lambda start, count: tar[start : start + count]))
    assert sizes == [5, 0, 600]


@pytest.mark.parametrize("data", [b"", b"1234", b"123456"])
def test_a_body_of_another_size_is_an_error(data: bytes) -> None:
    with pytest.raises(OssTarError, match="a had 5 bytes, and now"):
        pack(Output(io.BytesIO(), 0), [source("a", 5)], [[(data, None)]], 0, lambda _: None)
