"""Writing the data files of one rank: all are sent at once, and all of them are stored or none.

`RankSave` decides which bytes go into which file, `FileUpload` sends one file.
"""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Callable, Sequence

import torch
from torch.distributed.checkpoint._extension import StreamTransformExtension
from torch.distributed.checkpoint.filesystem import SerializationFormat, _StorageInfo
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from ..client.client import OssClient
from ..client.clocks import wait_running
from ..client.flight import RunningTasks
from ..client.operations import Operations
from ..errors import OssConfigError, OssError
from ..files.upload import ABORT_SECONDS, MultipartUpload, first_part_bytes, next_part_bytes
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, crc32, crc64
from ..protocol.values import Buffer, StoredObject
from ..uri import OssUri
from .data_files import (
    Add,
    SafetensorsEntry,
    descriptors_of,
    item_bytes,
    resolve_object,
    resolve_tensor,
    safetensors_header,
    transformed,
    write_tensor,
)
from .folder import SAFETENSORS_SUFFIX, TORCH_SUFFIX, CheckpointFolder, SaveTicket, quietly
from .storage import Progress
from .tensors import memory

# Blocks up to this size are copied and joined: they are too short to be sent one by one.
SMALL_BLOCK_BYTES = 8 * 1024

_logger = logging.getLogger(__name__)


