"""XML from the network as a tree of elements; whatever OSS's documents do not need is refused.

Refused are document types (and with them entities other than XML's own five), deep nesting and very large documents.
The encoding is UTF-8, whatever the document claims. Namespaces and attributes are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

from ..errors import OssProtocolError
from .values import Buffer

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 16


class Element:
    """An element of a document: its name without namespace, the text directly in it, and its children."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name, self.text = name, ""
        self.children: list[Element] = []

    def find_all(self, name: str) -> Iterator[Element]:
        """Yield the children of that name."""
        return (child for child in self.children if child.name == name)

    def find(self, name: str) -> Element | None:
        """Return the child of that name, `None` without one; `OssProtocolError` if there are several."""
        found = list(self.find_all(name))
        if len(found) > 1:
            raise OssProtocolError(f"{self.name} document with {len(found)} elements {name}")
        return found[0] if found else None

    def get(self, name: str, default: str = "") -> str:
        """Return the text of the child of that name, `default` without one."""
        child = self.find(name)
        return default if child is None else child.text

    def need(self, name: str) -> str:
        """Return the text of a child; `OssProtocolError` if it is missing or empty."""
        text = self.get(name)
        if not text:
            raise OssProtocolError(f"{self.name} document without {name}")
        return text


class _Builder:
    """Builds the tree while expat reads, and raises at a document type or at deep nesting."""

    def __init__(self) -> None:
        self.top = Element("")
        self._open = [self.top]
        self._texts: list[list[str]] = [[]]

    def parse(self, text: str) -> Element:
        # If it is given text, expat ignores the encoding that the document claims, and a byte order mark.
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(text, True)
        return self.top.children[0]

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            raise OssProtocolError(f"XML document nested deeper than {MAX_DEPTH} elements")
        element = Element(name.rpartition(" ")[2])
        self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.append([])

    def _end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)

    def _refuse(self, *_declaration: object) -> NoReturn:
        # Entities can be declared in a document type only.
        raise OssProtocolError("XML document with a document type declaration")


def parse_document(body: Buffer | str, *roots: str) -> Element:
    """Return the root of a document whose root has one of these names (any, if none is given)."""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise OssProtocolError(f"XML document of {len(body)} bytes; {MAX_DOCUMENT_BYTES} are the most that is read")
    try:
        text = body if isinstance(body, str) else str(body, "utf-8")
        root = _Builder().parse(text)
    except (expat.ExpatError, UnicodeDecodeError) as error:
        raise OssProtocolError(f"malformed XML document: {error}: {_beginning(body)!r}") from None
    if roots and root.name not in roots:
        said = f" ({root.get('Code')[:80]!r})" if root.name == "Error" else ""
        raise OssProtocolError(f"{' or '.join(roots)} document expected, not {root.name[:80]!r}{said}")
    return root


def _beginning(body: Buffer | str) -> str | bytes:
    return body[:80] if isinstance(body, str) else bytes(body[:80])
