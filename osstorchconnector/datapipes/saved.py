"""Saved indexes: a listing or a manifest of an earlier job, in a local file or in OSS."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

from ..client.client import OssClient
from ..errors import OssConfigError, OssError
from ..objects.filters import Filter, Filtered, as_keep, described
from ..objects.index import ObjectIndex, SharedIndex
from ..objects.index_filling import Source, Wait
from ..objects.index_layout import MAGIC, Batch, block_bytes, read_block
from ..objects.reader import OssReader
from ..objects.writer import OssWriter
from ..uri import parse_object_uri
from .common import NumberedObjects

_HEAD_BYTES = 32
_WRITE_BYTES = 8 << 20


def save_index(index: ObjectIndex, place: str | os.PathLike[str], client: OssClient) -> None:
    """Store a table of objects, when it is complete, in a local file or an `oss://bucket/key`: whole or not at all."""
    blocks = index.blocks()
    with _written(os.fspath(place), client) as file:
        file.write(MAGIC)
        for start in range(0, len(blocks), _WRITE_BYTES):
            file.write(blocks[start : start + _WRITE_BYTES])


class SavedListing:
    """The rows of a saved index, block by block."""

    def __init__(self, client: OssClient, place: str) -> None:
        self._client, self._place = client, place

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        offset = int(cursor or len(MAGIC))
        with _opened(self._place, self._client) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise OssError(f"{self._place} is not a saved index, or one of another version or kind of machine")
            whole = file.seek(0, os.SEEK_END)
            file.seek(offset)
            while head := file.read(_HEAD_BYTES):
                size = block_bytes(head)
                if not size or size > whole - offset:
                    raise OssError(f"the saved index {self._place} is damaged at byte {offset}")
                body = file.read(size - len(head))
                try:
                    batch = read_block(memoryview(head + body), b"%d" % (offset + size))
                except OssError as error:
                    raise OssError(f"the saved index {self._place}, byte {offset}: {error}") from error
                offset += size
                yield batch


class OssSavedObjects(NumberedObjects):
    """Yield an `ObjectInfo` for each object of a saved index; nothing is listed."""

    def __init__(self, place: str | os.PathLike[str], client: OssClient, *, filter: Filter = None) -> None:
        name, keep = os.fspath(place), as_keep(filter)
        if name.startswith("oss://"):
            parse_object_uri(name)
        source: Source = SavedListing(client, name)
        if keep is not None:
            source = Filtered(source, keep)
        super().__init__(SharedIndex(source, folder=client.config.index_dir), f"saved {name} {described(keep)}")


@contextlib.contextmanager
def _opened(place: str, client: OssClient) -> Iterator[Any]:
    if place.startswith("oss://"):
        with OssReader(client, parse_object_uri(place), transfer=client.config.dataset) as reader:
            yield reader
        return
    try:
        file = open(place, "rb")
    except OSError as error:
        raise OssConfigError(f"the saved index {place} can't be opened: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _written(place: str, client: OssClient) -> Iterator[OssWriter | IO[bytes]]:
    if place.startswith("oss://"):
        with OssWriter(client, parse_object_uri(place), transfer=client.config.checkpoint) as writer:
            yield writer
        return
    beside = Path(f"{place}.{os.getpid()}.unfinished")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(place)
    except OSError as error:
        raise OssConfigError(f"the index can't be saved: {place}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
