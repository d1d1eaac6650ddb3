"""moto, and what OSS remembers of an object that S3 does not: its CRC-64 and its type."""

from __future__ import annotations

from . import documents
from .checksum import crc64_of
from .messages import OssRequest, Refusal, Reply
from .moto_s3 import MotoS3

CONTENT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)


class Store:
    """The state behind the facade. One request at a time: the facade holds a lock."""

    def __init__(self) -> None:
        self.moto = MotoS3()
        self.tokens: set[str] = set()
        self.initiated: dict[str, str] = {}
        self._crc_of_etag: dict[str, int] = {}
        self._appendable: set[tuple[str, str]] = set()

    def remember_crc(self, etag: str, body: bytes) -> int:
        """Keep the CRC-64 of bytes under their ETag, which is made of their MD5s and so identifies them."""
        return self._crc_of_etag.setdefault(documents.s3_etag(etag), crc64_of(body))

    def crc(self, etag: str) -> int:
        return self._crc_of_etag[documents.s3_etag(etag)]

    def was_written(self, bucket: str, key: str, *, by_append: bool = False) -> None:
        """Note that an object is new, or gone."""
        self._appendable.discard((bucket, key))
        if by_append:
            self._appendable.add((bucket, key))

    def object_type(self, bucket: str, key: str, etag: str) -> str:
        if (bucket, key) in self._appendable:
            return "Appendable"
        return "Multipart" if "-" in etag else "Normal"

    def head(self, bucket: str, key: str) -> Reply | None:
        """Return moto's head of an object, or None if there is no such object."""
        try:
            return self.moto.call("HEAD", bucket, key)
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            return None

    def require_bucket(self, bucket: str) -> None:
        try:
            self.moto.call("HEAD", bucket)
        except Refusal:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=bucket) from None

    def object_headers(self, bucket: str, key: str, moto_headers: dict[str, str]) -> dict[str, str]:
        """Return what OSS says of an object in the head of an answer."""
        etag = documents.oss_etag(moto_headers["etag"])
        kept = {name: moto_headers[name] for name in (*CONTENT_HEADERS, "content-range") if name in moto_headers}
        if kept.get("content-type", "binary/octet-stream") == "binary/octet-stream":
            kept["content-type"] = "application/octet-stream"
        meta = {
            f"x-oss-meta-{name.removeprefix('x-amz-meta-')}": value
            for name, value in moto_headers.items()
            if name.startswith("x-amz-meta-")
        }
        return {
            **kept,
            **meta,
            "accept-ranges": "bytes",
            "etag": etag,
            "last-modified": moto_headers["last-modified"],
            "x-oss-object-type": self.object_type(bucket, key, etag),
            "x-oss-storage-class": documents.oss_storage_class(moto_headers.get("x-amz-storage-class", "")),
            "x-oss-hash-crc64ecma": str(self.crc(etag)),
        }


def s3_object_headers(request: OssRequest) -> dict[str, str]:
    """Return those headers of a writing request that stay with the object, under S3's names."""
    kept = {name: request.headers[name] for name in CONTENT_HEADERS if name in request.headers}
    for name, value in request.headers.items():
        if name.startswith("x-oss-meta-"):
            kept[f"x-amz-meta-{name.removeprefix('x-oss-meta-')}"] = value
    if "x-oss-storage-class" in request.headers:
        kept["x-amz-storage-class"] = documents.s3_storage_class(request.headers["x-oss-storage-class"])
    return kept


def refuse_overwrite(store: Store, request: OssRequest, *, forbidden: bool) -> None:
    """Refuse to write where there is an object already, if the request says so."""
    if forbidden and store.head(request.bucket, request.key) is not None:
        raise Refusal(409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.")
