"""An object as a binary file that is open for writing."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings
from typing import Any, NoReturn

from ..client.client import OssClient
from ..client.memory import fresh_memory
from ..config import TransferConfig
from ..protocol.attributes import PLAIN, Attributes
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES
from ..protocol.checksum import crc64 as crc64_of
from ..protocol.values import BegunUpload, StoredObject
from ..uri import OssUri
from .part import Part
from .part_sizes import first_part_bytes
from .publishing import PublishingFile
from .upload import ABORT_SECONDS, MultipartUpload

_logger = logging.getLogger(__name__)

# From 2.15 on, torch's own writers of distributed checkpoints warn of each file that has no `fileno` to sync. An object
# needs no syncing, since `close` stores it. Where warnings are errors, this one would end the save.
_FSYNC_WARNING = r"fsync not supported for this stream, relying on flush\(\): fileno: oss://"
_FSYNC_FILTER = ("ignore", re.compile(_FSYNC_WARNING, re.IGNORECASE), UserWarning, None, 0)


class OssWriter(PublishingFile):
    """A binary file that writes an object front to back, like a local file opened with "wb".

    The object appears, or replaces the old one, when the writer is closed, all of it at once. Nothing is stored if

    - the `with` block ends with an exception
    - a part could not be sent: then `write` or `close` raises
    - `discard()` is called
    - the writer is garbage collected, or the interpreter ends, before it is closed: this logs a warning

    Data shorter than a part is sent in one request, by `close`. Longer data is sent in parts while you write. The
    config key `uploadConcurrency` limits how many parts are sent at a time, `uploadMemory` the memory in bytes. Data is
    copied, except long `bytes` objects. Only one thread at a time may use a writer, and only the process that made it.

    A writer can't be read, and has no `seek`, `truncate` or `fileno`: these raise `io.UnsupportedOperation`. Use
    `OssCheckpoint.writer(uri, seekable=True)` for a file that has them.

    With `forbid_overwrite` an object that is there when the writer is closed stays: `close` raises `OssExistsError`.
    With `begun` what is written follows the parts of an earlier run. If nothing is stored, they stay for the next one.

    A `TextIOWrapper` or `BufferedWriter` around a writer closes the writer, and so stores the object, whenever it is
    closed itself, also after an exception and by garbage collection. Call its `detach()`, or write without one.
    """

    mode = "wb"
    label: Any = ""  # an object that is opened by its name has none
    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(
        self,
        client: OssClient,
        uri: OssUri,
        *,
        transfer: TransferConfig,
        forbid_overwrite: bool = False,
        begun: BegunUpload | None = None,
        attributes: Attributes = PLAIN,
    ) -> None:
        super().__init__(client, uri, transfer=transfer)
        self._forbid_overwrite, self._attributes = forbid_overwrite, attributes
        self._stored: StoredObject | None = None
        config = client.config
        self._first_part_bytes = self._part_bytes = first_part_bytes(config.part_bytes, config.upload_memory_bytes)
        self._part = Part()
        self._sent_bytes = 0
        self._upload: MultipartUpload | None = None
        if begun is not None:
            self._sent_bytes = sum(part.size for part in begun.parts)
            upload = self._begin_upload(1, begun)
            self._part_bytes = upload.next_part_bytes(self._first_part_bytes, self._sent_bytes)

    @property
    def size(self) -> int:
        """The number of bytes written so far, also when the writer is closed."""
        return self._sent_bytes + self._part.size_bytes

    @property
    def stored(self) -> StoredObject | None:
        """The ETag and CRC-64 of the object; None before `close` has stored it."""
        return self._stored

    def _stands(self) -> str:
        if self._stored is not None:
            return f"{self.size} bytes stored"
        return f"{self.size} bytes written, {super()._stands()}"

    def tell(self) -> int:
        """Return the number of bytes written so far; `ValueError` if closed."""
        self._check_open()
        return self.size

    def add(self, data: bytes, crc64: int | None = None) -> None:
        """Write `data` without a copy: it is kept until it is sent. `crc64` is its CRC-64, if that is known.

        For many short pieces `write` is better. Raises the errors of `write`.
        """
        self._check_usable()
        if self._unclosed is None:
            self._watch()
        try:
            self._hold(memoryview(data), crc64)
        except BaseException as error:
            self._fail(error)
            raise

    def write_from(self, file: Any, most_bytes: int) -> int:
        """Write up to `most_bytes` that `file.readinto` gives, and return their number; 0 at the end of the file.

        They are read straight into the memory from which they are sent. Raises the errors of `write`, and of the file.
        """
        self._check_usable()
        if self._unclosed is None:
            self._watch()
        try:
            return self._take_from(file, most_bytes)
        except BaseException as error:
            self._fail(error)
            raise

    def read(self, size: int | None = -1, /) -> NoReturn:
        """Always raises `io.UnsupportedOperation`: use `OssCheckpoint.writer(uri, seekable=True)`."""
        self._refuse("read")

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> NoReturn:
        """Always raises `io.UnsupportedOperation`: use `OssCheckpoint.writer(uri, seekable=True)`."""
        self._refuse("seek")

    def truncate(self, size: int | None = None, /) -> NoReturn:
        """Always raises `io.UnsupportedOperation`: use `OssCheckpoint.writer(uri, seekable=True)`."""
        self._refuse("truncate")

    def fileno(self) -> NoReturn:
        """Always raises `io.UnsupportedOperation`: use `OssCheckpoint.writer(uri, seekable=True)`."""
        if warnings.filters[:1] != [_FSYNC_FILTER]:
            warnings.filterwarnings("ignore", _FSYNC_WARNING, UserWarning)
        self._refuse("fileno")

    def __del__(self) -> None:
        upload = getattr(self, "_upload", None)
        if upload is not None and not self._is_exiting():
            upload.abort()  # without effect once the upload is completed

    # taking bytes

    def _take(self, view: memoryview, *, is_constant: bool) -> None:
        self._expect(len(view))
        while len(view):
            room = self._part_bytes - self._part.size_bytes
            if not room:
                self._send()
            elif is_constant and len(view) > room:
                self._part.hold(view[:room], None)
                self._send()
                view = view[room:]
            else:
                count = min(room, len(view), CHECKSUM_BLOCK_BYTES)
                self._memory_of_part().copy(view[:count])
                view = view[count:]

    def _hold(self, view: memoryview, crc64: int | None) -> None:
        self._expect(len(view))
        while len(view):
            room = self._part_bytes - self._part.size_bytes
            if not room:
                self._send()
                continue
            if not self._part.size_bytes and self._upload is not None:
                self._upload.wait_for_room(self._part_bytes)
            if len(view) > room:
                crc64 = None
            self._part.hold(view[:room], crc64_of(view[:room]) if crc64 is None else crc64)
            view = view[room:]

    def _take_from(self, file: Any, most_bytes: int) -> int:
        self._expect(most_bytes)
        taken = 0
        while taken < most_bytes:
            if self._part.size_bytes == self._part_bytes:
                self._send()
            room = min(most_bytes - taken, CHECKSUM_BLOCK_BYTES, self._part_bytes - self._part.size_bytes)
            count = self._memory_of_part().fill_from(file, room)
            if not count:
                break
            taken += count
        return taken

    def _expect(self, more_bytes: int) -> None:
        """Begin an upload if it is known that one part is too short."""
        known_bytes = self._part.size_bytes + more_bytes
        if self._upload is None and known_bytes > self._part_bytes:
            self._begin_upload(-(-known_bytes // self._part_bytes))

    def _memory_of_part(self) -> Part:
        """Return the part that is being filled; it has memory."""
        if self._part.memory is None:
            size = self._part_bytes
            self._part.memory = fresh_memory(size).getbuffer() if self._upload is None else self._upload.memory(size)
        return self._part

    def _send(self) -> None:
        """Send what has been filled as a part."""
        assert self._upload is not None  # begun when it was known that one part is too short
        part, self._part = self._part, Part()
        body, crc = part.close()
        self._upload.send(part.memory, body, crc, part.held_bytes)
        self._sent_bytes += part.size_bytes
        self._part_bytes = self._upload.next_part_bytes(self._first_part_bytes, self._sent_bytes)

    def _begin_upload(self, parts: int, begun: BegunUpload | None = None) -> MultipartUpload:
        """Begin an upload before the first part is full: OSS answers while the part is copied and summed."""
        upload = self._upload = MultipartUpload(
            self._client,
            self._uri,
            concurrency=self._transfer.upload_concurrency,
            memory_bytes=self._client.config.upload_memory_bytes,
            workers=self._transfer.prefetch_worker,
            forbid_overwrite=self._forbid_overwrite,
            begun=begun,
            attributes=self._attributes,
        )
        if self._part.memory is not None:
            upload.adopt(self._part.memory)
        upload.begin(parts)
        return upload

    # the end

    def _publish(self) -> None:
        if self._upload is None:
            body, _ = self._part.close()
            content_type, metadata, storage_class = self._attributes
            self._stored = self._client.put(
                self._uri,
                body or b"",
                forbid_overwrite=self._forbid_overwrite,
                content_type=content_type,
                metadata=dict(metadata),
                storage_class=storage_class,
            )
            return
        if self._part.size_bytes:
            self._send()
        self._stored = self._upload.complete()

    def _fail(self, error: BaseException) -> None:
        super()._fail(error)
        self._unwatch()
        if self._upload is not None:
            self._upload.abort()

    def _give_up(self) -> None:
        if self._upload is None:
            return
        self._upload.abort()
        if not self._upload.wait_until_gone(ABORT_SECONDS):
            _logger.warning("the upload of %s is still being aborted after %g s", self._uri.shown, ABORT_SECONDS)

    def _end(self) -> None:
        super()._end()
        self._part.let_go()

    def _refuse(self, operation: str) -> NoReturn:
        raise io.UnsupportedOperation(
            f"{operation}: {self._uri.shown} is written front to back; take OssCheckpoint.writer(uri, seekable=True)"
        )
