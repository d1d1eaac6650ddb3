"""An append-only file of JSON lines: what a bucket holds, in the order it came to hold it.

One line is one `write`, so a server that is killed leaves either the whole line or a torn last one, which reading
cuts off. Keys are JSON strings in it and never part of a path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..local_files import written_whole

Entry = dict[str, Any]


def encode_entry(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


class Journal:
    """The journal at `path`, open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)
        self._size = self._file.tell()

    @classmethod
    def begin(cls, path: Path, entries: Iterable[Entry]) -> Journal:
        """Put a journal of these entries at `path`, atomically replacing the one that may be there."""
        with written_whole(path) as file:
            file.writelines(map(encode_entry, entries))
        return cls(path)

    def append(self, *entries: Entry) -> None:
        """Write the entries at the end, all of them or, with an `OSError`, none."""
        data = b"".join(map(encode_entry, entries))
        try:
            if self._file.write(data) != len(data):
                raise OSError(f"no room left for {self._path}")
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Close and unlink the file."""
        self.close()
        self._path.unlink()


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries at `path`, and cut off a last line that was not written whole."""
    with open(path, "rb") as file:
        whole_bytes = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            yield _decode(line, path, whole_bytes)
            whole_bytes += len(line)
    if whole_bytes != path.stat().st_size:
        os.truncate(path, whole_bytes)


def _decode(line: bytes, path: Path, position: int) -> Entry:
    try:
        entry: Entry = json.loads(line)
    except ValueError as error:
        raise OSError(f"{path} is damaged at byte {position}: {error}") from error
    return entry
