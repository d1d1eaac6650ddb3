"""What is there: listings, single objects, and all that is below a path.

Directories are prefixes: there is a directory `a` if any key begins with `a/`. An empty object `a/` marks one that has
nothing else in it. A part of a key may be empty (`a//b`). Such a directory would have the name of the one above it, so
`ls` and `walk` leave it out; `find` has the objects in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from ..client.listing import PrefixPages
from ..client.operations import Operations
from ..client.paging import Ahead, PageStream
from ..errors import OssNotFoundError, OssUriError
from ..protocol.answers import PageOrder
from ..protocol.values import ListPage
from ..uri import OssUri
from .access import OssAccess
from .paths import (
    Entry,
    bare_path,
    directory_entry,
    folder_of,
    is_marker,
    listed_entry,
    missing,
    moment_of,
    object_entry,
    parents,
    stripped,
    uri_of,
)


class Listings(OssAccess):
    """Listings of buckets and directories, and what OSS says about single objects."""

    async def _ls(
        self, path: Any, detail: bool = True, refresh: bool = False, prefix: str = "", **_: Any
    ) -> list[Entry] | list[str]:
        """List a directory, or the one object of this name; `FileNotFoundError` if there is neither.

        Listings are kept for a while: `refresh` asks again. With `prefix`, only names that begin with it.
        """
        path = stripped(path)
        entries = None if refresh or prefix else self._listed(path)
        if entries is None:
            entries = await (self._level(path, prefix) if path else self._buckets())
            if not prefix:
                self.dircache[path] = entries
        if not entries and path:
            entries = await self._without_entries(path, is_part=bool(prefix))
        return list(entries) if detail else sorted(entry["name"] for entry in entries)

    def _listed(self, path: str) -> list[Entry] | None:
        try:
            return self.dircache[path]  # type: ignore[no-any-return]
        except KeyError:
            return None

    async def _buckets(self) -> list[Entry]:
        buckets = await self._ask(lambda operations: operations.list_buckets())
        return [
            {**directory_entry(bucket.name), "CreationDate": moment_of(bucket.created), "Region": bucket.region}
            for bucket in buckets
        ]

    async def _level(self, path: str, prefix: str = "") -> list[Entry]:
        """List one directory: its objects and directories, in the order of their names."""
        folder = folder_of(path)
        objects, folders = await self._ask(lambda operations: _level(operations, folder, prefix))
        entries = [listed_entry(folder.bucket, listed) for listed in objects if not is_marker(listed.key, listed.size)]
        start = len(folder.key)
        entries += [directory_entry(f"{folder.bucket}/{key[:-1]}") for key in folders if key[start:] != "/"]
        return sorted(entries, key=lambda entry: str(entry["name"]))

    async def _without_entries(self, path: str, *, is_part: bool) -> list[Entry]:
        """Return the listing of what has nothing in it: an object, a marked directory, an empty bucket."""
        if is_part or "/" not in path:
            return []
        entry = await self._info(path, refresh=True)
        return [entry] if entry["type"] == "file" else []

    async def _info(self, path: Any, refresh: bool = False, **_: Any) -> Entry:
        """Return name, size, type ("file" or "directory"), ETag and time of last change.

        `FileNotFoundError` if there is no object of this name, and none below it.
        """
        whole, path = bare_path(path), stripped(path)
        if not path:
            return directory_entry("")
        if not refresh and whole == path and (entry := self._listed_entry(path)) is not None:
            return entry
        uri = uri_of(whole)
        if uri.key:
            try:
                stat = await self._ask(lambda operations: operations.head(uri))
            except OssNotFoundError as error:
                if error.code == "NoSuchBucket":
                    raise
            else:
                return directory_entry(path) if is_marker(uri.key, stat.size) else object_entry(whole, stat)
        folder = folder_of(path)
        page = await self._ask(lambda operations: operations.list_page(folder, max_keys=1))
        if uri.key and not page.objects:
            raise missing(whole)
        return directory_entry(path)

    def _listed_entry(self, path: str) -> Entry | None:
        """Return the entry of a path from a listing of its directory, if that is kept."""
        entries = self._listed(self._parent(path)) if "/" in path else None
        return next((entry for entry in entries or () if entry["name"] == path), None)

    async def _isfile(self, path: Any) -> bool:
        """Say whether there is an object of this name. A request that fails is an error, and not a missing object."""
        return await self._kind(path) == "file"

    async def _isdir(self, path: Any) -> bool:
        """Say whether there is an object below this path, or a marker. A request that fails is an error."""
        return await self._kind(path) == "directory"

    async def _exists(self, path: Any, **options: Any) -> bool:
        """Say whether there is an object of this name, or one below it. A request that fails is an error."""
        return bool(await self._kind(path, **options))

    async def _kind(self, path: Any, **options: Any) -> str:
        try:
            return str((await self._info(path, **options))["type"])
        except (FileNotFoundError, OssUriError):
            return ""

    async def _find(
        self,
        path: Any,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **_: Any,
    ) -> list[str] | dict[str, Entry]:
        """Return all objects below a path, or the object of this name, sorted; a dictionary of entries with `detail`.

        A large prefix is listed in parallel if OSS is far. The root, with all buckets, is listed only with `maxdepth`.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = stripped(path)
        if not path and maxdepth is None:
            raise ValueError("find needs a bucket: all objects of all buckets are not listed")
        if maxdepth is None and not withdirs and not detail:
            names: list[str] = await self._in_thread(self._names_below, path, prefix)
            return names or await self._alone(path, prefix, detail=False)
        found: dict[str, Entry] = {}
        if maxdepth is None:
            found = await self._in_thread(self._entries_below, path, prefix, withdirs)
        else:
            await self._levels_below(path, prefix, maxdepth, found)
            if not withdirs:
                found = {name: entry for name, entry in found.items() if entry["type"] == "file"}
        if withdirs and path and (found or (not prefix and await self._isdir(path))):
            found[path] = directory_entry(path)
        if not found:
            return await self._alone(path, prefix, detail=detail)
        found = dict(sorted(found.items()))
        return found if detail else list(found)

    async def _alone(self, path: str, prefix: str, *, detail: bool) -> list[str] | dict[str, Entry]:
        """Return what `find` finds where nothing is below the path: the object of this name, or nothing."""
        found = {path: await self._info(path)} if not prefix and "/" in path and await self._isfile(path) else {}
        return found if detail else list(found)

    def _pages_below(self, path: str, prefix: str) -> Iterable[ListPage]:
        folder, config = folder_of(path), self.client.config
        wanted = OssUri(folder.bucket, folder.key + prefix)
        if not config.fast_list:
            return self.client.list_pages(wanted)
        return PrefixPages(self.client, wanted, workers=config.list_worker).pages(config.list_concurrency)

    def _names_below(self, path: str, prefix: str) -> list[str]:
        names: list[str] = []
        before = f"{uri_of(path).bucket}/"
        for page in self._pages_below(path, prefix):
            keys = page.keys
            if any(key[-1] == "/" for key in keys):
                sizes = page.sizes
                keys = [key for key, size in zip(keys, sizes, strict=True) if not is_marker(key, size)]
            names += [before + key for key in keys]
        return names

    def _entries_below(self, path: str, prefix: str, withdirs: bool) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        bucket = uri_of(path).bucket
        for page in self._pages_below(path, prefix):
            for listed in page.objects:
                name = f"{bucket}/{listed.key}"
                if not is_marker(listed.key, listed.size):
                    found[name] = listed_entry(bucket, listed)
                elif withdirs and name[:-1] != path:
                    found.setdefault(name[:-1], directory_entry(name[:-1]))
                if withdirs:
                    self._add_directories(found, name.rstrip("/"), path)
        return found

    @staticmethod
    def _add_directories(found: dict[str, Entry], name: str, path: str) -> None:
        for parent in parents(name):
            if parent in found or len(parent) <= len(path):
                return
            if not parent.endswith("/"):
                found[parent] = directory_entry(parent)

    async def _levels_below(self, path: str, prefix: str, depth: int, found: dict[str, Entry]) -> None:
        try:
            entries = await (self._level(path, prefix) if path else self._buckets())
        except OssNotFoundError:
            return
        found.update({entry["name"]: entry for entry in entries})
        if depth > 1:
            folders = [entry["name"] for entry in entries if entry["type"] == "directory"]
            size = self.batch_size
            for start in range(0, len(folders), size):
                below = (self._levels_below(name, "", depth - 1, found) for name in folders[start : start + size])
                await asyncio.gather(*below)

    async def _du(
        self, path: Any, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any
    ) -> int | dict[str, int]:
        """Return the sum of sizes in bytes below a path, or with `total=False` the size of each."""
        entries = await self._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        assert isinstance(entries, dict)
        sizes = {name: int(entry["size"]) for name, entry in entries.items()}
        return sum(sizes.values()) if total else sizes


async def _level(operations: Operations, folder: OssUri, prefix: str) -> tuple[list[Any], list[str]]:
    """Return the objects and common prefixes one level below a folder whose names begin with `prefix`."""
    order = PageOrder()
    wanted = OssUri(folder.bucket, folder.key + prefix)

    def ask(token: str, ahead: Ahead) -> Coroutine[Any, Any, ListPage]:
        return operations.list_page(wanted, delimiter="/", token=token, order=order, ahead=ahead)

    objects: list[Any] = []
    folders: list[str] = []
    async for page in _pages(PageStream(ask)):
        objects += page.objects
        folders += page.prefixes
    return objects, folders


async def _pages(stream: PageStream) -> AsyncIterator[ListPage]:
    try:
        while True:
            page = await stream.next()
            yield page
            if not page.next_token:
                return
    finally:
        stream.close()
