"""XML documents: read without namespaces, write as OSS does. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, ParseError

from .messages import OssRequest, Refusal

Node = tuple[str, "str | int | bool | Sequence[Node]"]

_CONTROL_TO_PRIVATE = {code: 0xF000 + code for code in range(32) if chr(code) not in "\t\n"}
_PRIVATE_TO_CONTROL = {private: code for code, private in _CONTROL_TO_PRIVATE.items()}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(body: bytes) -> Element:
    """Return the root of a document, the namespaces taken off every tag; `ParseError` if it is none."""
    root = ElementTree.fromstring(body)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def parse_unclean(body: bytes) -> Element:
    """As `parse`, for moto's documents: it writes control characters of keys as they are, which is not XML.

    They make the journey through the parser as characters for private use.
    """
    root = parse(body.decode().translate(_CONTROL_TO_PRIVATE).encode())
    for element in root.iter():
        element.text = (element.text or "").translate(_PRIVATE_TO_CONTROL)
    return root


def parse_sent(body: bytes) -> Element:
    """As `parse`, for what a client sent: 400 MalformedXML if it is none."""
    try:
        return parse(body)
    except ParseError:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.") from None


def render(name: str, nodes: Sequence[Node]) -> bytes:
    """Return a document without a namespace, as OSS writes them."""
    text = ElementTree.tostring(_element(name, nodes), encoding="unicode")
    # A reader turns a bare CR into LF, so it travels as a reference.
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.replace("\r", "&#13;").encode("utf-8", "replace")


def render_error(refusal: Refusal, *, request_id: str, host: str) -> bytes:
    extras = [(name, _NOT_XML.sub("?", value)) for name, value in refusal.extras.items()]
    fixed: list[Node] = [
        ("Code", refusal.code),
        ("Message", _NOT_XML.sub("?", refusal.message)),
        ("RequestId", request_id),
        ("HostId", host),
    ]
    return render("Error", [*fixed, *extras, ("EC", error_number(refusal))])


def error_number(refusal: Refusal) -> str:
    """Return a stand-in for the `EC` of OSS, which is informational: right in form, not in number."""
    return f"0000-{refusal.status:08d}"


class Names:
    """How keys and prefixes are written in the answer to one request."""

    def __init__(self, request: OssRequest) -> None:
        wanted = request.query.get("encoding-type", "")
        if wanted not in ("", "url"):
            raise Refusal(400, "InvalidArgument", "the encoding-type is not url", ArgumentName="encoding-type")
        self.is_encoded = wanted == "url"

    def __call__(self, name: str) -> str:
        return quote(name, safe="/-_.~") if self.is_encoded else name

    def nodes(self) -> list[Node]:
        return [("EncodingType", "url")] if self.is_encoded else []


def oss_etag(etag: str) -> str:
    """Return an ETag as OSS writes it: upper case, in quotes."""
    return '"' + etag.strip('"').upper() + '"'


def s3_etag(etag: str) -> str:
    """Return an ETag, quoted or bare, as moto writes it."""
    return '"' + etag.strip().strip('"').lower() + '"'


def oss_storage_class(name: str) -> str:
    return {"STANDARD_IA": "IA", "GLACIER": "Archive", "DEEP_ARCHIVE": "ColdArchive"}.get(name, "Standard")


def s3_storage_class(name: str) -> str:
    classes = {"standard": "STANDARD", "ia": "STANDARD_IA", "archive": "GLACIER", "coldarchive": "DEEP_ARCHIVE"}
    if name.lower() not in classes:
        raise Refusal(400, "InvalidStorageClass", f"{name!r} is no storage class")
    return classes[name.lower()]


def _element(name: str, content: str | int | bool | Sequence[Node]) -> Element:
    element = Element(name)
    if isinstance(content, bool):
        element.text = "true" if content else "false"
    elif isinstance(content, (str, int)):
        element.text = str(content)
    else:
        element.extend(_element(tag, inner) for tag, inner in content)
    return element
