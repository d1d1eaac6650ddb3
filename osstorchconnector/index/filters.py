"""Which objects count: filters, which work where rows enter the table.

An object that a filter leaves out has no number, and costs nothing later.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from ..errors import OssConfigError, OssError, OssTransformError, OssUsageError
from ..uri import OssUri
from .info import ObjectInfo
from .layout import Batch, RowBlock, pack_block
from .shared_file import Source, Wait

_logger = logging.getLogger(__name__)

Keep = Callable[[ObjectInfo], Any]
Filter = str | Iterable[str] | range | Keep | None


class _Suffix:
    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes

    def __call__(self, info: ObjectInfo) -> bool:
        return info.uri.key.endswith(self._suffixes)

    def __repr__(self) -> str:
        return f"suffix in {self._suffixes}"


class _Size:
    def __init__(self, sizes: range) -> None:
        self._sizes = sizes

    def __call__(self, info: ObjectInfo) -> bool:
        if info.size is None:
            raise OssUsageError(f"filter by size: the size of {info.uri} is not known, as only listings tell it")
        return info.size in self._sizes

    def __repr__(self) -> str:
        return f"size in {self._sizes}"


def as_keep(filter_: Filter) -> Keep | None:
    """Return the function that says whether an object counts; `None` if all do.

    A string, or several, are suffixes of keys, a `range` is one of sizes in bytes; a function gets an `ObjectInfo`.
    """
    if filter_ is None or callable(filter_):
        return filter_
    if isinstance(filter_, range):
        return _Size(filter_)
    suffixes = (filter_,) if isinstance(filter_, str) else tuple(filter_) if isinstance(filter_, Iterable) else ()
    if not suffixes or not all(isinstance(suffix, str) and suffix for suffix in suffixes):
        raise OssConfigError(f"filter: {filter_!r} is no suffix, no range of sizes and no function")
    return _Suffix(suffixes)


def described(keep: Keep | None) -> str:
    """Return a text by which one filter can be told from another on the next run."""
    if keep is None:
        return ""
    if isinstance(keep, _Suffix | _Size):
        return repr(keep)
    return f"{getattr(keep, '__module__', '')}.{getattr(keep, '__qualname__', type(keep).__qualname__)}"


class Filtered:
    """A source without the rows that a filter leaves out."""

    def __init__(self, source: Source, keep: Keep) -> None:
        self._source, self._keep = source, keep

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        with contextlib.closing(self._source.batches(cursor, wait)) as batches:
            yield from all_filtered(batches, self._keep, from_start=not cursor)


def all_filtered(batches: Iterable[Batch], keep: Keep, *, from_start: bool = True) -> Generator[Batch, None, None]:
    """Yield the batches with the rows that `keep` is true for; log a warning if nothing is left of all of them."""
    seen, kept = 0, 0
    for batch in batches:
        left = filtered(batch, keep)
        seen, kept = seen + len(batch.tails), kept + len(left.tails)
        yield left
    if seen and not kept and from_start:
        _logger.warning("the filter (%s) leaves none of %d objects", described(keep), seen)


def filtered(batch: Batch, keep: Keep) -> Batch:
    """Return the batch with the rows that `keep` is true for; its cursor and its counts stay."""
    rows = [row for row, info in enumerate(_infos(batch)) if _asked(keep, info)]
    return batch if len(rows) == len(batch.tails) else selected(batch, rows)


def selected(batch: Batch, rows: Iterable[int]) -> Batch:
    """Return the batch with these of its rows; its cursor and its counts stay."""
    rows, places = list(rows), batch.places
    if places is not None:
        starts, stops = ([column[row] for row in rows] for column in (places.starts, places.stops))
        places = places._replace(starts=starts, stops=stops)
    return batch._replace(
        tails=[batch.tails[row] for row in rows],
        sizes=[batch.sizes[row] for row in rows],
        labels=None if batch.labels is None else [batch.labels[row] for row in rows],
        places=places,
    )


def _infos(batch: Batch) -> Iterator[ObjectInfo]:
    if batch.places is not None:
        yield from RowBlock(memoryview(pack_block(batch)), 0).infos()
        return
    for row, (tail, size) in enumerate(zip(batch.tails, batch.sizes, strict=True)):
        bucket, _, key = (batch.base + tail).partition("/")
        label = "" if batch.labels is None else batch.labels[row]
        yield ObjectInfo(OssUri(bucket, key), size if size >= 0 else None, label)


def _asked(keep: Keep, info: ObjectInfo) -> bool:
    try:
        return bool(keep(info))
    except OssError:
        raise
    except Exception as error:
        raise OssTransformError(f"the filter failed on {info.uri}: {type(error).__name__}: {error}") from error