class RankSave:
    """The files that one rank writes in one save."""

    def __init__(
        self,
        folder: CheckpointFolder,
        ticket: SaveTicket,
        planner: SavePlanner,
        *,
        serialization: SerializationFormat,
        extensions: Sequence[StreamTransformExtension],
        progress: Progress,
    ) -> None:
        if extensions and serialization == SerializationFormat.SAFETENSORS:
            raise OssConfigError("safetensors files hold tensors as they are: leave the extensions out")
        self._folder, self._ticket, self._planner = folder, ticket, planner
        self._is_safetensors = serialization == SerializationFormat.SAFETENSORS
        self._extensions, self._progress = extensions, progress
        self._uploads: list[FileUpload] = []
        self.names: list[str] = []
        self.results: list[WriteResult] = []

    @property
    def size_bytes(self) -> int:
        """How many bytes the files have so far."""
        return sum(upload.position for upload in self._uploads)

    def write(self, groups: Sequence[Sequence[WriteItem]], *, meanwhile: Callable[[], object]) -> None:
        """Store each group of items as a file. Raises, and leaves nothing, if that fails or is interrupted.

        `meanwhile` is called when the last data is on its way; an error that it raises is one of the save.
        """
        memory_bytes = self._folder.client.config.upload_memory_bytes // max(len(groups), 1)
        try:
            for number, items in enumerate(groups):
                upload = self._begin(number, memory_bytes)
                (self._write_safetensors if self._is_safetensors else self._write_torch)(upload, items)
                upload.end_of_data()
            meanwhile()
            for upload in self._uploads:
                upload.begin_finish()
            for upload in self._uploads:
                upload.finish()
        except BaseException:
            self._undo()
            raise

    def _begin(self, number: int, memory_bytes: int) -> FileUpload:
        suffix = SAFETENSORS_SUFFIX if self._is_safetensors else TORCH_SUFFIX
        self.names.append(self._ticket.file_name(number, suffix))
        upload = FileUpload(self._folder.client, self._folder.member(self.names[-1]), memory_bytes=memory_bytes)
        self._uploads.append(upload)
        return upload

    def _write_torch(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        descriptors = descriptors_of(self._extensions) if self._extensions else None
        for item in items:
            start = upload.position
            write = functools.partial(self._write_item, item)
            if self._extensions:
                upload.add(transformed(write, self._extensions))
            else:
                write(upload.add)
            self._note(item, start, upload.position - start, descriptors)

    def _write_item(self, item: WriteItem, add: Add) -> None:
        if item.type == WriteItemType.BYTE_IO:
            add(resolve_object(self._planner, item))
        else:
            write_tensor(resolve_tensor(self._planner, item), add)

    def _write_safetensors(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        objects: dict[int, Buffer] = {}
        entries = []
        for number, item in enumerate(items):
            if item.type == WriteItemType.BYTE_IO:
                data = objects[number] = resolve_object(self._planner, item)
                entries.append(SafetensorsEntry(item.index.fqn, torch.uint8, (len(data),), (0,), len(data)))
            else:
                entries.append(_entry(item))
        head, positions = safetensors_header(entries)
        upload.add(head)
        for number, (item, entry) in enumerate(zip(items, entries, strict=True)):
            data = objects.pop(number) if number in objects else memory(resolve_tensor(self._planner, item))
            if len(data) != entry.size_bytes or upload.position != positions[number]:
                raise OssError(f"{entry.name} has {len(data)} bytes where the plan has {entry.size_bytes}")
            upload.add(data)
            self._note(item, positions[number], entry.size_bytes, None)

    def _note(self, item: WriteItem, start: int, length: int, descriptors: list[str] | None) -> None:
        info = _StorageInfo(self.names[-1], start, length, transform_descriptors=descriptors)
        self.results.append(WriteResult(index=item.index, size_in_bytes=length, storage_data=info))
        if self._progress.is_watched:
            self._progress.reach(sum(upload.stored_bytes for upload in self._uploads))

    def _undo(self) -> None:
        self._progress.close()
        give_up(self._uploads)
        quietly(functools.partial(self._folder.remove, self.names))


def _entry(item: WriteItem) -> SafetensorsEntry:
    assert item.tensor_data is not None
    chunk = item.tensor_data.chunk
    shape = tuple(chunk.sizes) if chunk is not None else tuple(item.tensor_data.size)
    offsets = tuple(chunk.offsets) if chunk is not None else (0,) * len(shape)
    return SafetensorsEntry(item.index.fqn, item.tensor_data.properties.dtype, shape, offsets, item_bytes(item))


class FileUploadState(enum.Enum):
    """How a file goes to OSS.

    SHORT -- a part is full --> IN_PARTS         as a multipart upload
    SHORT -- `end_of_data` ---> IN_ONE_REQUEST   as one PutObject
    IN_PARTS, IN_ONE_REQUEST -- `finish` --> STORED

    `abort` may come in any state and changes none: nothing but `wait_until_gone` is called after it.
    """

    SHORT = "short"
    IN_PARTS = "in parts"
    IN_ONE_REQUEST = "in one request"
    STORED = "stored"


class FileUpload:
    """A file that is written front to back: one PutObject if it is short, else parts sent while more is added.

    Only small blocks are copied. Nobody may change the others until `finish` has returned, or `wait_until_gone` has
    after `abort`. The file appears with `finish`.
    """

    def __init__(self, client: OssClient, uri: OssUri, *, memory_bytes: int) -> None:
        config, transfer = client.config, client.config.checkpoint
        self.uri = uri
        self.position = 0
        self._first_part_bytes = self._part_bytes = first_part_bytes(config.part_bytes, memory_bytes)
        self._upload = MultipartUpload(
            client,
            uri,
            concurrency=transfer.upload_concurrency,
            memory_bytes=memory_bytes,
            workers=transfer.prefetch_worker,
        )
        self._put_tasks = RunningTasks[None, StoredObject](client, transfer.prefetch_worker)
        self._blocks: list[Buffer] = []  # of the next part, or of the whole file
        self._blocks_bytes = self._crc64 = 0
        self._state = FileUploadState.SHORT

    @property
    def stored_bytes(self) -> int:
        """How many bytes OSS has acknowledged so far."""
        if self._state is FileUploadState.IN_PARTS:
            return self._upload.stored_bytes
        is_stored = self._state is FileUploadState.STORED or self._put_tasks.has_ended_task
        return self.position if is_stored else 0

    def add(self, block: Buffer) -> int:
        """Append bytes and return their CRC-32; waits while too much is under way. Raises the error of a part."""
        self.position += len(block)
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, bytearray) and len(block) <= SMALL_BLOCK_BYTES:
            crc = self._sum(block, 0)
            last += block
            self._blocks_bytes += len(block)
        else:
            crc = self._add_block(block)
        if self._blocks_bytes >= self._part_bytes:
            self._send_part()
        return crc

    def end_of_data(self) -> None:
        """Send what was not sent yet, without waiting for it; add nothing after this."""
        if self._state is FileUploadState.IN_PARTS:
            if self._blocks:
                self._send_part()
        else:
            self._state = FileUploadState.IN_ONE_REQUEST
            body, self._blocks = self._blocks, []
            self._put_tasks.begin(None, functools.partial(_put, self.uri, body, self._crc64))

    def begin_finish(self) -> None:
        """After `end_of_data`: wait until all parts are stored, and publish the file without waiting for that."""
        if self._state is FileUploadState.IN_PARTS:
            self._upload.begin_completion()

    def finish(self) -> None:
        """After `end_of_data`: wait until the file is published. Raises the error of a request."""
        if self._state is FileUploadState.IN_PARTS:
            self._upload.complete()
        else:
            self._put_tasks.wait_for_one()
        self._state = FileUploadState.STORED

    def abort(self) -> None:
        """Give the file up, without waiting until OSS knows. A file that was put must be deleted."""
        self._put_tasks.stop()
        self._upload.abort()

    def wait_until_gone(self, seconds: float) -> bool:
        """After `abort`: wait until no request runs and OSS knows; False if that takes longer than twice `seconds`."""
        is_gone = self._put_tasks.drain(seconds)
        is_gone = self._upload.wait_until_gone(seconds) and is_gone
        self._put_tasks.forget()
        self._blocks.clear()
        return is_gone

    def _add_block(self, block: Buffer) -> int:
        view, crc = memoryview(block), 0
        known_bytes = self._blocks_bytes + len(view)
        if self._state is FileUploadState.SHORT and known_bytes > self._part_bytes:
            self._upload.begin(-(-known_bytes // self._part_bytes))  # OSS answers while the first part is summed
        while len(view) > (room := self._part_bytes - self._blocks_bytes):
            crc = self._sum(view[:room], crc)
            self._blocks.append(view[:room])
            self._blocks_bytes += room
            view = view[room:]
            self._send_part()
        crc = self._sum(view, crc)
        self._blocks.append(bytearray(view) if len(view) <= SMALL_BLOCK_BYTES else view)
        self._blocks_bytes += len(view)
        return crc

    def _sum(self, block: Buffer, crc: int) -> int:
        """Go on with the part's CRC-64 and, from `crc`, the block's CRC-32."""
        if len(block) <= CHECKSUM_BLOCK_BYTES:
            self._crc64 = crc64(block, self._crc64)
            return crc32(block, crc)
        view = memoryview(block)
        for start in range(0, len(view), CHECKSUM_BLOCK_BYTES):
            crc = self._sum(view[start : start + CHECKSUM_BLOCK_BYTES], crc)
        return crc

    def _send_part(self) -> None:
        self._state = FileUploadState.IN_PARTS
        self._upload.send_constant(self._blocks, self._crc64)
        self._blocks, self._blocks_bytes, self._crc64 = [], 0, 0
        self._part_bytes = next_part_bytes(self._first_part_bytes, self.position)


def give_up(uploads: Sequence[FileUpload], seconds: float = ABORT_SECONDS) -> None:
    """Abort files, all at once; then wait until OSS knows, for about `seconds` whatever their number.

    Logs a warning for each that is still being aborted then: its requests may still read what was added.
    """
    for upload in uploads:
        upload.abort()
    if not wait_running(lambda seconds: all(upload.wait_until_gone(seconds) for upload in uploads), seconds):
        for upload in uploads:
            if not upload.wait_until_gone(0.0):  # drops the memory of those that were not waited for above
                _logger.warning("the upload of %s is still being aborted after %g s", upload.uri.shown, seconds)


async def _put(uri: OssUri, body: list[Buffer], crc: int, operations: Operations) -> StoredObject:
    return await operations.put(uri, body, crc64=crc)
