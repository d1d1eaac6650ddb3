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
from ..client.memory import copy_bytes, fresh_memory
from ..config import TransferConfig
from ..protocol.attributes import PLAIN, Attributes
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, crc64
from ..protocol.values import BegunUpload, StoredObject
from ..uri import OssUri
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
        self._memory: memoryview | None = None
        self._filled_bytes = self._summed_bytes = 0
        self._crc = 0  # of the bytes in `_memory` that are summed
        self._sent_bytes = 0
        self._upload: MultipartUpload | None = None
        if begun is not None:
            self._sent_bytes = sum(part.size for part in begun.parts)
            upload = self._begin_upload(1, begun)
            self._part_bytes = upload.next_part_bytes(self._first_part_bytes, self._sent_bytes)

    @property
    def size(self) -> int:
        """The number of bytes written so far, also when the writer is closed."""
        return self._sent_bytes + self._filled_bytes

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
        known_bytes = self._filled_bytes + len(view)
        if self._upload is None and known_bytes > self._part_bytes:
            self._begin_upload(-(-known_bytes // self._part_bytes))
        while len(view):
            room = self._part_bytes - self._filled_bytes
            if not room:
                self._send(None)
            elif is_constant and len(view) > room:
                self._send(view[:room])
                view = view[room:]
            else:
                count = min(room, len(view), CHECKSUM_BLOCK_BYTES)
                self._copy(view[:count])
                view = view[count:]

    def _copy(self, data: memoryview) -> None:
        if self._memory is None:
            self._memory = self._new_memory()
        stop = self._filled_bytes + len(data)
        copy_bytes(self._memory[self._filled_bytes : stop], data)
        self._filled_bytes = stop
        if stop - self._summed_bytes >= CHECKSUM_BLOCK_BYTES:
            self._sum()

    def _take_from(self, file: Any, most_bytes: int) -> int:
        known_bytes = self._filled_bytes + most_bytes
        if self._upload is None and known_bytes > self._part_bytes:
            self._begin_upload(-(-known_bytes // self._part_bytes))
        taken = 0
        while taken < most_bytes:
            if self._filled_bytes == self._part_bytes:
                self._send(None)
            if self._memory is None:
                self._memory = self._new_memory()
            start = self._filled_bytes
            stop = min(start + most_bytes - taken, start + CHECKSUM_BLOCK_BYTES, self._part_bytes)
            count = file.readinto(self._memory[start:stop])
            if not count:
                break
            self._filled_bytes += count
            taken += count
            self._sum()
        return taken

    def _sum(self) -> None:
        if self._memory is not None:
            self._crc = crc64(self._memory[self._summed_bytes : self._filled_bytes], self._crc)
            self._summed_bytes = self._filled_bytes

    def _new_memory(self) -> memoryview:
        if self._upload is None:
            return fresh_memory(self._part_bytes).getbuffer()
        return self._upload.memory(self._part_bytes)

    def _send(self, constant: memoryview | None) -> None:
        """Send what has been filled, and `constant` behind it, as a part."""
        assert self._upload is not None  # begun when it was known that one part is too short
        self._sum()
        self._upload.send(self._memory, self._filled_bytes, self._crc, constant)
        self._sent_bytes += self._filled_bytes + (len(constant) if constant is not None else 0)
        self._memory, self._filled_bytes, self._summed_bytes, self._crc = None, 0, 0, 0
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
        if self._memory is not None:
            upload.adopt(self._memory)
        upload.begin(parts)
        return upload

    # the end

    def _publish(self) -> None:
        if self._upload is None:
            body = self._memory[: self._filled_bytes] if self._memory is not None else b""
            content_type, metadata, storage_class = self._attributes
            self._stored = self._client.put(
                self._uri,
                body,
                forbid_overwrite=self._forbid_overwrite,
                content_type=content_type,
                metadata=dict(metadata),
                storage_class=storage_class,
            )
            return
        if self._filled_bytes:
            self._send(None)
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
        self._memory = None

    def _refuse(self, operation: str) -> NoReturn:
        raise io.UnsupportedOperation(
            f"{operation}: {self._uri.shown} is written front to back; take OssCheckpoint.writer(uri, seekable=True)"
        )
