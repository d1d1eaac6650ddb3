"""Decode bodies in chunked transfer coding (RFC 9112, 7.1) while they arrive."""

from __future__ import annotations

import re

from ..errors import OssProtocolError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_MAX_LINE_BYTES = 8192


class ChunkedDecoder:
    """Takes a chunked body in blocks of any size; `is_done` after the last chunk and its trailer.

    Bytes after the end of the body are in `rest`.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""
        self._line = bytearray()
        self._missing_bytes = 0
        self._state = "size"

    def feed(self, data: memoryview) -> list[memoryview]:
        """Return the body's bytes in `data`, as views of it; `OssProtocolError` if `data` is not chunked coding."""
        views = []
        while data and not self.is_done:
            if self._state == "data":
                views.append(data[: self._missing_bytes])
                self._missing_bytes -= len(views[-1])
                data = data[len(views[-1]) :]
                if not self._missing_bytes:
                    self._state = "end"
                continue
            line, data = self._take_line(data)
            if line is not None:
                self._read_line(line)
        self.rest += bytes(data)
        return views

    def _take_line(self, data: memoryview) -> tuple[bytes | None, memoryview]:
        """Return a line without its end, `None` if its end has not arrived, and the data after it."""
        text = bytes(data[: _MAX_LINE_BYTES + 2])
        end = text.find(b"\n")
        taken = len(text) if end < 0 else end + 1
        self._line += text[:taken]
        if len(self._line) > _MAX_LINE_BYTES:
            raise OssProtocolError(f"a line of a chunked body has more than {_MAX_LINE_BYTES} bytes")
        if end < 0:
            return None, data[taken:]
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n"):
            raise OssProtocolError("a line of a chunked body does not end in CRLF")
        return line[:-2], data[taken:]

    def _read_line(self, line: bytes) -> None:
        if self._state == "size":
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise OssProtocolError("the size of a chunk is not a hexadecimal number")
            self._missing_bytes = int(match[1], 16)
            self._state = "data" if self._missing_bytes else "trailer"
        elif self._state == "end":
            if line:
                raise OssProtocolError("a chunk is longer than its size")
            self._state = "size"
        elif not line:
            self.is_done = True
