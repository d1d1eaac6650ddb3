"""A few whole numbers that the processes of a job share: the epoch, say, which workers that live on must learn of.

They lie in a small file like the tables of objects (see index_file.py), which is made when a number is first written.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import OssConfigError
from .claims import claim
from .index_file import Owner, choose_folder, is_alive, locked, new_path, open_own, this_process

_NUMBER = struct.Struct("=q")


class SharedNumbers:
    """Numbers by place, at first those in `initial` and 0; copies have the same ones while the maker lives.

    A copy that is unpickled after that, or on another machine, begins with the numbers as they were when it was
    pickled, and has them for itself.
    """

    def __init__(self, *, folder: str = "", initial: Mapping[int, int] = MappingProxyType({})) -> None:
        self._folder = folder
        self._begin(dict(initial))

    def get(self, place: int) -> int:
        """Return the number at `place`."""
        return self._read().get(place, 0)

    def set(self, place: int, number: int) -> None:
        """Write the number at `place`, for all to see."""
        with self._file() as file:
            self._write(file, place, number)

    def add(self, place: int, amount: int) -> int:
        """Add to the number at `place`, which others may do at the same time; return the sum."""
        with self._file() as file, locked(file):
            sum_ = _stored(file).get(place, 0) + amount
            self._write(file, place, sum_)
        return sum_

    def __getstate__(self) -> dict[str, Any]:
        return {
            "folder": self._folder,
            "owner": tuple(self._owner),
            "path": str(self._path),
            "numbers": self._read(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder = state["folder"]
        owner = Owner(*state["owner"])
        if is_alive(owner):
            self._share(owner, Path(state["path"]), state["numbers"])
        else:
            self._begin(state["numbers"])

    def _begin(self, initial: dict[int, int]) -> None:
        owner = this_process()
        self._share(owner, new_path(choose_folder(self._folder), owner), initial)

    def _share(self, owner: Owner, path: Path, initial: dict[int, int]) -> None:
        self._owner, self._path, self._initial = owner, path, initial
        self._claim = claim(owner, path)

    def _read(self) -> dict[int, int]:
        if not self._path.exists():
            return dict(self._initial)
        with self._file() as file:
            return {**self._initial, **_stored(file)}

    @contextlib.contextmanager
    def _file(self) -> Any:
        is_new = not self._path.exists()
        file = open_own(self._path)
        try:
            if is_new:
                for place, number in self._initial.items():
                    self._write(file, place, number)
            yield file
        finally:
            os.close(file)

    def _write(self, file: int, place: int, number: int) -> None:
        try:
            os.lseek(file, place * _NUMBER.size, os.SEEK_SET)
            os.write(file, _NUMBER.pack(number))
        except OSError as error:
            raise OssConfigError(f"{self._path} can't be written: {error.strerror}; name another indexDir") from error


def _stored(file: int) -> dict[int, int]:
    os.lseek(file, 0, os.SEEK_SET)
    data = os.read(file, os.fstat(file).st_size)
    whole = len(data) - len(data) % _NUMBER.size
    return {place: number for place, (number,) in enumerate(_NUMBER.iter_unpack(data[:whole]))}
