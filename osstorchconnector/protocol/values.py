"""The values that travel between the client and its callers, and the buffers that callers pass for bytes.

Values are frozen and do no I/O. A caller may pass anything bytes-like; the functions at the end turn it into `Buffer`s
of single bytes, without a copy where memory is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import repeat
from operator import attrgetter
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple, overload

from ..errors import OssUsageError

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

Buffer = bytes | bytearray | memoryview
Pairs = tuple[tuple[str, str], ...]
_SHOWN_BYTES = 64


class ByteSpan(NamedTuple):
    """A range of an object's bytes: from the byte at `start` up to, but not including, the byte at `stop`.

    `start` and `stop` are positions in bytes from the beginning of the object. It is a named tuple.
    """

    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of bytes in the span."""
        return self.stop - self.start

    def header(self) -> str:
        """Return the value of the HTTP header `Range` that requests this span, such as `bytes=0-99`."""
        return f"bytes={self.start}-{self.stop - 1}"


class Request(NamedTuple):
    """One OSS request, before it is signed and put on a wire.

    `key` and `query` are decoded; `query` may be in any order, a value may be empty. `headers` are those the
    operation needs; date, token, authorization, host, length and user agent are added when it is sent.
    """

    operation: str
    method: str
    bucket: str = ""
    key: str = ""
    query: Pairs = ()
    headers: Pairs = ()
    body: tuple[Buffer, ...] = ()

    def __repr__(self) -> str:
        place = f"{self.operation!r}, {self.method!r}, {self.bucket!r}, {self.key!r}, {self.query!r}"
        return f"Request({place}, {self.headers!r}, ({', '.join(map(shown_bytes, self.body))}))"


class ObjectStat(NamedTuple):
    """What OSS says about an object in the head of an answer.

    `size` and `crc64` are those of the whole object, even when only a span was requested. `crc64` is `None` where OSS
    has none (copies, old objects). `last_modified` is in seconds since the epoch. Only `head` tells `storage_class` and
    `metadata`.
    """

    size: int
    etag: str
    crc64: int | None
    last_modified: float | None = None
    content_type: str = ""
    object_type: str = ""
    storage_class: str = ""
    metadata_pairs: Pairs = ()

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that the user has stored with the object, by name without `x-oss-meta-`."""
        return dict(self.metadata_pairs)


class Download(NamedTuple):
    """Bytes of an object: `span` is their position in it, `crc64` is the CRC-64 of these bytes.

    `body` is empty when the bytes were written into the caller's memory.
    """

    stat: ObjectStat
    span: ByteSpan
    body: bytes
    crc64: int

    def __repr__(self) -> str:
        return f"Download(stat={self.stat!r}, span={self.span!r}, body={shown_bytes(self.body)}, crc64={self.crc64})"


class ListedObject(NamedTuple):
    """One entry of a listing; `last_modified` as OSS writes it, `2025-03-14T15:09:26.000Z`."""

    key: str
    size: int
    etag: str
    last_modified: str

    def is_prefix(self) -> bool:
        """Say whether this is a folder: the common beginning of several keys, and no object."""
        return False


class ListedPrefix(ListedObject):
    """A folder in a listing with a `delimiter`: `key` is the common prefix, the other fields are empty."""

    __slots__ = ()

    def __new__(cls, key: str) -> ListedPrefix:
        return tuple.__new__(cls, (key, 0, "", ""))

    def __getnewargs__(self) -> tuple[str]:
        return (self.key,)

    def __repr__(self) -> str:
        return f"ListedPrefix(key={self.key!r})"

    def is_prefix(self) -> bool:
        return True


class ListedObjects(Sequence[ListedObject]):
    """The entries of a page in columns: a `ListedObject` is made only when it is asked for."""

    __slots__ = ("etags", "keys", "modified", "sizes")

    def __init__(self, keys: list[str], sizes: list[int], etags: list[str], modified: list[str]) -> None:
        self.keys, self.sizes, self.etags, self.modified = keys, sizes, etags, modified

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> ListedObject: ...
    @overload
    def __getitem__(self, index: slice) -> list[ListedObject]: ...
    def __getitem__(self, index: int | slice) -> ListedObject | list[ListedObject]:
        if isinstance(index, slice):
            return list(self)[index]
        return ListedObject(self.keys[index], self.sizes[index], self.etags[index], self.modified[index])

    def __iter__(self) -> Iterator[ListedObject]:
        # What `ListedObject._make` does, without a Python call for each.
        rows = zip(self.keys, self.sizes, self.etags, self.modified, strict=True)
        return map(tuple.__new__, repeat(ListedObject), rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | ListedObjects) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __reduce__(self) -> tuple[type[ListedObjects], tuple[list[str], list[int], list[str], list[str]]]:
        return ListedObjects, (self.keys, self.sizes, self.etags, self.modified)

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self[:3]))
        return f"[{first}]" if len(self) <= 3 else f"[{first}, ... {len(self)} in all]"


class ListPage(NamedTuple):
    """One answer of a listing, in UTF-8 byte order; `next_token` is empty on the last page."""

    objects: Sequence[ListedObject]
    prefixes: list[str]
    next_token: str

    def entries(self) -> Iterator[ListedObject]:
        """Iterate over objects and common prefixes, these as `ListedPrefix`, in the order of their keys."""
        if not self.prefixes:
            return iter(self.objects)
        return merge(self.objects, map(ListedPrefix, self.prefixes), key=attrgetter("key"))

    @property
    def keys(self) -> list[str]:
        """The keys of the objects."""
        return self.objects.keys if isinstance(self.objects, ListedObjects) else [listed.key for listed in self.objects]

    @property
    def sizes(self) -> list[int]:
        """The sizes of the objects."""
        if isinstance(self.objects, ListedObjects):
            return self.objects.sizes
        return [listed.size for listed in self.objects]


class StoredObject(NamedTuple):
    """OSS's answer to a write: `crc64` is that of the stored object, `None` where OSS sends none."""

    etag: str
    crc64: int | None


