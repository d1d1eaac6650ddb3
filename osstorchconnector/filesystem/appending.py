"""An object that is open for appending: mode "ab".

What is written is kept until the file is closed, in memory up to 64 MiB, then in a temporary file. Then it is added:

- to an appendable object (one that AppendObject made) by AppendObject
- to any other by a multipart upload whose first part is a copy of the old object, made within OSS
- to one that is too small to be a part, by writing both

If somebody else changed the object meanwhile, nothing is stored, and `close` raises.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..client.operations import Operations
from ..errors import OssNotFoundError, OssObjectChangedError
from ..files.part_sizes import MIN_PART_BYTES
from ..files.spooled_writer import OssSpooledWriter
from ..protocol.values import ByteSpan, ObjectStat
from ..uri import OssUri
from .opened import Published
from .paths import attributes_of, object_uri_of
from .ranges import even_spans

if TYPE_CHECKING:
    from .access import OssAccess

APPENDABLE = "Appendable"
MOST_COPIED_BYTES = 1 << 30


class OssAppendFile(Published, OssSpooledWriter):
    """An object that is open for appending. `tell` counts from the beginning of the object."""

    def __init__(self, fs: OssAccess, path: str, *, autocommit: bool = True, block_size: int | None = None) -> None:
        super().__init__(fs.client, object_uri_of(path), transfer=fs.client.config.checkpoint)
        self.fs, self.path, self.mode, self.autocommit = fs, path, "ab", autocommit
        self.blocksize = block_size or fs.blocksize
        try:
            self._old: ObjectStat | None = fs.client.head(self._uri)
        except OssNotFoundError as error:
            if error.code == "NoSuchBucket":
                raise
            self._old = None

    def seekable(self) -> bool:
        """Return False: whatever is written goes to the end."""
        self._check_open()
        return False

    def readable(self) -> bool:
        """Return False; `ValueError` if closed."""
        self._check_open()
        return False

    def tell(self) -> int:
        """Return the size that the object will have with what is written so far; `ValueError` if closed."""
        return super().tell() + (self._old.size if self._old is not None else 0)

    def _publish(self) -> None:
        old, client, uri = self._old, self._client, self._uri
        if old is None:
            super()._publish()
            return
        if not self._size():
            return
        self._file.seek(0)
        if old.object_type == APPENDABLE and old.crc64 is not None:
            body, crc = self._file.read(), old.crc64
            client.submit(lambda operations: operations.append(uri, body, position=old.size, crc64=crc)).result()
        elif old.size < MIN_PART_BYTES:
            before = client.get(uri, if_match=old.etag)
            client.put(uri, [before.body, self._file.read()], content_type=old.content_type, metadata=old.metadata)
        else:
            self._append_parts(old)

    def _append_parts(self, old: ObjectStat) -> None:
        client, uri = self._client, self._uri
        kept = attributes_of(old)
        upload_id = client.submit(lambda operations: operations.create_upload(uri, attributes=kept)).result()
        try:
            spans = even_spans(old.size, MOST_COPIED_BYTES)
            for number, span in enumerate(spans, start=1):
                client.submit(functools.partial(_copy, uri, upload_id, number, span, old.etag)).result()
            number = len(spans)
            while piece := self._file.read(self._client.config.part_bytes):
                number += 1
                client.upload_part(uri, upload_id, number, piece)
            parts = client.list_parts(uri, upload_id)
            if client.head(uri).etag != old.etag:
                raise OssObjectChangedError(f"append to {uri.shown}: somebody else changed it meanwhile", status=412)
            client.complete_upload(uri, upload_id, parts)
        except BaseException:
            client.abort_upload(uri, upload_id)
            raise


async def _copy(uri: OssUri, upload_id: str, number: int, span: ByteSpan, etag: str, operations: Operations) -> None:
    await operations.upload_part_copy(uri, upload_id, number, uri, span, if_match=etag)
