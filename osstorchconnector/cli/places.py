"""Sources and targets of commands: objects, prefixes of keys, files, folders. No I/O beyond asking what a path is.

A key may hold anything. It becomes a local path only if it stays below the folder that the user named.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import OssUsageError
from ..local_files import is_name_below
from ..redaction import printable
from ..uri import OssUri, parse_uri

_BEGINNING = "oss://"


class Item(NamedTuple):
    """Something to transfer: its name below the source, size in bytes, and last change in seconds since 1970."""

    name: str
    size: int
    modified: float


class Local(NamedTuple):
    """A file or folder of this machine."""

    path: str

    def __str__(self) -> str:
        return self.path

    def is_folder(self) -> bool:
        """Whether it is a folder, or is written as one."""
        return self.path.endswith(os.sep) or Path(self.path).is_dir()

    def below(self, name: str) -> Local:
        """Return the place of an item below this folder. Raises `OssUsageError` for a name that leads out of it."""
        if not is_name_below(name):
            raise OssUsageError(
                f"{printable(name)!r} can't be a path below {self.path}: copy this object alone, to a file"
            )
        return Local(str(Path(self.path, *name.split("/"))))

    @property
    def name(self) -> str:
        return Path(self.path).name


class Remote(NamedTuple):
    """An object, or a prefix of keys."""

    uri: OssUri

    def __str__(self) -> str:
        return self.uri.shown

    def is_folder(self) -> bool:
        """Whether it is written as a folder: a bucket, or a key that ends in `/`."""
        return not self.uri.key or self.uri.key.endswith("/")

    def folder(self) -> Remote:
        """Return the prefix of everything below this place."""
        return self if self.is_folder() else Remote(OssUri(self.uri.bucket, f"{self.uri.key}/"))

    def below(self, name: str) -> Remote:
        """Return the place of an item below this prefix."""
        return Remote(parse_uri(f"{_BEGINNING}{self.uri.bucket}/{self.uri.key}{name}"))

    @property
    def name(self) -> str:
        return PurePosixPath(self.uri.key).name


Place = Local | Remote


def place(text: str) -> Place:
    """Return what the user means: an OSS URI, or else a local path."""
    return Remote(parse_uri(text)) if text.startswith(_BEGINNING) else Local(text)


def remote(text: str) -> Remote:
    """Return the object or prefix that the user names. Raises `OssUsageError` for a local path."""
    found = place(text)
    if isinstance(found, Local):
        raise OssUsageError(f"{text!r} is no OSS URI: write oss://bucket/key")
    return found


def target_of(target: Place, source: Place) -> Place:
    """Return where a single file or object goes: into `target` if that is a folder, else to `target`."""
    if not target.is_folder():
        return target
    return target.folder().below(source.name) if isinstance(target, Remote) else target.below(source.name)
