"""`OssFileSystem`: `oss://` for fsspec and everything that is built on it."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import tokenize

from ..errors import OssExistsError, OssUsageError
from .access import with_blocking_methods
from .appending import OssAppendFile
from .changes import Changes
from .opened import CompressedWriter, OssCachedFile, OssReadFile, OssWriteFile, Outlet, TextWriter
from .paths import object_uri_of, refuse_options
from .reading import Reading
from .settings import Settled

MODES = ("rb", "wb", "ab", "xb")
BLOCK_BYTES = 5 << 20
MAX_SIGNED_SECONDS = 604_800


@with_blocking_methods
class OssFileSystem(Reading, Changes, metaclass=Settled):
    """Objects of Alibaba Cloud OSS as files: the fsspec file system for `oss://bucket/key`.

        fs = OssFileSystem("https://oss-cn-beijing.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
        fs.ls("bucket/folder")
        with fs.open("oss://bucket/folder/object", "wb") as file:
            file.write(data)

    Where this library is installed, fsspec finds it by itself: `pandas.read_parquet("oss://bucket/table",
    storage_options={"endpoint": ...})`.

    - `endpoint`: the URL of OSS, or an `OssClient`, which has the next settings already. Default: the environment
      variable OSS_ENDPOINT, else the public endpoint of `region`, which defaults to OSS_REGION.
    - `cred_path`, `cred_provider`, `anonymous` (or `anon`), `config_path`, `region`: as for `OssClient`. Or
      `key`, `secret` and `token`, which are ossfs's names.
    - `default_cache_type`, `default_block_size`: one of fsspec's caches for reading; by default files read ahead by
      themselves
    - `use_listings_cache`, `listings_expiry_time` (30 seconds), `max_paths`: how long listings are kept
    - `multipart_copy_bytes` (1 GiB): larger objects are copied in parts of this size
    - `batch_size` (64): how many files are worked on at a time by calls for many files
    - `asynchronous`, `loop`, `skip_instance_cache`: as fsspec has them; the loop is always our own

    A directory is the beginning of keys. Instances are shared by their settings. A file system may be used by any
    thread, awaited on any event loop, pickled (secrets stay out of the pickle), and used after a fork.

    Errors are `OssError`s, and also Python's own: `FileNotFoundError`, `FileExistsError`, `PermissionError`,
    `TimeoutError`, `ConnectionError`. A directory where an object is wanted is an `IsADirectoryError`. What would be
    dangerous is an `OssUsageError`: `rm` of a whole bucket, `mv` onto itself.
    """

    _extra_tokenize_attributes = ("environment",)

    def open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """Open an object for reading ("rb"), writing ("wb", "xb") or appending ("ab"); as text without the "b".

        What is written is stored when the file is closed, whole, and not at all if the `with` block raises. "xb" raises
        `FileExistsError`, at once or when it is closed, if there is such an object. `compression` is one of fsspec's
        names, or "infer". `cache_type`, for reading, names one of fsspec's caches; `size` is the object's, if known.
        `metadata`, for "wb" and "xb", is kept with the object, and `info` returns it.
        """
        text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        binary_mode = mode.replace("t", "").replace("b", "") + "b"
        make = functools.partial(super().open, path, binary_mode, block_size=block_size, cache_options=cache_options)
        is_read = binary_mode == "rb"
        file = make(**options)
        codec = get_compression(str(path), compression)
        if codec is not None:
            inner = file if is_read else Outlet(file)
            compressed = compr[codec](inner, mode=binary_mode[0])
            file = compressed if is_read else CompressedWriter(compressed, inner)
        if "b" in mode:
            return file
        return io.TextIOWrapper(file, **text) if is_read else TextWriter(file, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        cache_type: str | None = None,
        size: int | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        if mode not in ("wb", "xb"):
            options["metadata"] = metadata
        refuse_options("open", path, options)
        object_uri_of(path)
        if mode not in MODES:
            raise OssUsageError(f"open {path}: mode {mode!r}: an object can be opened with {', '.join(MODES)}")
        block_size = block_size or self.default_block_size
        if mode == "rb":
            cache_type = cache_type or self.default_cache_type
            if cache_type is None:
                return OssReadFile(self, path, block_size=block_size, size=size)
            return OssCachedFile(
                self,
                path,
                block_size=block_size or BLOCK_BYTES,
                cache_type=cache_type,
                cache_options=cache_options,
                size=size,
            )
        if mode == "ab":
            return OssAppendFile(self, path, autocommit=autocommit, block_size=block_size)
        if mode == "xb" and self._there(path):
            raise OssExistsError(f"open {object_uri_of(path).shown} with mode 'xb': there is such an object")
        return OssWriteFile(self, path, mode=mode, autocommit=autocommit, block_size=block_size, metadata=metadata)

    def _there(self, path: str) -> bool:
        """Say whether OSS has this object now, whatever was listed."""
        self.invalidate_cache(path)
        return bool(self.isfile(path))

    # what is known of one object

    def modified(self, path: Any) -> datetime:
        """Return when the object was last changed, in UTC."""
        moment: datetime = self.info(path)["LastModified"]
        return moment

    def created(self, path: Any) -> datetime:
        """Return the same as `modified`: OSS knows no other time, and a written object is a new one."""
        return self.modified(path)

    def ukey(self, path: Any) -> str:
        """Return the object's ETag, which changes with its content."""
        return str(self.info(path)["ETag"])

    def checksum(self, path: Any) -> int:
        """Return a number that changes with the content."""
        entry = self.info(path)
        return int(tokenize(entry["name"], entry["size"], entry["ETag"]), 16)

    def sign(self, path: Any, expiration: int = 100, **options: Any) -> str:
        """Return a URL with which anybody can read the object for `expiration` seconds, up to 7 days."""
        return self._wait(self._sign(path, expiration, **options))

    async def _sign(self, path: Any, expiration: int = 100, **options: Any) -> str:
        refuse_options("sign", path, options)
        if not 1 <= expiration <= MAX_SIGNED_SECONDS:
            raise OssUsageError(f"sign: an expiration from 1 to {MAX_SIGNED_SECONDS} seconds, not {expiration}")
        uri = object_uri_of(path)
        return await self._ask(lambda operations: operations.signed_url(uri, seconds=expiration))
