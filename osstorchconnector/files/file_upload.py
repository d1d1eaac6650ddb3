"""A file that is uploaded as it is made, from blocks of memory that need not be copied: in one request, or in parts."""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Sequence

from ..client.client import OssClient
from ..client.clocks import wait_running
from ..client.flight import RunningTasks
from ..client.operations import Operations
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, crc32, crc64
from ..protocol.values import Buffer, StoredObject
from ..uri import OssUri
from .part_sizes import first_part_bytes
from .upload import ABORT_SECONDS, MultipartUpload

# Blocks up to this size are copied and joined: they are too short to be sent one by one.
SMALL_BLOCK_BYTES = 8 * 1024

_logger = logging.getLogger(__name__)


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
        self._part_bytes = self._upload.next_part_bytes(self._first_part_bytes, self.position)


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
