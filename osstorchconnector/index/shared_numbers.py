"""A few whole numbers that the processes of a job share: the epoch, say, which workers that live on must learn of.

They lie in a small file like the tables of objects (see claims.py), made when it is needed: when a number is written,
or when a copy goes to another process.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import OssError
from .claims import WRITING, Claim, choose_folder, locked, new_path, shared_claim, this_machine, write_all

_NUMBER = struct.Struct("=q")


class SharedNumbers:
    """Numbers by place, at first those in `initial` and 0; copies have the same ones, in all processes of this machine.

    A copy that is unpickled when no process has them any more, or on another machine, begins with the numbers as they
    were when it was pickled, and has them for itself.
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
        with self._file() as file, locked(file, WRITING, self._claim.path):
            sum_ = _stored(file).get(place, 0) + amount
            self._write(file, place, sum_)
        return sum_

    def __getstate__(self) -> dict[str, Any]:
        numbers = self._read()
        if not self._claim.is_in_place():
            raise OssError(
                f"{self._claim.path} has been removed while it was in use, and another process would not find it: name "
                "a folder that nobody clears by indexDir in the config"
            )
        return {
            "folder": self._folder,
            "machine": this_machine(),
            "path": str(self._claim.path),
            "numbers": numbers,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder = state["folder"]
        held = shared_claim(Path(state["path"]), state["machine"])
        if held is None:
            self._begin(state["numbers"])
        else:
            self._claim, self._initial = held, state["numbers"]

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedNumbers:
        return self

    def _begin(self, initial: dict[int, int]) -> None:
        places = range(max(initial, default=-1) + 1)
        content = b"".join(_NUMBER.pack(initial.get(place, 0)) for place in places)
        self._claim, self._initial = Claim(new_path(choose_folder(self._folder)), content), initial

    def _read(self) -> dict[int, int]:
        if not self._claim.is_open and not self._claim.path.exists():
            return dict(self._initial)
        with self._file() as file:
            return {**self._initial, **_stored(file)}

    @contextlib.contextmanager
    def _file(self) -> Iterator[int]:
        file = self._claim.reopened()
        try:
            yield file
        finally:
            os.close(file)

    def _write(self, file: int, place: int, number: int) -> None:
        write_all(file, _NUMBER.pack(number), place * _NUMBER.size, self._claim.path)


def _stored(file: int) -> dict[int, int]:
    os.lseek(file, 0, os.SEEK_SET)
    data = os.read(file, os.fstat(file).st_size)
    whole = len(data) - len(data) % _NUMBER.size
    return {place: number for place, (number,) in enumerate(_NUMBER.iter_unpack(data[:whole]))}
