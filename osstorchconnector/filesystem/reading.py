"""Whole objects and ranges of them as bytes, and downloads."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from ..client.operations import Operations
from ..errors import OssError, OssNotFoundError, OssServiceError
from ..files.reader import OssReader
from ..local_files import written_whole
from ..protocol.values import ByteSpan, Download
from ..transfer.single import FIRST_BYTES, receive_object
from ..uri import OssUri
from .listings import Listings
from .paths import directory_instead, forbids, is_local_folder, object_uri_of, refuse_options
from .ranges import MOST_BYTES, JoinedRequest, WantedRange, broadcast, cut_out, join, needs_size, resolved

# What `cat_ranges` has fetched and not yet given out, and what is in flight.
RANGES_BYTES = 256 << 20
_RANGE_NOT_SATISFIABLE = 416

Answer = tuple[JoinedRequest, "bytes | OssError"]


class Reading(Listings):
    """`cat_file`, `cat_ranges` and `get_file`; fsspec makes the others of these."""

    async def _cat_file(self, path: Any, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Return the bytes from `start` up to, not including, `end`; negative numbers count from the object's end.

        An object of up to 1 MiB takes one request, the rest of a larger one is fetched in parallel.
        """
        refuse_options("cat_file", path, options)
        uri = object_uri_of(path)
        if needs_size(start, end):
            stat = await self._ask(lambda operations: operations.head(uri))
            start, end = resolved(start, end, stat.size)
        start = start or 0
        stop = start + FIRST_BYTES if end is None else min(end, start + FIRST_BYTES)
        if stop <= start:
            return b""
        first = await self._first(uri, ByteSpan(start, stop))
        if first is None:
            return b""
        stop = first.stat.size if end is None else min(end, first.stat.size)
        if first.span.stop >= stop:
            return first.body
        return await self._in_thread(self._read, uri, first, start, stop)

    async def _first(self, uri: OssUri, span: ByteSpan) -> Download | None:
        """Return the first bytes; None if the object ends before them."""
        try:
            return await self._ask(lambda operations: operations.get(uri, span))
        except OssServiceError as error:
            if error.status != _RANGE_NOT_SATISFIABLE:
                raise
        return None

    def _read(self, uri: OssUri, first: Download, start: int, stop: int) -> bytes:
        reader = OssReader(self.client, uri, transfer=self.client.config.checkpoint, first=first)
        reader.seek(start)
        return reader.read(stop - start)

    # many ranges

    async def _cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **options: Any
    ) -> list[Any]:
        return await self._in_thread(
            functools.partial(self.cat_ranges, paths, starts, ends, max_gap=max_gap, on_error=on_error, **options)
        )

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **options: Any
    ) -> list[Any]:
        """Return the bytes of ranges of objects, each from its start up to, not including, its end.

        Neighbouring ranges of an object come with one request, if at most `max_gap` bytes (64 KiB) are between them,
        and many requests are in flight. An error stands in place of the bytes of its range; with `on_error="raise"` the
        first one is raised.
        """
        options.pop("batch_size", None)  # how many are in flight follows from what OSS and the network take
        refuse_options("cat_ranges", "", options)
        paths, starts, ends = broadcast(paths, starts, ends)
        results: list[Any] = [b""] * len(paths)
        wanted: list[WantedRange] = []
        for place, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            if needs_size(start, end) or end is None or end - (start or 0) > MOST_BYTES:
                results[place] = self._cat_or_error(path, start, end)
            elif end > (start or 0):
                wanted.append(WantedRange(str(path), start or 0, end, place))
        planned = join(wanted) if max_gap is None else join(wanted, gap_bytes=max_gap)
        for request, answer in self._fetched(planned):
            if isinstance(answer, bytes):
                for place, data in cut_out(request, answer):
                    results[place] = data
            else:
                for each in request.wanted:
                    results[each.place] = answer
        if on_error == "raise" and (errors := [each for each in results if isinstance(each, Exception)]):
            raise errors[0]
        return results

    def _cat_or_error(self, path: Any, start: int | None, end: int | None) -> bytes | Exception:
        try:
            return self.cat_file(path, start, end)  # type: ignore[no-any-return]
        except (OssError, OSError) as error:
            return error

    def _fetched(self, planned: list[JoinedRequest]) -> Iterator[Answer]:
        if not planned:
            return iter(())
        transfer = self.client.config.dataset
        return self.client.map(
            _fetch,
            planned,
            concurrency=transfer.prefetch_concurrency,
            workers=transfer.prefetch_worker,
            in_order=False,
            weight=lambda request: request.span.size,
            max_bytes=RANGES_BYTES,
            size=_size,
        )

    # downloads

    async def _get_file(
        self, rpath: Any, lpath: Any, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **options: Any
    ) -> None:
        """Download an object to a local path, which gets it whole or not at all, or into an open file.

        With mode "create", `FileExistsError` if there is something at that path. A directory becomes a local directory;
        where a file is open for it, that is an `IsADirectoryError`.
        """
        options.pop("outfile", None)
        refuse_options("get_file", rpath, options)
        if is_local_folder(lpath):
            return
        try:
            uri = object_uri_of(rpath)
            first = await self._first(uri, ByteSpan(0, FIRST_BYTES))
        except (OssNotFoundError, IsADirectoryError):
            if not await self._isdir(rpath):
                raise
            if isfilelike(lpath):
                raise directory_instead(rpath) from None
            await self._in_thread(functools.partial(Path(lpath).mkdir, parents=True, exist_ok=True))
            return
        assert first is not None  # a span from 0 is never refused
        await self._in_thread(self._download, uri, first, lpath, callback, not forbids(mode))

    def _download(self, uri: OssUri, first: Download, lpath: Any, callback: Any, replaces: bool) -> None:
        callback.set_size(first.stat.size)
        if isfilelike(lpath):
            receive_object(self.client, uri, first, lpath, callback.relative_update)
        else:
            with written_whole(lpath, is_durable=False, replaces=replaces) as file:
                receive_object(self.client, uri, first, file, callback.relative_update)


async def _fetch(operations: Operations, request: JoinedRequest) -> Answer:
    """Fetch the bytes of one request; an error is its answer."""
    try:
        return request, (await operations.get(object_uri_of(request.path), request.span)).body
    except OssServiceError as error:
        return request, b"" if error.status == _RANGE_NOT_SATISFIABLE else error
    except OssError as error:
        return request, error


def _size(answer: Answer) -> int:
    return len(answer[1]) if isinstance(answer[1], bytes) else 0
