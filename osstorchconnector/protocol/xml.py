"""OSS's XML documents: those of answers become values, those of requests are rendered.

Nothing from the network is trusted. In addition to what `xml_tree` refuses, these are `OssProtocolError`s: a missing or
repeated element, a size that is not a number, a truncated page without a token, a key that does not fit its encoding.
Unknown elements are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from ..errors import OssProtocolError
from .heads import ResponseHead, bare_etag, error_document, parse_crc64
from .values import Buffer, ListedBucket, ListedObject, ListedObjects, ListedUpload, ListPage, UploadedPart
from .xml_tree import MAX_DOCUMENT_BYTES, Element, parse_document

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_GAP = r"[ \t\r\n]*"
# An entry of a listing; `~` stands for white space. All captured texts are checked together afterwards: `_is_plain`.
_ENTRY = (
    "<Contents>~<Key>([^<]+)</Key>~<LastModified>([^<]*)</LastModified>~"
    '<ETag>(?:"|&quot;)([^"<& ]*)(?:"|&quot;)</ETag>~(?:<Type>[A-Za-z]*</Type>~)?'
    "<Size>([0-9]{1,18})</Size>~(?:<StorageClass>[A-Za-z]*</StorageClass>~)?"
    "(?:<Owner>~<ID>[!-%'-;=?-~]*</ID>~<DisplayName>[ -%'-;=?-~]*</DisplayName>~</Owner>~)?</Contents>"
)
_TIGHT_ENTRY, _SPACED_ENTRY = (re.compile(re.sub("~(?!])", gap, _ENTRY)) for gap in ("", _GAP.replace("\\", r"\\")))
_TOKEN = re.compile(rb"<NextContinuationToken>([0-9A-Za-z+/=_.%-]+)</NextContinuationToken>").findall
_BLANK = re.compile(_GAP).fullmatch
_FAULT_NAMES = ("Code", "Message", "RequestId", "EC", "Endpoint")
_NUMBER = re.compile(r"[0-9]{1,18}").fullmatch
_ETAG = re.compile(r"[!#-~]*").fullmatch
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]").search
_NOT_PRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+").sub


def escape(text: str) -> str:
    """Return text escaped for an element; an unescaped carriage return would be read back as a line feed."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def carries_key(key: str) -> bool:
    """Say whether XML 1.0 can carry this key: it has no way to write most control characters."""
    return _NOT_IN_XML(key) is None


def quoted_etag(etag: str) -> str:
    """Return an ETag as it is sent; `*`, a weak one and one that has quotes stay as they are."""
    return etag if etag == "*" or etag.startswith(('"', "W/")) else f'"{etag}"'


# --- listings


def parse_list_page(body: Buffer, prefix: str | None = None, delimiter: str = "") -> ListPage:
    """Return a page of ListObjectsV2; with `prefix`, a page that names another prefix is an `OssProtocolError`."""
    root, objects = _read_plain_entries(body) or _read_entries(body)
    decode = _decoder(root)
    if prefix is not None:
        _check_echo(root, Prefix=prefix, Delimiter=delimiter)
    prefixes = [decode(entry.need("Prefix")) for entry in root.find_all("CommonPrefixes")]
    token = decode(root.get("NextContinuationToken"))
    if not _flag(root, "IsTruncated"):
        token = ""
    elif not token:
        raise OssProtocolError("list page is truncated but names no NextContinuationToken")
    return ListPage(objects, prefixes, token)


def _read_entries(body: Buffer) -> tuple[Element, Sequence[ListedObject]]:
    """Return the document, and the objects in it."""
    root = parse_document(body, "ListBucketResult")
    decode = _decoder(root)
    return root, [
        ListedObject(decode(entry.need("Key")), _number(entry, "Size"), _etag(entry), entry.get("LastModified"))
        for entry in root.find_all("Contents")
    ]


def _read_plain_entries(body: Buffer) -> tuple[Element, Sequence[ListedObject]] | None:
    """Return the same, six times as fast, if all entries stand together and in OSS's own order; else `None`.

    One pattern reads all entries. Then the rest of the document is parsed, with one empty element in their place. If
    that element is the only entry of the result, the entries were elements, and not part of a comment or a text.
    """
    if len(body) > MAX_DOCUMENT_BYTES:
        return None
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError:
        return None
    before, *fields = (_TIGHT_ENTRY if "</Key><LastModified>" in text else _SPACED_ENTRY).split(text)
    keys, dates, etags, sizes = (fields[number::5] for number in range(4))
    if not fields or not _is_plain("".join((*keys, *dates, *etags))) or not _BLANK("".join(fields[4:-1:5])):
        return None
    root = parse_document(f"{before}<Contents/>{fields[-1]}", "ListBucketResult")
    entries = list(root.find_all("Contents"))
    if len(entries) != 1 or entries[0].children or entries[0].text:
        return None
    return root, ListedObjects(_decoder(root).all(keys), list(map(int, sizes)), etags, dates)


def _is_plain(text: str) -> bool:
    """Say whether this is printable ASCII that needs no escape in XML."""
    return text.isascii() and text.isprintable() and "&" not in text and ">" not in text


