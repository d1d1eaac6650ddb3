"""Buckets in a folder: blobs hold the bytes, and one journal per bucket says which bytes are which object.

Each change is one line of the journal, written after all its bytes are stored. So readers see the old object or the new
one, even after the server was killed. All records are also in memory, which answers requests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..local_files import written_whole
from . import records
from .blobs import Blob, BlobFolder
from .records import ObjectRecord, PartRecord, UploadRecord

Entry = dict[str, Any]


def encode_entry(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


class Journal:
    """The journal at `path`, open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)
        self._size = self._file.tell()

    @classmethod
    def begin(cls, path: Path, entries: Iterable[Entry]) -> Journal:
        """Write a journal of these entries at `path`; it atomically replaces an existing one."""
        with written_whole(path) as file:
            file.writelines(map(encode_entry, entries))
        return cls(path)

    def append(self, *entries: Entry) -> None:
        """Write all entries at the end, or none and raise `OSError`."""
        data = b"".join(map(encode_entry, entries))
        try:
            if self._file.write(data) != len(data):
                raise OSError(f"no room left for {self._path}")
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Close and unlink the file."""
        self.close()
        self._path.unlink()


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries at `path`, and cut off an incomplete last line."""
    with open(path, "rb") as file:
        whole_bytes = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            yield _decode(line, path, whole_bytes)
            whole_bytes += len(line)
    if whole_bytes != path.stat().st_size:
        os.truncate(path, whole_bytes)


def _decode(line: bytes, path: Path, position: int) -> Entry:
    try:
        entry: Entry = json.loads(line)
    except ValueError as error:
        raise OSError(f"{path} is damaged at byte {position}: {error}") from error
    return entry


class Bucket:
    """One bucket: its objects, its unfinished uploads, and the journal that persists both."""

    def __init__(
        self, name: str, blobs: BlobFolder, *, created: int, acl: str, storage_class: str, redundancy: str = "LRS"
    ) -> None:
        self.name, self.created, self.acl = name, created, acl
        self.storage_class, self.redundancy = storage_class, redundancy
        self.objects: dict[str, ObjectRecord] = {}
        self.uploads: dict[str, UploadRecord] = {}
        self._blobs = blobs
        self._journal: Journal | None = None
        self._sorted_keys: list[str] | None = None

    def sorted_keys(self) -> list[str]:
        """All keys in UTF-8 byte order, which is also the order of code points."""
        if self._sorted_keys is None:
            self._sorted_keys = sorted(self.objects)
        return self._sorted_keys

    def put(self, record: ObjectRecord) -> None:
        """Make `record` the object of its key."""
        self._write({"put": records.dump_object(record)})
        self._set(record)

    def put_all(self, new: Sequence[ObjectRecord]) -> None:
        """Make each of these the object of its key, with one write to the journal."""
        self._write(*[{"put": records.dump_object(record)} for record in new])
        for record in new:
            self._set(record)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        if key in self.objects:
            self._write({"delete": key})
            self._unset(key)

    def begin_upload(self, upload: UploadRecord) -> None:
        self._write({"upload": records.dump_upload(upload)})
        self.uploads[upload.upload_id] = upload

    def put_part(self, upload_id: str, part: PartRecord) -> None:
        self._write({"part": records.dump_part(part), "of": upload_id})
        self._set_part(upload_id, part)

    def complete_upload(self, upload_id: str, record: ObjectRecord) -> None:
        """Make `record` the object and end the upload, in one step."""
        self._write({"put": records.dump_object(record), "completes": upload_id})
        self._set(record)
        self._drop_upload(upload_id)

    def abort_upload(self, upload_id: str) -> None:
        self._write({"abort": upload_id})
        self._drop_upload(upload_id)

    def update(self, *, acl: str) -> None:
        """Change the bucket's own settings."""
        self.acl = acl
        self._write(self.describe())

    def describe(self) -> Entry:
        settings = {"storage_class": self.storage_class, "redundancy": self.redundancy}
        return {"bucket": {"created": self.created, "acl": self.acl, **settings}}

    def entries(self) -> Iterator[Entry]:
        """The shortest journal that describes this bucket."""
        yield self.describe()
        for record in self.objects.values():
            yield {"put": records.dump_object(record)}
        for upload in self.uploads.values():
            yield {"upload": records.dump_upload(upload)}
            for part in upload.parts.values():
                yield {"part": records.dump_part(part), "of": upload.upload_id}

    def replay(self, entry: Entry, adopt: Callable[[str], Blob]) -> None:
        """Apply a change that the journal holds."""
        if "put" in entry:
            self._set(records.load_object(entry["put"], adopt))
            if "completes" in entry:
                self._drop_upload(entry["completes"])
        elif "delete" in entry:
            self._unset(entry["delete"])
        elif "upload" in entry:
            upload = records.load_upload(entry["upload"])
            self.uploads[upload.upload_id] = upload
        elif "part" in entry:
            self._set_part(entry["of"], records.load_part(entry["part"], adopt))
        elif "abort" in entry:
            self._drop_upload(entry["abort"])
        else:
            self.acl = entry["bucket"]["acl"]

    def write_to(self, journal: Journal) -> None:
        """Write changes to this journal from now on."""
        self._journal = journal

    def blob_names(self) -> set[str]:
        contents = [record.content for record in self.objects.values()]
        contents += [part.content for upload in self.uploads.values() for part in upload.parts.values()]
        return {piece.blob.name for content in contents for piece in content}

    def remove(self) -> None:
        """Delete the journal of an empty bucket."""
        if self._journal is not None:
            self._journal.remove()

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _write(self, *entries: Entry) -> None:
        if self._journal is not None:
            self._journal.append(*entries)

    def _set(self, record: ObjectRecord) -> None:
        self._blobs.retain(record.content)
        old = self.objects.get(record.key)
        self.objects[record.key] = record
        if old is None:
            self._sorted_keys = None
        else:
            self._blobs.release(old.content)

    def _unset(self, key: str) -> None:
        self._blobs.release(self.objects.pop(key).content)
        self._sorted_keys = None

    def _set_part(self, upload_id: str, part: PartRecord) -> None:
        self._blobs.retain(part.content)
        parts = self.uploads[upload_id].parts
        old = parts.get(part.number)
        parts[part.number] = part
        if old is not None:
            self._blobs.release(old.content)

    def _drop_upload(self, upload_id: str) -> None:
        for part in self.uploads.pop(upload_id).parts.values():
            self._blobs.release(part.content)


