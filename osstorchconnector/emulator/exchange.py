"""A request, its body and its answer, as the server's operations see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from ..protocol.repeats import CommonHead
from .blobs import Content, size_of

XML_TYPE = "application/xml"


@dataclass(slots=True)
class Call:
    """A request: key and query are decoded, header names are lower-case. `common` is that of its head."""

    operation: str
    method: str
    bucket: str = ""
    key: str = ""
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    content_length: int | None = None
    chunked: bool = False
    common: CommonHead | None = None

    def parameter(self, name: str, default: str = "") -> str:
        """Return the value of a query parameter, the first if there are several."""
        for key, value in self.query:
            if key == name:
                return value
        return default

    def has_parameter(self, name: str) -> bool:
        return any(key == name for key, _ in self.query)


class Received(NamedTuple):
    """A complete body. `data` is a document, `content` an object's bytes on disk.

    `content` is empty if bodies are discarded; `md5` is None if it was not computed; `fields` are those of a form.
    """

    size: int = 0
    data: bytes = b""
    content: Content = ()
    crc64: int = 0
    md5: bytes | None = None
    etag: str = ""
    fields: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class Reply:
    """An answer, without the headers that every answer has (Date, request id, lengths).

    `length` is the `Content-Length` if it is not that of the body: answers to HEAD have no body. `is_foreign` means
    that a proxy answers, not OSS, so the answer has none of OSS's headers.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Content = b""
    length: int | None = None
    is_foreign: bool = False

    def body_size(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else size_of(self.body)


def xml_reply(body: bytes) -> Reply:
    return Reply(200, {"Content-Type": XML_TYPE}, body)
