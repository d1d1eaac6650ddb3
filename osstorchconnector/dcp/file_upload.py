"""One data file of a checkpoint on its way to OSS: pieces of memory go in, parts go out, only crumbs are copied."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future

from ..client.client import OssClient
from ..client.clocks import wait_running
from ..client.flight import RunningTasks
from ..client.operations import Operations
from ..files.upload import MultipartUpload, first_part_bytes, next_part_bytes
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, crc32, crc64
from ..protocol.values import Buffer, StoredObject
from ..uri import OssUri

CRUMB_BYTES = 8 * 1024
ABORT_SECONDS = 10.0


class FileUpload:
    """A file that is written front to back: one PutObject if it is short, else parts sent while more are added.

    What is added must stay as it is until `finish` or `abort` returns. The file appears with `finish`.
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
        self._pieces: list[Buffer] = []
        self._pieces_bytes = self._crc64 = 0
        self._is_in_parts = False
        self._put: Future[StoredObject] | None = None

    @property
    def stored_bytes(self) -> int:
        """How many bytes OSS has acknowledged."""
        if self._put is not None:
            return self.position if self._put.done() else 0
        return self._upload.stored_bytes

    def add(self, piece: Buffer) -> int:
        """Append bytes and return their CRC-32; waits while too much is under way. Raises the error of a part."""
        self.position += len(piece)
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(piece) <= CRUMB_BYTES:
            crc = self._sum(piece, 0)
            last += piece  # heads, tails and tiny tensors are not worth a piece each
            self._pieces_bytes += len(piece)
        else:
            crc = self._add_piece(piece)
        if self._pieces_bytes >= self._part_bytes:
            self._send_part()
        return crc

    def flush(self) -> None:
        """Send what was not sent yet; nothing can be added after."""
        if self._is_in_parts:
            if self._pieces:
                self._send_part()
        else:
            body, self._pieces = self._pieces, []
            self._put = self._put_tasks.start(functools.partial(_put, self.uri, body, self._crc64))

    def finish(self) -> None:
        """After `flush`: wait until all is stored, and publish the file."""
        if self._put is not None:
            self._put.result()
        else:
            self._upload.complete()

    def abort(self) -> None:
        """Give the file up, without waiting for OSS to know. A file that was put must be deleted."""
        self._put_tasks.stop()
        self._upload.abort()

    def wait_until_gone(self, seconds: float) -> bool:
        """After `abort`: wait until OSS knows, at most for twice `seconds`; False if it takes longer."""
        is_gone = self._put_tasks.drain(seconds)
        is_gone = self._upload.wait_until_gone(seconds) and is_gone
        self._pieces.clear()
        return is_gone

    def _add_piece(self, piece: Buffer) -> int:
        view, crc = memoryview(piece), 0
        while len(view) > (room := self._part_bytes - self._pieces_bytes):
            crc = self._sum(view[:room], crc)
            self._pieces.append(view[:room])
            self._pieces_bytes += room
            view = view[room:]
            self._send_part()
        crc = self._sum(view, crc)
        self._pieces.append(bytearray(view) if len(view) <= CRUMB_BYTES else view)
        self._pieces_bytes += len(view)
        return crc

    def _sum(self, piece: Buffer, crc: int) -> int:
        """Go on with the part's CRC-64 and, from `crc`, the piece's CRC-32."""
        if len(piece) <= CHECKSUM_BLOCK_BYTES:
            self._crc64 = crc64(piece, self._crc64)
            return crc32(piece, crc)
        view = memoryview(piece)
        for start in range(0, len(view), CHECKSUM_BLOCK_BYTES):
            crc = self._sum(view[start : start + CHECKSUM_BLOCK_BYTES], crc)
        return crc

    def _send_part(self) -> None:
        self._is_in_parts = True
        self._upload.send_constant(self._pieces, self._crc64)
        self._pieces, self._pieces_bytes, self._crc64 = [], 0, 0
        self._part_bytes = next_part_bytes(self._first_part_bytes, self.position)


def give_up(uploads: Sequence[FileUpload]) -> None:
    """Abort files, all at once; then wait until OSS knows, for a time that is the same for any number of them."""
    for upload in uploads:
        upload.abort()
    if not wait_running(lambda seconds: all(upload.wait_until_gone(seconds) for upload in uploads), ABORT_SECONDS):
        for upload in uploads:
            upload.wait_until_gone(0.0)  # lets go of the memory of those that were not waited for


async def _put(uri: OssUri, body: list[Buffer], crc: int, operations: Operations) -> StoredObject:
    return await operations.put(uri, body, crc64=crc)