def peek_token(body: Buffer) -> str:
    """Return where a listing continues after this page, from a quick look at the document around its entries.

    Empty if that can't be told: only `parse_list_page` knows whether a page is valid, and whether it is the last.
    """
    document = bytes(body)
    first, last = document.find(b"<Contents>"), document.rfind(b"</Contents>")
    around = document if first < 0 else document[:first] + document[last:]
    found = _TOKEN(around)
    if len(found) != 1 or b"<IsTruncated>true</IsTruncated>" not in around:
        return ""
    token = found[0].decode()
    return (
        unquote_to_bytes(token).decode("ascii", "replace") if b"<EncodingType>url</EncodingType>" in around else token
    )


class UploadsPage(NamedTuple):
    """One answer of ListMultipartUploads; both markers are empty on the last page."""

    uploads: list[ListedUpload]
    next_key_marker: str
    next_upload_id_marker: str


def parse_uploads(body: Buffer, prefix: str) -> UploadsPage:
    """Return a page of ListMultipartUploads, of which every key must begin with `prefix`."""
    root = parse_document(body, "ListMultipartUploadsResult")
    decode = _decoder(root)
    _check_echo(root, Prefix=prefix)
    uploads = [
        ListedUpload(decode(entry.need("Key")), entry.need("UploadId"), entry.get("Initiated"))
        for entry in root.find_all("Upload")
    ]
    for upload in uploads:
        if not upload.key.startswith(prefix):
            raise OssProtocolError(f"asked for uploads of {prefix!r}, got one of {upload.key!r}")
    if not _flag(root, "IsTruncated"):
        return UploadsPage(uploads, "", "")
    return UploadsPage(uploads, decode(root.need("NextKeyMarker")), root.get("NextUploadIdMarker"))


class PartsPage(NamedTuple):
    """One answer of ListParts; `next_marker` is 0 on the last page."""

    parts: list[UploadedPart]
    next_marker: int


def parse_parts(body: Buffer, key: str, upload_id: str, marker: int) -> PartsPage:
    """Return a page of ListParts: parts of that upload with rising numbers above `marker`."""
    root = parse_document(body, "ListPartsResult")
    _check_echo(root, Key=key, UploadId=upload_id)
    parts = [
        UploadedPart(
            _number(entry, "PartNumber"),
            _etag(entry),
            _number(entry, "Size"),
            parse_crc64(entry.need("HashCrc64ecma")) or 0,
            entry.get("LastModified"),
        )
        for entry in root.find_all("Part")
    ]
    numbers = [marker, *(part.number for part in parts)]
    if any(after <= before for before, after in pairwise(numbers)):
        raise OssProtocolError(f"the numbers of the parts do not rise above {marker}")
    return PartsPage(parts, _number(root, "NextPartNumberMarker") if _flag(root, "IsTruncated") else 0)


class BucketsPage(NamedTuple):
    """One answer of ListBuckets; `next_marker` is empty on the last page."""

    buckets: list[ListedBucket]
    next_marker: str


def parse_buckets(body: Buffer, marker: str) -> BucketsPage:
    """Return a page of ListBuckets: names that rise above `marker`."""
    root = parse_document(body, "ListAllMyBucketsResult")
    buckets = [
        ListedBucket(entry.need("Name"), entry.get("CreationDate"), entry.get("Region"))
        for group in root.find_all("Buckets")
        for entry in group.find_all("Bucket")
    ]
    names = [marker, *(bucket.name for bucket in buckets)]
    if any(after <= before for before, after in pairwise(names)):
        raise OssProtocolError(f"the names of the buckets do not rise above {marker!r}")
    is_truncated = root.get("IsTruncated") == "true"  # absent where all fit on one page
    return BucketsPage(buckets, root.need("NextMarker") if is_truncated else "")


# --- answers to writes


def parse_upload_id(body: Buffer, key: str) -> str:
    """Return the upload id from the answer to InitiateMultipartUpload for `key`."""
    root = parse_document(body, "InitiateMultipartUploadResult")
    _check_echo(root, Key=key)
    return root.need("UploadId")


def parse_complete(body: Buffer, key: str) -> str:
    """Return the ETag from the answer to CompleteMultipartUpload for `key`."""
    root = parse_document(body, "CompleteMultipartUploadResult")
    _check_echo(root, Key=key)
    root.need("ETag")
    return _etag(root)


def parse_copy(body: Buffer, root_name: str = "CopyObjectResult") -> str:
    """Return the ETag from the answer to CopyObject, or to UploadPartCopy (`CopyPartResult`)."""
    root = parse_document(body, root_name)
    root.need("ETag")
    return _etag(root)


