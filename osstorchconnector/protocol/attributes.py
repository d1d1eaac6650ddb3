"""What is stored beside the bytes of an object: content type, metadata of the user's, storage class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import OssUsageError
from .values import Pairs

BYTES = "application/octet-stream"
STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
MAX_METADATA_BYTES = 8 << 10
METADATA = "x-oss-meta-"

_NAME = re.compile(r"[a-z0-9-]+")
# What a header can carry: anything else would have to be encoded in a way that readers know.
_VALUE = re.compile(r"[\x21-\x7e]+(?:[\x20-\x7e]*[\x21-\x7e])?|")


class Attributes(NamedTuple):
    """Attributes of an object to be stored. Make one with `attributes`, which checks them."""

    content_type: str = BYTES
    metadata: Pairs = ()
    storage_class: str = ""

    def headers(self) -> Pairs:
        """Return the headers of a request that stores an object."""
        found: Pairs = (("content-type", self.content_type),)
        if self.storage_class:
            found += (("x-oss-storage-class", self.storage_class),)
        return found + tuple((METADATA + name, value) for name, value in self.metadata)


PLAIN = Attributes()


def attributes(
    content_type: str = "", metadata: Mapping[str, str] | None = None, storage_class: str = ""
) -> Attributes:
    """Return attributes of these values; what is empty is left to OSS's defaults.

    Names of metadata are letters, digits and `-`, and are stored in lower case. Values are printable ASCII without
    blanks at the ends. Raises `OssUsageError` for anything else, for more than 8 KiB of metadata, and for a storage
    class that OSS does not have.
    """
    if not (content_type or metadata or storage_class):
        return PLAIN
    if storage_class and storage_class not in STORAGE_CLASSES:
        raise OssUsageError(f"storage_class: {storage_class!r:.80} is none of {', '.join(STORAGE_CLASSES)}")
    if not _VALUE.fullmatch(content_type):
        raise OssUsageError(f"content_type: {content_type!r:.80} is no type such as image/png")
    pairs = tuple((name.lower(), value) for name, value in (metadata or {}).items())
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise OssUsageError(f"metadata: {name!r:.80} is no name: letters, digits and '-' are allowed")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise OssUsageError(
                f"metadata: the value of {name!r:.80} is no printable ASCII text: encode it, such as with "
                "urllib.parse.quote"
            )
    size = sum(len(METADATA) + len(name) + len(value) for name, value in pairs)
    if size > MAX_METADATA_BYTES:
        raise OssUsageError(f"metadata: {size} bytes with their names; OSS allows {MAX_METADATA_BYTES}")
    return Attributes(content_type or BYTES, pairs, storage_class)