class UploadedPart(NamedTuple):
    """A part of a multipart upload that OSS has acknowledged.

    `last_modified` is set in listings only, as OSS writes it.
    """

    number: int
    etag: str
    size: int
    crc64: int
    last_modified: str = ""


class ListedUpload(NamedTuple):
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: str


class BegunUpload(NamedTuple):
    """An upload that an earlier run has begun, and its first parts, without a gap."""

    upload_id: str
    parts: Sequence[UploadedPart]


class ListedBucket(NamedTuple):
    """A bucket of the account; `created` as OSS writes it, `region` such as `cn-hangzhou`, "" if OSS does not say."""

    name: str
    created: str
    region: str


# --- bytes that callers pass


def flat_buffers(where: str, body: BytesLike | Iterable[BytesLike]) -> tuple[Buffer, ...]:
    """Return buffers of single bytes for `body`, one bytes-like object or several, without a copy if possible.

    Raises `OssUsageError`, which says what to pass instead, for anything else. `where` names operation and object.
    """
    if isinstance(body, (bytes, bytearray)):
        return (body,)
    if isinstance(body, str):
        raise OssUsageError(f"{where}: bytes are wanted, not a text: pass text.encode()")
    if isinstance(body, PathLike):
        raise OssUsageError(
            f"{where}: bytes are wanted, not the name of a file: pass path.read_bytes(), or copy the file to an "
            "OssCheckpoint.writer if it is large"
        )
    whole = _flat(body)
    if whole is not None:
        return (whole,)
    if not isinstance(body, Iterable) or isinstance(body, Mapping):
        raise OssUsageError(f"{where}: something bytes-like is wanted, not {_called(body)}")
    return tuple(_flat_part(where, part) for part in body)


def _flat_part(where: str, part: object) -> Buffer:
    flat = part if isinstance(part, (bytes, bytearray)) else _flat(part)
    if flat is None:
        raise OssUsageError(f"{where}: several bytes-like objects are wanted, and among them is {_called(part)}")
    return flat


def _flat(data: object) -> Buffer | None:
    """Return the bytes of a bytes-like object, or None for any other. Memory that is not contiguous is copied."""
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # a ValueError: an array of dates, which has no bytes to show
        return None
    if view.c_contiguous and view.ndim == 1 and view.format == "B":
        return data if isinstance(data, memoryview) else view
    if not view.nbytes:
        return b""  # a view with a zero in its shape can't be cast
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        return view.tobytes()


def writable_memory(into: BytesLike) -> memoryview:
    """Return memory to fill, as single bytes; `OssUsageError` if it is read-only or not contiguous."""
    view = memoryview(into)
    if view.readonly or not view.c_contiguous:
        raise OssUsageError("into: memory is wanted that can be written to and has no gaps")
    return view.cast("B")


def shown_bytes(data: Buffer) -> str:
    """Return what a `repr` shows for bytes: the bytes if there are at most 64, else their number."""
    size_bytes = data.nbytes if isinstance(data, memoryview) else len(data)
    return f"<{size_bytes} bytes>" if size_bytes > _SHOWN_BYTES else repr(bytes(data))


def _called(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