def parse_deleted(body: Buffer, asked: Collection[str]) -> list[str]:
    """Return the keys that DeleteMultipleObjects names as deleted; a quiet answer is empty and names none."""
    if not len(body):
        return []
    root = parse_document(body, "DeleteResult")
    decode = _decoder(root)
    for entry in root.find_all("Error"):
        raise OssProtocolError(f"not deleted: {decode(entry.get('Key'))[:1023]!r}: {entry.get('Code')[:80]!r}")
    deleted = [decode(entry.need("Key")) for entry in root.find_all("Deleted")]
    if foreign := set(deleted).difference(asked):
        raise OssProtocolError(f"the answer is to another request: it says that {min(foreign)[:1023]!r} was deleted")
    return deleted


# --- errors


class ServiceFault(NamedTuple):
    """The texts of an error document that may be shown; empty where it has none.

    `ec` is OSS's number of the exact cause, `endpoint` the right one for the bucket.

    The other elements are left out on purpose: OSS echoes the security token, and the text to sign, which contains it.
    """

    code: str = ""
    message: str = ""
    request_id: str = ""
    ec: str = ""
    endpoint: str = ""


def parse_error(body: Buffer, head: ResponseHead | None = None) -> ServiceFault:
    """Return what an error document says; an empty fault for anything else (a proxy's page, an empty body).

    If the body is empty, as in answers to HEAD, the document in the header of `head` is read.
    """
    if head is not None and not len(body):
        body = error_document(head)
    try:
        root = parse_document(body, "Error")
        return ServiceFault(*(_one_line(root.get(name)) for name in _FAULT_NAMES))
    except OssProtocolError:
        return ServiceFault()


def _one_line(text: str) -> str:
    return _NOT_PRINTABLE(" ", text[:1024]).strip()


# --- documents that are sent


def render_complete(parts: Iterable[UploadedPart]) -> bytes:
    """Return the body of CompleteMultipartUpload."""
    entries = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(quoted_etag(part.etag))}</ETag></Part>"
        for part in sorted(parts)
    )
    return f"{_DECLARATION}<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>".encode()


def render_delete(keys: Sequence[str], quiet: bool = True) -> bytes:
    """Return the body of DeleteMultipleObjects; `ValueError` for a key that XML can't carry."""
    for key in keys:
        if not carries_key(key):
            raise ValueError(f"key {key!r} can't be written in XML: delete it by itself")
    entries = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f"{_DECLARATION}<Delete><Quiet>{str(quiet).lower()}</Quiet>{entries}</Delete>".encode()


def render_bucket(storage_class: str, redundancy: str) -> bytes:
    """Return the body of PutBucket; what is empty is left to OSS."""
    wanted = (("StorageClass", storage_class), ("DataRedundancyType", redundancy))
    entries = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in wanted if value)
    return f"{_DECLARATION}<CreateBucketConfiguration>{entries}</CreateBucketConfiguration>".encode()


# --- values in elements


class Decoder:
    """Decodes keys that a document declares as percent-encoded."""

    def __init__(self, url_encoded: bool) -> None:
        self._url_encoded = url_encoded

    def __call__(self, text: str) -> str:
        """Return the decoded key; `OssProtocolError` if it is not percent-encoded UTF-8."""
        if not self._url_encoded or "%" not in text:
            return text
        if _BAD_ESCAPE(text):
            raise OssProtocolError(f"not percent-encoded: {text[:80]!r}")
        try:
            return unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            raise OssProtocolError(f"a key that is not UTF-8: {text[:80]!r}") from None

    def all(self, texts: list[str]) -> list[str]:
        """Return many decoded keys; before decoding, none of them contains a line feed."""
        if not self._url_encoded:
            return texts
        joined = "\n".join(texts)
        if "%0A" in joined or "%0a" in joined:
            return [self(text) for text in texts]
        # Most keys have no escape other than that of the slash.
        return self(joined.replace("%2F", "/")).split("\n")


def _decoder(root: Element) -> Decoder:
    encoding = root.get("EncodingType")
    if encoding not in ("", "url"):
        raise OssProtocolError(f"{root.name} document with unknown EncodingType {encoding[:40]!r}")
    return Decoder(encoding == "url")


def _check_echo(root: Element, **asked: str) -> None:
    """Compare what an answer repeats of its request with the request: a cache may send the answer to another one.

    Missing or empty elements are ignored, because servers differ in what they repeat. They differ in the spelling, too:
    a document may declare its names as percent-encoded where they are not, and the other way round.
    """
    for name, value in asked.items():
        said = root.get(name)
        if said and value not in (said, unquote(said)):
            raise OssProtocolError(f"the answer is to another request: {name} is {said!r}, asked for was {value!r}")


def _number(element: Element, name: str) -> int:
    text = element.need(name)
    if not _NUMBER(text):
        raise OssProtocolError(f"{element.name} document: {name} is no number: {text[:40]!r}")
    return int(text)


def _flag(element: Element, name: str) -> bool:
    text = element.need(name)
    if text not in ("true", "false"):
        raise OssProtocolError(f"{element.name} document: {name} is neither true nor false: {text[:40]!r}")
    return text == "true"


def _etag(element: Element) -> str:
    etag = bare_etag(element.get("ETag"))
    if not _ETAG(etag):
        raise OssProtocolError(f"{element.name} document: not an ETag: {etag[:80]!r}")
    return etag
