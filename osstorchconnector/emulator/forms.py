"""Forms that browsers post (`multipart/form-data`): fields into memory, the file on to where bodies go.

A form is read as it arrives. What follows the file is passed over, as OSS passes over it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .intake import Intake, Received
from .refusals import Refused

MAX_FIELD_BYTES = 4 * 1024
_MAX_HEAD_BYTES = 4 * 1024
_MAX_FIELDS = 100
_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?\bboundary="?([!-~ ]{1,70}?)"?\s*(?:;.*)?', re.IGNORECASE).fullmatch
_PARAMETER = re.compile(r'\b(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)

OpenFile = Callable[[Mapping[str, str]], Intake]


class FormIntake:
    """Takes a form; `open_file` is asked for the file's intake when all fields before it are known.

    The names of fields are lower-case in what is received; the file's own name is `filename`.
    """

    def __init__(self, content_type: str, open_file: OpenFile) -> None:
        match = _BOUNDARY(content_type.strip())
        if match is None:
            raise Refused("RequestIsNotMultiPartContent")
        self._delimiter = b"\r\n--" + match[1].encode()
        self._open_file = open_file
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like all others
        self._read: Callable[[], bool] = self._read_preamble
        self._fields: dict[str, str] = {}
        self._name, self._value = "", bytearray()
        self._file: Intake | None = None
        self._is_in_file = self._is_done = False

    def write(self, data: memoryview) -> None:
        if self._is_done:
            return
        self._buffer += data
        while not self._is_done and self._read():
            pass

    def finish(self) -> Received:
        if self._is_in_file or not (self._is_done or self._file):
            self.abandon()
            raise Refused("MalformedPOSTRequest")
        if self._file is None:
            raise Refused("IncorrectNumberOfFilesInPOSTRequest")
        return self._file.finish()._replace(fields=self._fields)

    def abandon(self) -> None:
        self._is_done = True
        self._buffer.clear()
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _read_preamble(self) -> bool:
        """Drop what stands before the first boundary."""
        return self._pass_on(lambda _piece: None)

    def _read_body(self) -> bool:
        return self._pass_on(self._take_file if self._is_in_file else self._take_field)

    def _pass_on(self, take: Callable[[memoryview], None]) -> bool:
        """Hand over what belongs to this part; return whether its end was found."""
        end = self._buffer.find(self._delimiter)
        count = end if end >= 0 else max(len(self._buffer) - len(self._delimiter) + 1, 0)
        if count:
            with memoryview(self._buffer) as view, view[:count] as piece:
                take(piece)
        del self._buffer[: count + (len(self._delimiter) if end >= 0 else 0)]
        if end >= 0:
            self._end_part()
        return end >= 0

    def _take_file(self, piece: memoryview) -> None:
        assert self._file is not None
        self._file.write(piece)

    def _take_field(self, piece: memoryview) -> None:
        self._value += piece
        if len(self._value) > MAX_FIELD_BYTES:
            raise Refused("FieldItemTooLong", extras={"ArgumentName": self._name})

    def _end_part(self) -> None:
        if self._is_in_file:
            self._is_in_file, self._is_done = False, True
        elif self._name:
            try:
                self._fields[self._name] = self._value.decode()
            except UnicodeDecodeError as error:
                raise Refused("MalformedPOSTRequest") from error
            self._value.clear()
        if len(self._fields) > _MAX_FIELDS:
            raise Refused("MalformedPOSTRequest")
        self._read = self._read_boundary

    def _read_boundary(self) -> bool:
        """Tell from what follows a boundary whether it is the last."""
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] == b"--":
            self._is_done = True
        elif self._buffer[:2] != b"\r\n":
            raise Refused("MalformedPOSTRequest")
        self._read = self._read_head
        return True

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Refused("MalformedPOSTRequest")
            return False
        head = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 4]
        self._begin_part(head)
        self._read = self._read_body
        return True

    def _begin_part(self, head: str) -> None:
        lines = dict(line.partition(":")[::2] for line in head.split("\r\n") if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in lines.items()}
        named = {name.lower(): text for name, text in _PARAMETER.findall(headers.get("content-disposition", ""))}
        if not named.get("name"):
            raise Refused("MalformedPOSTRequest")
        self._name = named["name"].lower()
        if self._name == "file":
            self._fields.setdefault("content-type", headers.get("content-type", ""))
            self._fields["filename"] = named.get("filename", "").rpartition("/")[2].rpartition("\\")[2]
            self._is_in_file, self._file = True, self._open_file(self._fields)
