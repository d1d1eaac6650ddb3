"""Writing, copying, moving and removing: one object at a time, and many."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from ..client.operations import Operations
from ..errors import OssNotFoundError, OssUsageError
from ..files.part_sizes import MAX_PARTS
from ..files.writer import OssWriter
from ..protocol.attributes import attributes
from ..protocol.values import ByteSpan, ObjectStat, UploadedPart
from ..transfer.single import opened_unchanged, send_file, send_stream
from ..uri import OssUri
from .listings import Listings
from .paths import (
    attributes_of,
    folder_of,
    forbids,
    is_local_folder,
    missing,
    object_uri_of,
    refuse_options,
    stripped,
    uri_of,
)
from .ranges import even_spans

COPIES_IN_FLIGHT = 16
DELETED_TOGETHER = 1000


class Changes(Listings):
    """Everything that changes objects. Each forgets what was listed of the places that it changes."""

    # writing

    async def _pipe_file(
        self,
        path: Any,
        value: Any,
        mode: str = "overwrite",
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Store bytes as an object. With mode "create", `FileExistsError` if there is one.

        `metadata`, names and values, is kept with the object, and `info` returns it.
        """
        refuse_options("pipe_file", path, options)
        uri, is_new = object_uri_of(path), forbids(mode)
        size = memoryview(value).nbytes
        if size <= self.client.config.part_bytes:
            stored = attributes(metadata=metadata)
            await self._ask(lambda operations: operations.put(uri, value, forbid_overwrite=is_new, attributes=stored))
        else:
            await self._in_thread(_write, self._writer(uri, is_new, metadata), value)
        self.invalidate_cache(stripped(path))

    def _writer(self, uri: OssUri, is_new: bool, metadata: Mapping[str, str] | None) -> OssWriter:
        return OssWriter(
            self.client,
            uri,
            transfer=self.client.config.checkpoint,
            forbid_overwrite=is_new,
            attributes=attributes(metadata=metadata),
        )

    async def _put_file(
        self,
        lpath: Any,
        rpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Upload a local file, in parts at a time if it is large. With mode "create", `FileExistsError` if it is there.

        A local directory is nothing to upload: it exists in OSS as soon as something is in it. `metadata` is as for
        `pipe_file`. `OssError` if the file is written to meanwhile: then nothing is stored.
        """
        refuse_options("put_file", rpath, options)
        if is_local_folder(lpath):
            return
        writer = self._writer(object_uri_of(rpath), forbids(mode), metadata)
        await self._in_thread(self._upload, lpath, writer, callback)
        self.invalidate_cache(stripped(rpath))

    def _upload(self, lpath: Any, writer: OssWriter, callback: Any) -> None:
        if isfilelike(lpath):
            with writer:
                send_stream(lpath, writer, callback.relative_update)
            return
        with writer, opened_unchanged(lpath) as file:
            if size := os.fstat(file.fileno()).st_size:
                callback.set_size(size)
            send_file(file, writer, callback.relative_update)

    def touch(self, path: Any, truncate: bool = True, **options: Any) -> None:
        """Make an empty object. With `truncate=False` an existing one keeps its bytes, and is changed now."""
        self._wait(self._touch(path, truncate, **options))

    async def _touch(self, path: Any, truncate: bool = True, **options: Any) -> None:
        refuse_options("touch", path, options)
        uri = object_uri_of(path)
        if truncate or not await self._exists(path):
            await self._ask(lambda operations: operations.put(uri, b""))
        else:
            await self._copy_object(uri, uri)
        self.invalidate_cache(stripped(path))

    # directories: there is nothing to make

    async def _mkdir(self, path: Any, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: a directory exists while something is in it. `OssUsageError` for a bucket that does not exist."""
        path = stripped(path)
        if path and "/" not in path and not await self._exists(path):
            raise OssUsageError(f"mkdir {path}: buckets are not created here: create it in the console or with ossutil")

    async def _makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Do nothing, as `mkdir`; `FileExistsError` if there is something and `exist_ok` is false."""
        if not exist_ok and await self._exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), stripped(path))

    def rmdir(self, path: Any) -> None:
        """Remove an empty directory, which is a marker. `OSError` if something is in it."""
        self._wait(self._rmdir(path))

    async def _rmdir(self, path: Any) -> None:
        path = stripped(path)
        folder = folder_of(path)
        if not folder.key:
            raise OssUsageError(f"rmdir {path}: buckets are not removed here: use the console or ossutil")
        page = await self._ask(lambda operations: operations.list_page(folder, max_keys=2))
        if not page.objects:
            raise missing(path)
        if page.keys != [folder.key]:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        await self._ask(lambda operations: operations.delete(folder))
        self.invalidate_cache(path)

    # copies

    async def _cp_file(self, path1: Any, path2: Any, mode: str = "overwrite", **options: Any) -> None:
        """Copy an object within OSS, with all that OSS keeps with it; of a directory only the marker, if it has one.

        With mode "create", `FileExistsError` if `path2` is there.

        An object of more than `multipart_copy_bytes` is copied in parts: then tags are left out.
        """
        refuse_options("cp_file", path1, options)
        source = object_uri_of(path1)
        try:
            await self._copy_object(source, object_uri_of(path2), is_new=forbids(mode))
        except OssNotFoundError as error:
            if error.code == "NoSuchBucket" or not await self._isdir(path1):
                raise
            return
        self.invalidate_cache(stripped(path2))

    async def _copy_object(self, source: OssUri, target: OssUri, *, is_new: bool = False) -> None:
        stat = await self._ask(lambda operations: operations.head(source))
        most = self.multipart_copy_bytes
        if stat.size <= most:
            await self._ask(
                lambda operations: operations.copy(source, target, if_match=stat.etag, forbid_overwrite=is_new)
            )
        else:
            await self._ask(lambda operations: copy_in_parts(operations, source, target, stat, most, is_new))

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Copy within OSS, then remove the old objects: for a moment both exist.

        Raises `OssUsageError` for a path that is moved onto itself or into itself.
        """
        first, second = stripped(path1), stripped(path2)
        if first == second:
            raise OssUsageError(f"mv {first}: it can't be moved onto itself")
        if recursive and second.startswith(f"{first}/"):
            raise OssUsageError(f"mv {first}: it can't be moved into itself, to {second}")
        self.copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
        self.rm(path1, recursive=recursive)

    # removing

    async def _rm_file(self, path: Any, **_: Any) -> None:
        """Remove an object; one that does not exist counts as removed."""
        uri = object_uri_of(path)
        await self._ask(lambda operations: operations.delete(uri))
        self.invalidate_cache(stripped(path))

    async def _rm(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, batch_size: int | None = None, **_: Any
    ) -> None:
        """Remove objects, a thousand in a request; with `recursive` also what is below the paths.

        `FileNotFoundError` for a single path where nothing is, `IsADirectoryError` for a directory without `recursive`.
        A bucket is never emptied: that is an `OssUsageError`.
        """
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        for each in paths:
            if "/" not in stripped(each):
                _refuse_bucket(stripped(each), recursive)
        if recursive and maxdepth is None and not any(map(_has_magic, paths)):
            await asyncio.gather(*(self._in_thread(self._remove_tree, stripped(each)) for each in paths))
        else:
            if len(paths) == 1 and not recursive and not _has_magic(paths[0]):
                await self._check_object(paths[0])
            found = await self._expand_path(paths, recursive=recursive, maxdepth=maxdepth)
            await self._remove(found)
        for each in paths:
            self.invalidate_cache(stripped(each))

    async def _check_object(self, path: Any) -> None:
        if (await self._info(path, refresh=True))["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "a directory: rm with recursive=True removes it", stripped(path))

    async def _remove(self, paths: list[str]) -> None:
        """Remove these objects; names of directories among them name no object."""
        by_bucket: dict[str, list[str]] = {}
        for path in paths:
            uri = uri_of(path)
            by_bucket.setdefault(uri.bucket, []).append(uri.key)
            self.invalidate_cache(stripped(path))
        for bucket, keys in by_bucket.items():
            batches = [keys[start : start + DELETED_TOGETHER] for start in range(0, len(keys), DELETED_TOGETHER)]
            await asyncio.gather(*(self._ask(functools.partial(_delete, bucket, batch)) for batch in batches))

    def _remove_tree(self, path: str) -> None:
        """Remove an object and all that is below its name, while it is listed."""
        uri, count = uri_of(path), 0

        def batches() -> Iterator[list[str]]:
            nonlocal count
            for page in self._pages_below(path, ""):
                if page.keys:
                    count += len(page.keys)
                    yield page.keys

        for _ in self.client.map(
            lambda operations, keys: operations.delete_many(uri.bucket, keys),
            batches(),
            concurrency=COPIES_IN_FLIGHT,
            workers=1,
            in_order=False,
        ):
            pass
        if not count:
            self.client.head(uri)
        self.client.delete(uri)
        self.dircache.clear()


async def copy_in_parts(
    operations: Operations, source: OssUri, target: OssUri, stat: ObjectStat, part_bytes: int, is_new: bool = False
) -> None:
    """Copy a large object by parts, several at a time; nothing is published unless the CRC-64 of all is right.

    With `is_new`, `OssExistsError` if the target is there.
    """
    part_bytes = max(part_bytes, -(-stat.size // MAX_PARTS))
    upload_id = await operations.create_upload(target, attributes=attributes_of(stat))
    try:
        free = asyncio.Semaphore(COPIES_IN_FLIGHT)

        async def copy(number: int, span: ByteSpan) -> None:
            async with free:
                await operations.upload_part_copy(target, upload_id, number, source, span, if_match=stat.etag)

        spans = enumerate(even_spans(stat.size, part_bytes), start=1)
        await gather_or_cancel([asyncio.ensure_future(copy(number, span)) for number, span in spans])
        parts: list[UploadedPart] = await operations.list_parts(target, upload_id)
        await operations.complete_upload(target, upload_id, parts, forbid_overwrite=is_new)
    except BaseException:
        await operations.abort_upload(target, upload_id)
        raise


async def gather_or_cancel(tasks: list[asyncio.Future[None]]) -> None:
    """Wait for all; if one fails, stop the others before its error is raised."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _write(writer: OssWriter, value: Any) -> None:
    with writer:
        writer.write(value)


async def _delete(bucket: str, keys: list[str], operations: Operations) -> None:
    await operations.delete_many(bucket, keys)


def _has_magic(path: Any) -> bool:
    return any(letter in str(path) for letter in "*?[")


def _refuse_bucket(bucket: str, recursive: bool) -> None:
    name = f"the bucket {bucket}" if bucket else "the root"
    if recursive:
        raise OssUsageError(f"rm: {name} is not emptied at once: name the directories in it")
    raise IsADirectoryError(errno.EISDIR, f"{name} is no object", bucket)
