"""Folders as buckets: which file an object is, what errors of files mean, and folders listed as OSS lists.

OSS lists in the order of the bytes of keys. Links to files and folders are followed, unless a link leads to a folder
that it is in. What is neither a file nor a folder (a pipe, a broken link) is left out.

The parts of an upload are files, too, in a folder beside the one that they will become:

    checkpoints/.osstorchconnector-<id>.upload/target     the name of that file
    checkpoints/.osstorchconnector-<id>.upload/00001      a part
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import OssError, OssServiceError, OssUriError, service_error
from ...local_files import written_whole
from ...protocol.checksum import CHECKSUM_BLOCK_BYTES, crc64
from ...protocol.values import Buffer, ListedObject, ListedPrefix, ListedUpload, ObjectStat, UploadedPart
from ...uri import OssUri

# Names of files that are not complete yet: no objects. `local_files` has such names, too.
UNFINISHED = ".osstorchconnector-"

NO_ENDPOINT = (
    "endpoint is empty, so objects are files of this machine: for OSS pass endpoint='https://oss-<region>.aliyuncs.com'"
)

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_FOLDER = re.compile(re.escape(UNFINISHED) + r"([0-9a-f]{32})\.upload")
Ancestors = tuple[tuple[int, int], ...]  # device and number of each folder
_PART = re.compile(r"\d{5}")
_TARGET = "target"
_COPY_BYTES = 8 << 20

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def folder_of(bucket: str) -> Path:
    """Return the folder that is a bucket."""
    return Path("/", checked_name(bucket, f"/{bucket}/"))


def path_of(uri: OssUri) -> Path:
    """Return the file that an object is. Raises `OssUriError` for a key that could lead out of its folder."""
    where = uri.path
    return folder_of(uri.bucket).joinpath(*(checked_name(name, where) for name in uri.key.split("/")))


def checked_name(name: str, where: str) -> str:
    """Return `name`; `OssUriError` if it is not the name of one file or folder in its folder."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OssUriError(f"no local file can be named {where!r}: {name!r} is no name in a folder")
    if name.startswith(UNFINISHED):
        raise OssUriError(f"no object can be named {where!r}: names of unfinished files begin with {UNFINISHED!r}")
    return name


def opened(path: Path) -> io.FileIO:
    """Open a file for reading, without waiting for the writer of a pipe.

    Links are followed. Whatever is not a file is not there.
    """
    file = io.FileIO(os.open(path, _OPEN), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENOENT, "not a file", str(path))
    return file


def etag_of(found: os.stat_result) -> str:
    """Return what a file has another one of when it was changed or replaced."""
    return f"{found.st_mtime_ns:X}-{found.st_size:X}-{found.st_ino:X}"


def head_of(found: os.stat_result) -> ObjectStat:
    """Return a file's head. Nobody keeps a CRC-64 of it."""
    return ObjectStat(found.st_size, etag_of(found), None, found.st_mtime, "", "Normal")


@contextlib.contextmanager
def errors_of(operation: str, uri: OssUri) -> Iterator[None]:
    """Turn errors of files into those that OSS's answers become."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OssError):
            raise
        raise _service_error(operation, uri, error) from error


def _service_error(operation: str, uri: OssUri, error: OSError) -> OssServiceError:
    if error.errno in _NOT_THERE:
        status, code = 404, "NoSuchKey" if folder_of(uri.bucket).is_dir() else "NoSuchBucket"
    elif error.errno == errno.EEXIST:
        status, code = 409, "FileAlreadyExists"
    elif error.errno in _REFUSED:
        status, code = 403, "AccessDenied"
    else:
        status, code = 500, "InternalError"
    reason = error.strerror or type(error).__name__
    if code == "NoSuchBucket":
        reason = f"there is no folder /{uri.bucket}"
    return refused(operation, uri, status, code, reason)


def refused(operation: str, uri: OssUri, status: int, code: str, reason: str) -> OssServiceError:
    """Return the error that OSS's refusal with this status and code becomes."""
    text = f"{operation} {uri.path}: {status} {code} ({reason}); {NO_ENDPOINT}"
    return service_error(text, status=status, code=code, request_id="")


def listed_time(seconds: float) -> str:
    """Return a time as OSS writes it in listings."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def is_upload_folder(name: str) -> bool:
    """Say whether a folder of this name holds the parts of an upload."""
    return _FOLDER.fullmatch(name) is not None


class LocalUpload:
    """A multipart upload to `path`: `OSError` of `ENOENT` if there is none with this id."""

    def __init__(self, path: Path, upload_id: str) -> None:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise OSError(errno.ENOENT, "there is no such upload")
        self._folder = path.parent / f"{UNFINISHED}{upload_id}.upload"
        self._path = path

    @classmethod
    def begin(cls, path: Path) -> str:
        """Begin an upload and return its id."""
        upload_id = secrets.token_hex(16)
        upload = cls(path, upload_id)
        upload._folder.mkdir(mode=0o777)
        with written_whole(upload._folder / _TARGET) as file:
            file.write(path.name.encode())
        return upload_id

    def put(self, number: int, pieces: Iterable[Buffer]) -> str:
        """Store a part, and return its ETag."""
        self._check()
        with written_whole(self._part(number)) as file:
            write_all(file, pieces)
        return etag_of(self._part(number).stat())

    def complete(self, parts: Sequence[UploadedPart], *, replaces: bool) -> str:
        """Make the file of the parts, at once, and return its ETag. The upload is gone then."""
        self._check()
        with written_whole(self._path, replaces=replaces) as file:
            for part in parts:
                copy_file(self._part(part.number), file, part.size)
        self.abort()
        return etag_of(self._path.stat())

    def abort(self) -> None:
        """Delete the parts; an upload that is gone stays so."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def parts(self) -> list[UploadedPart]:
        """Return the parts that are here, by number."""
        self._check()
        found = []
        for path in sorted(path for path in self._folder.iterdir() if _PART.fullmatch(path.name)):
            with path.open("rb") as file:
                status, crc = os.fstat(file.fileno()), 0
                while block := file.read(CHECKSUM_BLOCK_BYTES):
                    crc = crc64(block, crc)
            found.append(
                UploadedPart(int(path.name), etag_of(status), status.st_size, crc, listed_time(status.st_mtime))
            )
        return found

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:05}"

    def _check(self) -> None:
        if not self._folder.is_dir():
            raise OSError(errno.ENOENT, "there is no such upload")


