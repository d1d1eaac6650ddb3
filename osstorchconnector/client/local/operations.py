"""Operations on files of this machine, as those of `Operations` on objects of OSS.

They run on the loop's thread without a pause: so nothing is written to a caller's memory after it was cancelled. There
are no retries and no audit log. Writes are atomic (`local_files`). A file that is changed while it is read is noticed
by its ETag, which is made of its time, its size and its number in the file system.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from ...errors import OssServiceError, OssUsageError
from ...local_files import written_whole
from ...protocol.answers import PageOrder
from ...protocol.attributes import PLAIN, Attributes
from ...protocol.checksum import CHECKSUM_BLOCK_BYTES, Sum, combine_crc64, crc64
from ...protocol.values import (
    Buffer,
    ByteSpan,
    Download,
    ListedBucket,
    ListedObject,
    ListedUpload,
    ListPage,
    ObjectStat,
    StoredObject,
    UploadedPart,
    flat_buffers,
)
from ...uri import OssUri
from ..memory import Memory, SummedMemory, blocks, fresh_memory
from ..operations import Operations
from ..paging import Ahead, PageTimes
from ..uploads import whole_of
from .folders import (
    Asked,
    LocalUpload,
    copy_file,
    errors_of,
    etag_of,
    folder_of,
    head_of,
    listed,
    opened,
    path_of,
    refused,
    unfinished_uploads,
    write_all,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

_LISTINGS_KEPT = 8


class LocalOperations(Operations):
    """Does with files what the base class does with objects. `client.local` says which file an object is."""

    def __init__(self) -> None:
        # Listings that stand at the end of a page, by its token. The token alone leads there, too, but takes longer.
        self._listings: dict[tuple[OssUri, str, str], Iterator[ListedObject]] = {}
        self.get = self._get

    async def aclose(self) -> None:
        """Do nothing but forget the listings."""
        self._listings.clear()

    def open_ahead(self, bucket: str, count: int) -> None:
        """Do nothing: there are no connections."""

    # reading

    async def _get(
        self,
        uri: OssUri,
        span: ByteSpan | None = None,
        *,
        into: Memory | None = None,
        if_match: str = "",
        checksum: Sum | None = None,
        on_first_byte: Callable[[], None] | None = None,
    ) -> Download:
        with errors_of("GetObject", uri), opened(path_of(uri)) as file:
            stat = head_of(os.fstat(file.fileno()))
            if if_match and stat.etag != if_match:
                raise _changed(uri)
            span = _clipped(uri, span, stat.size)
            if on_first_byte is not None:
                on_first_byte()
            memory = _memory(into, span.size, checksum)
            file.seek(span.start)
            is_whole = _read_into(file, memory, span.size)
            if not is_whole or etag_of(os.fstat(file.fileno())) != stat.etag:
                raise _changed(uri)
        return Download(stat, span, memory.give_out(), memory.crc)

    async def head(self, uri: OssUri) -> ObjectStat:
        with errors_of("HeadObject", uri), opened(path_of(uri)) as file:
            return head_of(os.fstat(file.fileno()))

    # writing

    async def put(
        self,
        uri: OssUri,
        body: BytesLike | Iterable[BytesLike],
        *,
        forbid_overwrite: bool = False,
        crc64: int | None = None,
        attributes: Attributes = PLAIN,
    ) -> StoredObject:
        _refuse_attributes(attributes)
        pieces = flat_buffers(f"PutObject {uri.shown}", body)
        with errors_of("PutObject", uri):
            self._make_folder(uri)
            with written_whole(path_of(uri), replaces=not forbid_overwrite) as file:
                write_all(file, pieces)
        return StoredObject((await self.head(uri)).etag, _crc64_of(pieces) if crc64 is None else crc64)

    async def append(
        self, uri: OssUri, body: BytesLike | Iterable[BytesLike], *, position: int, crc64: int
    ) -> StoredObject:
        pieces = flat_buffers(f"AppendObject {uri.shown}", body)
        size = sum(memoryview(piece).nbytes for piece in pieces)
        path = path_of(uri)
        with errors_of("AppendObject", uri):
            self._make_folder(uri)
            before = path.stat().st_size if path.exists() else 0
            if before != position:
                reason = f"it has {before} bytes, not {position}"
                raise refused("AppendObject", uri, 409, "PositionNotEqualToLength", reason)
            with written_whole(path) as file:
                if before:
                    copy_file(path, file, before)
                write_all(file, pieces)
        return StoredObject((await self.head(uri)).etag, combine_crc64(crc64, _crc64_of(pieces), size))

    async def copy(
        self, source: OssUri, target: OssUri, *, if_match: str = "", forbid_overwrite: bool = False
    ) -> StoredObject:
        if if_match and (await self.head(source)).etag != if_match:
            raise _changed(source)
        path = path_of(source)
        size = (await self.head(source)).size
        with errors_of("CopyObject", target):
            self._make_folder(target)
            with written_whole(path_of(target), replaces=not forbid_overwrite) as file:
                copy_file(path, file, size)
        return StoredObject((await self.head(target)).etag, None)

    async def delete(self, uri: OssUri) -> None:
        with errors_of("DeleteObject", uri):
            path = path_of(uri)
            if path.is_symlink() or not path.is_dir():
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    folder_of(uri.bucket).stat()

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        if isinstance(keys, str):  # whose letters would be deleted
            raise OssUsageError(f"keys: several keys are wanted, not the one text {keys!r}")
        for key in keys:
            await self.delete(OssUri(bucket, key))

    # uploads

    async def create_upload(self, uri: OssUri, *, attributes: Attributes = PLAIN) -> str:
        _refuse_attributes(attributes)
        with errors_of("InitiateMultipartUpload", uri):
            self._make_folder(uri)
            return LocalUpload.begin(path_of(uri))

    async def upload_part(
        self,
        uri: OssUri,
        upload_id: str,
        number: int,
        body: BytesLike | Iterable[BytesLike],
        *,
        crc64: int | None = None,
    ) -> UploadedPart:
        pieces = flat_buffers(f"UploadPart {uri.shown}", body)
        with errors_of("UploadPart", uri):
            etag = LocalUpload(path_of(uri), upload_id).put(number, pieces)
        size = sum(memoryview(piece).nbytes for piece in pieces)
        return UploadedPart(number, etag, size, _crc64_of(pieces) if crc64 is None else crc64)

    async def upload_part_copy(
        self, uri: OssUri, upload_id: str, number: int, source: OssUri, span: ByteSpan, *, if_match: str = ""
    ) -> None:
        download = await self._get(source, span, if_match=if_match)
        await self.upload_part(uri, upload_id, number, download.body)

    async def complete_upload(
        self, uri: OssUri, upload_id: str, parts: Sequence[UploadedPart], *, forbid_overwrite: bool = False
    ) -> StoredObject:
        crc, _ = whole_of(parts)
        with errors_of("CompleteMultipartUpload", uri):
            etag = LocalUpload(path_of(uri), upload_id).complete(parts, replaces=not forbid_overwrite)
        return StoredObject(etag, crc)

    async def abort_upload(self, uri: OssUri, upload_id: str) -> None:
        with errors_of("AbortMultipartUpload", uri):
            LocalUpload(path_of(uri), upload_id).abort()

    async def list_parts(self, uri: OssUri, upload_id: str) -> list[UploadedPart]:
        with errors_of("ListParts", uri):
            return LocalUpload(path_of(uri), upload_id).parts()

    async def list_uploads(self, uri: OssUri) -> list[ListedUpload]:
        with errors_of("ListMultipartUploads", uri):
            return sorted(unfinished_uploads(folder_of(uri.bucket), uri.key))

    # listing

    async def list_page(
        self,
        uri: OssUri,
        *,
        delimiter: str = "",
        start_after: str = "",
        token: str = "",
        max_keys: int = 1000,
        order: PageOrder | None = None,
        ahead: Ahead | None = None,
        times: PageTimes | None = None,
    ) -> ListPage:
        if delimiter not in ("", "/"):
            raise OssUsageError(f"delimiter: {delimiter!r}: folders of files are listed by '/' only")
        asked = time.perf_counter()
        place = self._listings.pop((uri, delimiter, token), None) if token else None
        with errors_of("ListObjectsV2", uri):
            if place is None:
                place = listed(folder_of(uri.bucket), Asked(uri.key, token or start_after, bool(delimiter)))
            found = list(islice(place, max_keys))
            following = next(place, None)
        if times is not None:
            times.note(asked, asked, time.perf_counter())
        next_token = ""
        if following is not None:
            next_token = found[-1].key
            self._keep(uri, delimiter, next_token, chain([following], place))
        objects = [each for each in found if not each.is_prefix()]
        return ListPage(objects, [each.key for each in found if each.is_prefix()], next_token)

    async def server_time(self, uri: OssUri) -> float:
        return float(int(time.time()))

    async def create_bucket(self, bucket: str, *, storage_class: str = "", redundancy: str = "") -> None:
        raise _not_here("create_bucket")

    async def list_buckets(self) -> list[ListedBucket]:
        raise _not_here("list_buckets")

    async def signed_url(self, uri: OssUri, *, method: str = "GET", seconds: int) -> str:
        raise _not_here("signed_url")

    def _keep(self, uri: OssUri, delimiter: str, token: str, place: Iterator[ListedObject]) -> None:
        while len(self._listings) >= _LISTINGS_KEPT:
            del self._listings[next(iter(self._listings))]
        self._listings[uri, delimiter, token] = place

    @staticmethod
    def _make_folder(uri: OssUri) -> None:
        """Make the folders above a file, but not the one that is the bucket: OSS makes no buckets either."""
        path = path_of(uri)
        folder_of(uri.bucket).stat()
        path.parent.mkdir(parents=True, exist_ok=True)


def _clipped(uri: OssUri, span: ByteSpan | None, size: int) -> ByteSpan:
    if span is None or not size:
        if span is not None and span.start:
            raise refused("GetObject", uri, 416, "InvalidRange", "the file is empty")
        return ByteSpan(0, size)
    if span.start >= size:
        raise refused("GetObject", uri, 416, "InvalidRange", f"the file has {size} bytes")
    return ByteSpan(span.start, min(span.stop, size))


def _memory(into: Memory | None, size_bytes: int, checksum: Sum | None) -> SummedMemory:
    if into is not None:
        return SummedMemory(into, checksum)
    store = fresh_memory(size_bytes)
    return SummedMemory(store.getbuffer(), checksum, store)


def _read_into(file: io.FileIO, memory: SummedMemory, size_bytes: int) -> bool:
    """Fill the memory, and sum what comes while it is in the processor's cache; False if the file ends too early."""
    assert memory.memory is not None
    position = 0
    for block in blocks(memory.memory, 0, size_bytes, CHECKSUM_BLOCK_BYTES):
        while len(block):
            count = file.readinto(block)
            if not count:
                return False
            block, position = block[count:], position + count
        memory.sum_up_to(position)
    return True


def _changed(uri: OssUri) -> OssServiceError:
    reason = "the file was changed or replaced since it was first seen"
    return refused("GetObject", uri, 412, "PreconditionFailed", reason)


def _refuse_attributes(attributes: Attributes) -> None:
    """Raise `OssUsageError` for what a file can't keep. The type of its content follows from its name."""
    if attributes.metadata or attributes.storage_class:
        raise _not_here("metadata and storage_class")


def _not_here(what: str) -> OssUsageError:
    return OssUsageError(f"{what}: endpoint is empty, so this client works on files of this machine, which have none")


def _crc64_of(pieces: Iterable[Buffer]) -> int:
    crc = 0
    for piece in pieces:
        crc = crc64(piece, crc)
    return crc
