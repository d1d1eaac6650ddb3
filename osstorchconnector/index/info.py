"""What is known of an object before it is fetched."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..uri import OssUri


class ObjectInfo(NamedTuple):
    """What is known of an object before it is fetched. It is a named tuple.

    - `uri`: the object's `OssUri`, with the fields `bucket` and `key`
    - `size`: its size in bytes; None if it is not known (a manifest and a list of URIs give none)
    - `label`: its label from a manifest, any value; `""` if there is none
    - `etag`: its ETag, from a listing; `""` if it is not known
    """

    uri: OssUri
    size: int | None = None
    label: Any = ""
    etag: str = ""