def write_all(file: IO[bytes], pieces: Iterable[Buffer]) -> None:
    for piece in pieces:
        file.write(piece)


def copy_file(path: Path, target: IO[bytes], size_bytes: int) -> None:
    """Write all bytes of a file to another one; `OSError` if they are not as many."""
    with opened(path) as source:
        copied = 0
        while data := source.read(_COPY_BYTES):
            target.write(data)
            copied += len(data)
    if copied != size_bytes:
        raise OSError(errno.EIO, f"{path.name} has {copied} bytes, not {size_bytes}")


class Asked(NamedTuple):
    """What to list: keys with this prefix, behind a key; with a delimiter (`/`), folders are named and not entered."""

    prefix: str
    start_after: str = ""
    has_delimiter: bool = False


def listed(bucket: Path, asked: Asked) -> Iterator[ListedObject]:
    """Yield the objects, and with a delimiter the folders, that are asked for; `OSError` if there is no bucket."""
    top = asked.prefix[: asked.prefix.rfind("/") + 1]
    if ".." in top.split("/") or "." in top.split("/") or "//" in f"/{top}":
        raise OssUriError(f"no local folder can be named {str(bucket / top)!r}")
    found = bucket.stat()
    try:
        ancestors: Ancestors = ((found.st_dev, found.st_ino),)
        for end in (place for place, letter in enumerate(top) if letter == "/"):
            found = (bucket / top[:end]).stat()
            ancestors += ((found.st_dev, found.st_ino),)
        yield from _below(bucket / top, top, asked, ancestors)
    except (FileNotFoundError, NotADirectoryError):
        return  # a prefix without objects


class _Child(NamedTuple):
    key: str
    entry: os.DirEntry[str]


def _below(folder: Path, folder_key: str, asked: Asked, ancestors: Ancestors) -> Iterator[ListedObject]:
    for key, entry in _children(folder, folder_key):
        if key.endswith("/"):
            yield from _in_folder(key, entry, asked, ancestors)
        elif key > asked.start_after and key.startswith(asked.prefix):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found = entry.stat()
                yield ListedObject(key, found.st_size, etag_of(found), listed_time(found.st_mtime))


def _in_folder(key: str, entry: os.DirEntry[str], asked: Asked, ancestors: Ancestors) -> Iterator[ListedObject]:
    is_wanted = key.startswith(asked.prefix) or asked.prefix.startswith(key)
    is_past = key <= asked.start_after and not asked.start_after.startswith(key)
    if not is_wanted or is_past or (asked.has_delimiter and key == asked.start_after):
        return
    try:
        found = entry.stat()
        identity = (found.st_dev, found.st_ino)
        if identity in ancestors:
            return  # a link to a folder that it is in
        inside = _below(Path(entry.path), key, asked, (*ancestors, identity))
        if asked.has_delimiter and key.startswith(asked.prefix):
            inside = _below(Path(entry.path), key, asked._replace(has_delimiter=False), (*ancestors, identity))
            if next(inside, None) is not None:
                yield ListedPrefix(key)
            return
        yield from inside
    except FileNotFoundError:
        return  # deleted meanwhile


def _children(folder: Path, folder_key: str) -> list[_Child]:
    """Return what is in a folder, in the order of keys; those of folders end in `/`."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(UNFINISHED):
                continue
            if entry.is_dir():
                found.append(_Child(f"{folder_key}{entry.name}/", entry))
            elif entry.is_file():
                found.append(_Child(folder_key + _utf8(entry), entry))
    return sorted(found, key=lambda child: child.key)


def _utf8(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise OssUriError(f"no object can be named as this file, which is not UTF-8: {entry.path!r}") from None
    return entry.name


def _unfinished_folders(bucket: Path, prefix: str) -> Iterator[Path]:
    """Yield the folders of unfinished uploads of keys that may begin with `prefix`."""
    top = bucket / prefix[: prefix.rfind("/") + 1]
    for folder, names, _ in os.walk(top):
        uploads = sorted(name for name in names if name.startswith(UNFINISHED))
        names[:] = [name for name in names if not name.startswith(UNFINISHED)]
        yield from (Path(folder, name) for name in uploads)


def unfinished_uploads(bucket: Path, prefix: str) -> Iterator[ListedUpload]:
    """Yield the uploads to keys with a prefix."""
    for folder in _unfinished_folders(bucket, prefix):
        identity = _FOLDER.fullmatch(folder.name)
        target = folder / _TARGET
        if identity is None or not target.is_file():
            continue
        key = (folder.parent.relative_to(bucket) / target.read_text(encoding="utf-8")).as_posix()
        if key.startswith(prefix):
            yield ListedUpload(key, identity[1], listed_time(folder.stat().st_mtime))
