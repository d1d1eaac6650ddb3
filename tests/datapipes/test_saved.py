"""Saved indexes that are damaged, or that somebody else has written."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes.saved import SavedListing
from osstorchconnector.errors import OssError
from osstorchconnector.objects.index_layout import MAGIC, Batch, pack_block

GOOD = Batch("bucket/", ["a", "b"], [1, 2], None, b"")


def rows(path: Path, *blocks: bytes) -> list[str]:
    path.write_bytes(MAGIC + b"".join(blocks))
    listing = SavedListing(OssClient("http://127.0.0.1:9"), str(path))
    return [batch.base + tail for batch in listing.batches(b"") for tail in batch.tails]


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    assert rows(tmp_path / "index", pack_block(GOOD), pack_block(GOOD)) == ["bucket/a", "bucket/b"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "bucket/",
        "bucket//a",
        "bucket/" + "k" * 1024,
        "evil.example/key",
        "a\r\nHost: evil/key",
        "../etc/passwd",
        "bucket",
        "",
        "B/key",
    ],
)
@pytest.mark.parametrize("others", [["bucket/x", "bucket/y"], []])
def test_a_name_that_is_no_objects_is_refused(tmp_path: Path, name: str, others: list[str]) -> None:
    names = [*others, name]
    with pytest.raises(OssError, match="the saved index .*index, byte 8: "):
        rows(tmp_path / "index", pack_block(Batch("", names, [1] * len(names), None, b"")))


@pytest.mark.parametrize("position", range(0, 32, 4))
@pytest.mark.parametrize("value", [0, 1, 7, 1 << 31, (1 << 32) - 1])
def test_counts_that_are_not_true_are_an_error_or_harmless(tmp_path: Path, position: int, value: int) -> None:
    block = bytearray(pack_block(GOOD._replace(labels=["cat", "dog"])))
    struct.pack_into("=I", block, position, value)
    try:
        found = rows(tmp_path / "index", bytes(block))
    except OssError:
        return
    assert all(name.startswith("bucket/") for name in found)


def test_a_block_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    block = bytearray(pack_block(GOOD))
    struct.pack_into("=I", block, 4, 0xFFFFFFF8)
    with pytest.raises(OssError, match="damaged at byte 8"):
        rows(tmp_path / "index", bytes(block))