class Storage:
    """All buckets under `root`, which only one server at a time may use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.buckets: dict[str, Bucket] = {}
        self._journals = root / "buckets"
        self._journals.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(root / "lock")
        self.blobs = BlobFolder(root / "blobs")
        try:
            for path in sorted(self._journals.glob("*.jsonl")):
                self._load(path)
            self.blobs.sweep({name for bucket in self.buckets.values() for name in bucket.blob_names()})
        except BaseException:
            self.close()
            raise

    def create_bucket(
        self, name: str, *, created: int, acl: str, storage_class: str, redundancy: str = "LRS"
    ) -> Bucket:
        bucket = Bucket(name, self.blobs, created=created, acl=acl, storage_class=storage_class, redundancy=redundancy)
        bucket.write_to(Journal.begin(self._path(name), bucket.entries()))
        self.buckets[name] = bucket
        return bucket

    def delete_bucket(self, name: str) -> None:
        self.buckets.pop(name).remove()

    def close(self) -> None:
        for bucket in self.buckets.values():
            bucket.close()
        self.blobs.close()
        self._lock.close()

    def _path(self, name: str) -> Path:
        return self._journals / f"{name}.jsonl"

    def _load(self, path: Path) -> None:
        """Read a bucket; rewrite its journal if most of its lines are history."""
        known: dict[str, Blob] = {}
        entries = read_entries(path)
        first = next(entries)["bucket"]
        bucket = Bucket(path.stem, self.blobs, **first)
        lines = 1

        def adopt(name: str) -> Blob:
            return known.setdefault(name, Blob(name))

        for entry in entries:
            lines += 1
            bucket.replay(entry, adopt)
        needed = 1 + len(bucket.objects) + sum(1 + len(upload.parts) for upload in bucket.uploads.values())
        is_mostly_history = lines > 2 * needed + 100
        bucket.write_to(Journal.begin(path, bucket.entries()) if is_mostly_history else Journal(path))
        self.buckets[bucket.name] = bucket


def _take_lock(path: Path) -> Any:
    """Lock `path` for as long as the returned file is open; raise `OSError` if another process holds the lock."""
    file = open(path, "ab")
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows has no flock, and no second server is noticed there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BlockingIOError(f"{path.parent} is in use by another emulator") from error
    return file
