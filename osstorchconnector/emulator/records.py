"""Records of objects, parts and uploads, and their form in a journal.

`content` of a record is shorter than `size` if the server was told to check bodies and not to keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .blobs import Blob, BlobSpan, Content, size_of

NORMAL, MULTIPART, APPENDABLE, SYMLINK = "Normal", "Multipart", "Appendable", "Symlink"
DEFAULT_ACL = "default"


@dataclass(frozen=True, slots=True)
class Traits:
    """What few objects have: an ACL of their own, tags, the target of a symlink, a restored copy.

    The copy of an archived object can be read from `readable_at` until `readable_until`, in seconds since the epoch.
    """

    acl: str = DEFAULT_ACL
    tags: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    readable_at: int = 0
    readable_until: int = 0


NO_TRAITS = Traits()


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRecord:
    """One object. `etag` is upper hex without quotes; `headers` are the writer's, with names as they are returned.

    A record equals only itself: each write of a key makes a new one.
    """

    key: str
    content: Content
    size: int
    etag: str
    crc64: int | None
    modified: int
    kind: str = NORMAL
    storage_class: str = "Standard"
    headers: dict[str, str] = field(default_factory=dict)
    traits: Traits = NO_TRAITS

    @property
    def is_discarded(self) -> bool:
        return size_of(self.content) != self.size


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One uploaded part."""

    number: int
    content: Content
    size: int
    etag: str
    crc64: int
    modified: int


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A multipart upload that is neither completed nor aborted."""

    upload_id: str
    key: str
    initiated: int
    storage_class: str = "Standard"
    headers: dict[str, str] = field(default_factory=dict)
    traits: Traits = NO_TRAITS
    parts: dict[int, PartRecord] = field(default_factory=dict)


def dump_content(content: Content) -> list[list[Any]]:
    return [[piece.blob.name, piece.start, piece.stop] for piece in content]


def load_content(entry: list[list[Any]], adopt: Callable[[str], Blob]) -> Content:
    """Undo `dump_content`; `adopt` returns the blob of a name, always the same one."""
    return tuple(BlobSpan(adopt(name), start, stop) for name, start, stop in entry)


def dump_object(record: ObjectRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "content": dump_content(record.content),
        "size": record.size,
        "etag": record.etag,
        "crc64": record.crc64,
        "modified": record.modified,
        "kind": record.kind,
        "storage_class": record.storage_class,
        "headers": record.headers,
        **_dump_traits(record.traits),
    }


def load_object(entry: dict[str, Any], adopt: Callable[[str], Blob]) -> ObjectRecord:
    content, traits = load_content(entry["content"], adopt), Traits(**entry.get("traits", {}))
    return ObjectRecord(**{**entry, "content": content, "traits": traits})


def dump_part(part: PartRecord) -> dict[str, Any]:
    return {
        "number": part.number,
        "content": dump_content(part.content),
        "size": part.size,
        "etag": part.etag,
        "crc64": part.crc64,
        "modified": part.modified,
    }


def load_part(entry: dict[str, Any], adopt: Callable[[str], Blob]) -> PartRecord:
    return PartRecord(**{**entry, "content": load_content(entry["content"], adopt)})


def dump_upload(upload: UploadRecord) -> dict[str, Any]:
    """Return everything but the parts, which have entries of their own."""
    return {
        "upload_id": upload.upload_id,
        "key": upload.key,
        "initiated": upload.initiated,
        "storage_class": upload.storage_class,
        "headers": upload.headers,
        **_dump_traits(upload.traits),
    }


def load_upload(entry: dict[str, Any]) -> UploadRecord:
    return UploadRecord(**{**entry, "traits": Traits(**entry.get("traits", {}))})


def _dump_traits(traits: Traits) -> dict[str, Any]:
    return {} if traits is NO_TRAITS else {"traits": asdict(traits)}
