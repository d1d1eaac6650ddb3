"""What is known of an object before it is fetched."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..uri import OssUri


class ObjectInfo(NamedTuple):
    """An object to fetch: a listing knows size and ETag, a manifest may know a label, a bare URI nothing more."""

    uri: OssUri
    size: int | None = None
    label: Any = ""
    etag: str = ""
