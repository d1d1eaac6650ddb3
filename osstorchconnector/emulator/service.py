"""An OSS account without a network: buckets, identities, policy, and clock."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..credentials import Credentials
from .auth import Keyring
from .blobs import BlobFolder, Content, cut, size_of
from .exchange import Call
from .intake import Digest
from .records import ObjectRecord
from .refusals import Refused
from .routing import check_bucket_name, is_live
from .storage import Bucket, Storage

MAX_BODY_BYTES = 5 * 1024**3
OWNER_ID = "1234567890123456"
_STEP_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules that tests and benchmarks change.

    `discard_bodies`: check uploads and keep only their records; uploads of up to `keep_up_to_bytes` are kept all the
    same. `fast_etag`: make ETags of CRC-64 and size instead of MD5. `accept_v1`: accept signature V1 beside V4.
    `restore_seconds`: the time to restore an archived object.
    """

    region: str = "cn-test"
    discard_bodies: bool = False
    keep_up_to_bytes: int = -1
    fast_etag: bool = False
    accept_v1: bool = True
    min_part_bytes: int = 102_400
    restore_seconds: float = 60.0


@dataclass
class Service:
    """The state that all operations work on; `endpoint` is the server's endpoint for clients on this machine."""

    storage: Storage
    keyring: Keyring
    policy: Policy = field(default_factory=Policy)
    clock_offset_seconds: float = 0.0
    endpoint: str = "http://localhost"

    @classmethod
    def open(cls, root: Path, *identities: Credentials, policy: Policy | None = None) -> Service:
        return cls(Storage(root), Keyring(*identities), policy or Policy())

    @property
    def blobs(self) -> BlobFolder:
        return self.storage.blobs

    def endpoint_for(self, call: Call) -> str:
        """Return an endpoint of this server that the caller can reach; never one of the live service."""
        host = call.headers.get("host", "").removeprefix(f"{call.bucket}.")
        if not host or is_live(host):
            return self.endpoint
        return f"{self.endpoint.partition('://')[0]}://{host}"

    def location(self, call: Call, key: str) -> str:
        """Return the address of an object."""
        in_host = call.headers.get("host", "").startswith(f"{call.bucket}.") and not is_live(call.headers["host"])
        endpoint = self.endpoint_for(call)
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{call.bucket}.{host}/{key}" if in_host else f"{endpoint}/{call.bucket}/{key}"

    def now(self) -> float:
        """The server's time, in seconds since the epoch."""
        return time.time() + self.clock_offset_seconds

    def create_bucket(
        self, name: str, *, acl: str = "private", storage_class: str = "Standard", redundancy: str = "LRS"
    ) -> Bucket:
        """Create a bucket; refuse an invalid name, since it becomes a file name."""
        check_bucket_name(name)
        return self.storage.create_bucket(
            name, created=int(self.now()), acl=acl, storage_class=storage_class, redundancy=redundancy
        )

    def ensure_bucket(self, name: str) -> None:
        """Create a bucket unless it exists."""
        if name not in self.storage.buckets:
            self.create_bucket(name)

    def bucket(self, name: str) -> Bucket:
        """Return a bucket; refuse a name that does not exist."""
        bucket = self.storage.buckets.get(name)
        if bucket is None:
            raise Refused("NoSuchBucket", extras={"BucketName": name})
        return bucket

    def record(self, call: Call) -> ObjectRecord:
        """Return the record of the object that a call names; refuse a missing object."""
        return self.find(call.bucket, call.key)

    def find(self, bucket: str, key: str) -> ObjectRecord:
        record = self.bucket(bucket).objects.get(key)
        if record is None:
            raise Refused("NoSuchKey", extras={"BucketName": bucket, "Key": key})
        return record

    def digest(self, content: Content) -> Digest:
        """Read all of `content` and return its digest."""
        digest = Digest(with_md5=not self.policy.fast_etag)
        for position in range(0, size_of(content), _STEP_BYTES):
            digest.update(memoryview(self.blobs.read(cut(content, position, position + _STEP_BYTES))))
        return digest

    def overwrite(self, bucket: str, key: str, data: bytes | None = None) -> None:
        """Put an object without any check; without `data` it is the old one with its first byte changed."""
        old = self.bucket(bucket).objects.get(key)
        if data is None and old is not None and old.content:
            changed = bytes([self.blobs.read(cut(old.content, 0, 1))[0] ^ 1])
            content = (*self.blobs.store(changed), *cut(old.content, 1, old.size))
        else:
            content = self.blobs.store(b"replaced" if data is None else data)
        digest = self.digest(content)
        headers = old.headers if old is not None else {"Content-Type": "application/octet-stream"}
        record = ObjectRecord(key, content, digest.size, digest.etag, digest.crc64, int(self.now()), headers=headers)
        self.bucket(bucket).put(record)

    def close(self) -> None:
        self.storage.close()


def new_upload_id() -> str:
    return os.urandom(16).hex().upper()
