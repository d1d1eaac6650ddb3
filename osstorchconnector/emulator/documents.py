"""XML of the server's side: documents out as text, the two documents clients send in as values. Pure.

Documents have no namespace. What XML 1.0 can't carry (most control characters) is written as a character reference,
which parsers refuse: clients ask for `encoding-type=url` to be spared that, as with the real service. Errors show a
question mark for it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote
from xml.parsers import expat

from .refusals import Refused

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile("[&<>\"'\x00-\x08\x0b-\x1f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# What stays as it is in XML and in percent encoding.
PLAIN = f"{string.ascii_letters}{string.digits}-_.~/".encode()
_PLAIN = re.compile(r"[A-Za-z0-9\-_.~/]*").fullmatch
MAX_DEPTH = 8

Encode = Callable[[str], str]


def escape(text: str) -> str:
    """Return `text` as it stands between tags."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#{ord(match[0])};", text)


def url_encoded(text: str) -> str:
    """Return `text` as `encoding-type=url` writes it; a space is `%20`."""
    return text if _PLAIN(text) else quote(text, safe="-_.~/")


def element(name: str, *children: str) -> str:
    """Return `<name>` around children that are XML already."""
    return f"<{name}>{''.join(children)}</{name}>"


def fields(values: Mapping[str, object]) -> str:
    """Return one element a value, in order; `None` is left out."""
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items() if value is not None)


def document(name: str, *children: str) -> bytes:
    return f"{_DECLARATION}{element(name, *children)}".encode()


def error_document(refused: Refused, *, request_id: str, host: str) -> bytes:
    common = {"Code": refused.code, "Message": refused.message, "RequestId": request_id, "HostId": host}
    readable = {name: _UNSPEAKABLE.sub("?", text) for name, text in {**common, **refused.extras}.items()}
    return document("Error", fields({**readable, "EC": refused.ec}))


class PartName(NamedTuple):
    """A part as a `CompleteMultipartUpload` lists it."""

    number: int
    etag: str


class KeysToDelete(NamedTuple):
    keys: list[str]
    is_quiet: bool


def parse_complete(body: bytes) -> list[PartName]:
    """Return the parts of a `CompleteMultipartUpload` document; `Refused` with MalformedXML if it is none."""
    parts = []
    for children in _children_named(body, "CompleteMultipartUpload", "Part"):
        try:
            parts.append(PartName(int(children["PartNumber"]), children["ETag"].strip().strip('"').upper()))
        except (KeyError, ValueError) as error:
            raise Refused("MalformedXML") from error
    if not parts:
        raise Refused("MalformedXML", "The list of parts is empty.")
    return parts


def parse_delete(body: bytes) -> KeysToDelete:
    """Return the keys of a `Delete` document; `Refused` with MalformedXML if it is none.

    Keys stand there as they are, also when the answer's are asked for with `encoding-type=url`.
    """
    quiet = False
    keys = []
    for name, children in _entries(body, "Delete"):
        if name == "Quiet":
            quiet = children[""].strip().lower() == "true"
        elif name == "Object":
            if not children.get("Key"):
                raise Refused("MalformedXML", "An Object without Key.")
            keys.append(children["Key"])
    if not 1 <= len(keys) <= 1000:
        raise Refused("MalformedXML", f"{len(keys)} keys; 1 to 1000 can be deleted at once.")
    return KeysToDelete(keys, quiet)


def _children_named(body: bytes, root: str, wanted: str) -> Iterable[dict[str, str]]:
    return (children for name, children in _entries(body, root) if name == wanted)


def _entries(body: bytes, root: str) -> list[tuple[str, dict[str, str]]]:
    """Return name and children of every element below `root`; the element's own text is the child ''."""
    entries: list[tuple[str, dict[str, str]]] = []
    path: list[str] = []
    text: list[str] = []

    def start(name: str, _attributes: object) -> None:
        path.append(name)
        text.clear()
        if path[0] != root or len(path) > MAX_DEPTH:
            raise Refused("MalformedXML")
        if len(path) == 2:
            entries.append((name, {}))

    def end(name: str) -> None:
        path.pop()
        if len(path) in (1, 2):
            entries[-1][1]["" if len(path) == 1 else name] = "".join(text)
        text.clear()

    def refuse(*_: object) -> None:
        raise Refused("MalformedXML", "A document type declaration is not accepted.")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError) as error:
        raise Refused("MalformedXML") from error
    return entries
