"""XML on the server's side: writes the documents of answers, parses those of requests.

Documents have no namespace. Characters that XML 1.0 does not allow (most control characters) become character
references, as on OSS. Parsers refuse these, so clients ask for `encoding-type=url`. Error documents have a question
mark instead.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from ..errors import OssProtocolError
from ..protocol.xml_tree import Element, parse_document
from .refusals import Refused, not_implemented

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile("[&<>\"'\x00-\x08\x0b-\x1f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Characters that neither XML nor percent encoding changes.
PLAIN = f"{string.ascii_letters}{string.digits}-_.~/".encode()
_PLAIN = re.compile(r"[A-Za-z0-9\-_.~/]*").fullmatch
# Control characters that clients send although XML does not allow them; line ends and tabs may be between tags.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)|&#").search
_CONTROL_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)|&#(?:0*([0-9]{1,2})|x0*([0-9a-fA-F]{1,2}));")
_PRIVATE = range(0xF0000, 0x10FFFE, 32)

Encode = Callable[[str], str]


def escape(text: str) -> str:
    """Return `text` escaped for the place between two tags."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#{ord(match[0])};", text)


def url_encoded(text: str) -> str:
    """Return `text` as `encoding-type=url` writes it; a space is `%20`."""
    return text if _PLAIN(text) else quote(text, safe="-_.~/")


def element(name: str, *children: str) -> str:
    """Return an element with this name around children, which are XML."""
    return f"<{name}>{''.join(children)}</{name}>"


def fields(values: Mapping[str, object]) -> str:
    """Return one element per value, in order, without those that are `None`."""
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items() if value is not None)


def document(name: str, *children: str) -> bytes:
    return f"{_DECLARATION}{element(name, *children)}".encode()


def error_document(refused: Refused, *, request_id: str, host: str) -> bytes:
    common = {"Code": refused.code, "Message": refused.message, "RequestId": request_id, "HostId": host}
    readable = {name: _UNSPEAKABLE.sub("?", text) for name, text in {**common, **refused.extras}.items()}
    return document("Error", fields({**readable, "EC": refused.ec}))


class PartName(NamedTuple):
    """A part listed in a `CompleteMultipartUpload`."""

    number: int
    etag: str


class KeysToDelete(NamedTuple):
    keys: list[str]
    is_quiet: bool


def parse_complete(body: bytes) -> list[PartName]:
    """Return the parts of a `CompleteMultipartUpload` document, or raise `Refused` with MalformedXML."""
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
    """Return the keys of a `Delete` document, or raise `Refused` with MalformedXML.

    These keys are never encoded, even if the request asks for encoded keys in the answer with `encoding-type=url`.
    """
    quiet = False
    keys = []
    for name, children in _entries(body, "Delete"):
        if name == "Quiet":
            quiet = children[""].strip().lower() == "true"
        elif name == "Object":
            if not children.get("Key"):
                raise Refused("MalformedXML", "An Object without Key.")
            check_version(children.get("VersionId", ""))
            keys.append(children["Key"])
    if not 1 <= len(keys) <= 1000:
        raise Refused("MalformedXML", f"{len(keys)} keys; 1 to 1000 can be deleted at once.")
    return KeysToDelete(keys, quiet)


def check_version(version_id: str) -> None:
    """Refuse any version id but "null": objects have one version."""
    if version_id not in ("", "null"):
        raise not_implemented("versionId", "This emulator does not have versions of objects.")


def parse_tagging(body: bytes) -> list[tuple[str, str]]:
    """Return the keys and values of a `Tagging` document, or raise `Refused` with MalformedXML."""
    tags = []
    for name, children in _entries(body, "Tagging", depth=3):
        if name != "Tag" or not children.get("Key"):
            raise Refused("MalformedXML", "A tag without Key.")
        tags.append((children["Key"], children.get("Value", "")))
    return tags


def parse_restore(body: bytes) -> tuple[int, str]:
    """Return the days of a `RestoreRequest` (1 if it names none) and its tier ("" if it names none)."""
    wanted = {"Days": "1", "Tier": ""}
    for name, children in _entries(body, "RestoreRequest"):
        if name not in (*wanted, "JobParameters"):
            raise Refused("MalformedXML", f"{name} is not supported.")
        found = children if name == "JobParameters" else {name: children[""]}
        wanted.update({name: text.strip() for name, text in found.items() if name in wanted})
    if not (wanted["Days"].isascii() and wanted["Days"].isdigit() and len(wanted["Days"]) < 10):
        raise Refused("MalformedXML", "Days must be a number.")
    return int(wanted["Days"]), wanted["Tier"]


def parse_bucket(body: bytes) -> dict[str, str]:
    """Return the settings of a `CreateBucketConfiguration`, or raise `Refused` with MalformedXML."""
    return {name: children[""].strip() for name, children in _entries(body, "CreateBucketConfiguration")}


def _children_named(body: bytes, root: str, wanted: str) -> Iterable[dict[str, str]]:
    return (children for name, children in _entries(body, root) if name == wanted)


def _entries(body: bytes, root: str, *, depth: int = 2) -> list[tuple[str, dict[str, str]]]:
    """Return name and children of every element at `depth` (1 is the root); the child "" is the element's own text."""
    readable, undisguise = _disguised(body)
    try:
        found = [parse_document(readable, root)]
    except OssProtocolError as error:
        raise Refused("MalformedXML") from error
    for _ in range(depth - 1):
        found = [child for entry in found for child in entry.children]
    return [
        (entry.name, {name: text.translate(undisguise) for name, text in [("", entry.text), *_texts(entry.children)]})
        for entry in found
    ]


def _texts(elements: Iterable[Element]) -> Iterable[tuple[str, str]]:
    return ((element.name, element.text) for element in elements)


def _disguised(body: bytes) -> tuple[bytes, dict[int, str]]:
    """Return a document that an XML parser can read, and a function that restores the original texts.

    Clients send control characters in keys, raw or as references, and OSS accepts them. XML allows neither. So private
    characters, which the document does not contain, replace them.
    """
    if _CONTROL(body) is None:
        return body, {}
    try:
        document = body.decode()
    except UnicodeDecodeError as error:
        raise Refused("MalformedXML") from error
    taken = {ord(letter) // 32 * 32 for letter in set(document)}
    base = next((base for base in _PRIVATE if base not in taken), None)
    if base is None:
        raise Refused("MalformedXML")

    def disguise(match: re.Match[str]) -> str:
        number = int(match[2], 16) if match[2] else int(match[1] or ord(match[0]))
        return chr(base + number) if number < 32 else match[0]

    return _CONTROL_TEXT.sub(disguise, document).encode(), {base + number: chr(number) for number in range(32)}
