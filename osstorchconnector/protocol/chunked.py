"""Bodies in chunked transfer coding (RFC 9112, 7.1), decoded as they arrive. Pure."""

from __future__ import annotations

import re

from ..errors import OssProtocolError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_MAX_LINE_BYTES = 8192


class ChunkedDecoder:
    """Bytes of a chunked body in, bytes of the body out; `is_done` after the last chunk and its trailer.

    What comes after the end of the body stays in `rest`.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""
        self._line = bytearray()
        self._left = 0
        self._state = "size"

    def feed(self, data: memoryview) -> list[memoryview]:
        """Return the pieces of the body in `data`, which they share; raises `OssProtocolError` if that is nonsense."""
        pieces = []
        while data and not self.is_done:
            if self._state == "data":
                pieces.append(data[: self._left])
                self._left -= len(pieces[-1])
                data = data[len(pieces[-1]) :]
                if not self._left:
                    self._state = "end"
                continue
            line, data = self._take_line(data)
            if line is not None:
                self._read_line(line)
        self.rest += bytes(data)
        return pieces

    def _take_line(self, data: memoryview) -> tuple[bytes | None, memoryview]:
        """Return a line without its end, or None where it has not ended, and what follows."""
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
            self._left = int(match[1], 16)
            self._state = "data" if self._left else "trailer"
        elif self._state == "end":
            if line:
                raise OssProtocolError("a chunk is longer than its size")
            self._state = "size"
        elif not line:
            self.is_done = True
