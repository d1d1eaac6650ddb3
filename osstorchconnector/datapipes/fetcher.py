"""Objects' bytes, many requests in flight."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from operator import attrgetter
from typing import Any, Literal, TypeVar

from ..client.client import OssClient, as_client
from ..client.operations import Operations
from ..client.pipeline import Pipeline
from ..errors import (
    OssConfigError,
    OssCredentialsError,
    OssError,
    OssServiceError,
    OssTransformError,
    OssUriError,
    OssUsageError,
)
from ..files.data_object import DataObject
from ..files.reader import OssReader
from ..index.info import ObjectInfo
from ..index.orders import NO_CHUNKS
from ..index.shared import SharedNumbers
from ..protocol.values import ByteSpan, Download
from ..tar.members import outcomes
from ..tar.ranges import Ranges
from ..tar.runs import MemberRun, fetch_run, runs_of
from ..uri import MemberUri, OssUri, parse_object_uri
from .job import exit_when_job_is_killed, worker_share
from .numbered_objects import functional
from .torch_pipes import IterDataPipe

OnError = Literal["raise", "skip"] | Callable[[ObjectInfo, OssError], object]

_logger = logging.getLogger(__name__)

# A mistake in the program or its settings, not in an object.
_NEVER_SKIPPED = (OssConfigError, OssCredentialsError, OssTransformError, OssUriError, OssUsageError)
_NEVER_SKIPPED_CODES = frozenset(
    {
        "AccessKeyIdAndSecurityTokenNotMatch",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidSecurityToken",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        "SecurityTokenExpired",
        "SignatureDoesNotMatch",
    }
)


class Skipping:
    """Leaves out, logs and counts objects that can't be read, in a slot of `numbers`, which all processes share.

    `on_error` may be a function: it is called with the `ObjectInfo` and the error, may return a substitute, and may
    raise.
    """

    def __init__(self, on_error: OnError, numbers: SharedNumbers, slot: int = 0) -> None:
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise OssConfigError(f'on_error: {on_error!r} is neither "raise" nor "skip" nor a function')
        self._on_error, self._numbers, self._slot = on_error, numbers, slot

    @property
    def is_on(self) -> bool:
        """Whether anything may be left out at all."""
        return self._on_error != "raise"

    def __call__(self, info: ObjectInfo, error: OssError) -> object:
        """Note that the object can't be read. Return what stands in its place, or None if it is left out; or raise."""
        if self._on_error == "raise" or _is_mistake(error):
            raise error
        substitute = self._on_error(info, error) if callable(self._on_error) else None
        _logger.warning("%s %s: %s", "left out" if substitute is None else "replaced", info.uri.shown, error)
        self._numbers.add(self._slot, 1)
        return substitute

    def substitute(self, info: ObjectInfo, error: OssError) -> object:
        """Return what stands in the place of an object that was asked for alone; raise the error if it is nothing."""
        substitute = self(info, error) if callable(self._on_error) else None
        if substitute is None:
            raise error
        return substitute

    def count(self) -> int:
        """Return how many objects all processes have left out or replaced."""
        return self._numbers.get(self._slot)


def _is_mistake(error: OssError) -> bool:
    if isinstance(error, OssServiceError):
        return error.code in _NEVER_SKIPPED_CODES
    return isinstance(error, _NEVER_SKIPPED)


T = TypeVar("T")
W = TypeVar("W", bound=ObjectInfo | MemberRun)

# Returns what stands in the place of an object that can't be had; None leaves it out.
Skip = Callable[[ObjectInfo, OssError], object]

# An object up to this size is fetched whole by one request; of a larger one the first `FIRST_BYTES`.
FIRST_BYTES = 16 << 20
# What is fetched and not yet asked for, at most. An object of unknown size counts for what the last ones had: at first
# so much that 64 are fetched, and never less than that 512 are.
PREFETCH_BYTES = 256 << 20
_ASSUMED_BYTES, _LEAST_ASSUMED_BYTES = PREFETCH_BYTES // 64, PREFETCH_BYTES // 512
_REMEMBERED = 8
_KIND = attrgetter("uri.__class__")  # without a Python call for an object


class _Identity:
    """The transform that returns its argument. As an object it has a readable name in signatures that `help` shows."""

    def __call__(self, data: T) -> T:
        return data

    def __repr__(self) -> str:
        return "identity"

    def __reduce__(self) -> str:
        return "identity"  # pickled by name, so each process has one, and `is identity` holds


identity = _Identity()


def fetch(
    client: OssClient,
    infos: Iterable[ObjectInfo],
    *,
    transform: Callable[[DataObject], Any] = identity,
    in_order: bool = True,
    skip: Skip | None = None,
    begin: bool = False,
    bucket: str = "",
    window: tuple[int, int] = (0, 0),
) -> Generator[Any, None, None]:
    """Yield what `transform` makes of each object, `prefetchConcurrency` requests in flight ahead of the consumer.

    An object that can't be had is an error at its place; with `skip`, what that returns stands there. A large
    object's rest is fetched when it is read. With `begin` the first requests are sent at once. Connections to `bucket`,
    if it is given, are opened before the first object is known. `window` tells what is known of the order in which
    members of tars come: how many of them end the present chunk, and how many are a chunk.
    """
    wanted = _wanted(infos, window)
    pipeline = functools.partial(
        downloads, client, wanted, in_order=in_order, returns_errors=skip is not None, bucket=bucket
    )
    if begin:
        begun = pipeline()
        begun.begin()
        return _items(client, lambda: begun, transform, skip)
    return _items(client, pipeline, transform, skip)


def downloads(
    client: OssClient,
    wanted: Iterable[W],
    *,
    in_order: bool = True,
    returns_errors: bool = False,
    bucket: str = "",
) -> Pipeline[W, Any]:
    """Return the `Download` of each object, or with `returns_errors` the `OssError` in its place. Close it at the end.

    `item` is the `ObjectInfo` of the one that came last.
    """
    exit_when_job_is_killed()
    config, sizes = client.config.dataset, _Sizes()
    return client.map(
        _first_bytes_or_error if returns_errors else _first_bytes,
        wanted,
        concurrency=config.prefetch_concurrency,
        workers=config.prefetch_worker,
        processes=worker_share().step,
        in_order=in_order,
        weight=sizes.weight,
        max_bytes=PREFETCH_BYTES,
        size=sizes.received_bytes,
        bucket=bucket,
    )


def _items(
    client: OssClient,
    pipeline: Callable[[], Pipeline[Any, Any]],
    transform: Callable[[DataObject], Any],
    skip: Skip | None,
) -> Generator[Any, None, None]:
    with contextlib.closing(pipeline()) as fetched:
        if skip is not None:
            for download in fetched:
                for info, found in _found(client, fetched.item, download):
                    try:
                        if isinstance(found, OssError):
                            raise found
                        item = transformed(found, transform, info.uri)
                    except OssError as error:
                        item = skip(info, error)
                        if item is None:
                            continue
                    yield item
        else:
            for download in fetched:
                item = fetched.item
                if type(item) is not ObjectInfo:
                    yield from _run_items(client, item, download, transform)
                elif transform is identity:
                    stat = download.stat
                    if download.span.stop < stat.size:
                        yield data_object(client, item, download)
                    else:  # without the call: so come small objects
                        yield DataObject(item.uri, download.body, label=item.label, etag=stat.etag)
                else:
                    yield transformed(data_object(client, item, download), transform, item.uri)


def _run_items(
    client: OssClient, run: MemberRun, download: Download, transform: Callable[[DataObject], Any]
) -> Iterator[Any]:
    for info, found in outcomes(client, run, download):
        if isinstance(found, OssError):
            raise found
        yield found if transform is identity else transformed(found, transform, info.uri)


def _found(
    client: OssClient, item: ObjectInfo | MemberRun, download: Download | OssError
) -> Iterable[tuple[ObjectInfo, Any]]:
    """Return what has come, each with what is known of it: a `DataObject`, a sample, or an error in its place."""
    if isinstance(item, MemberRun):
        return outcomes(client, item, download)
    return [(item, download if isinstance(download, OssError) else data_object(client, item, download))]


def checked_transform(transform: Callable[[DataObject], T]) -> Callable[[DataObject], T]:
    """Return `transform`; `OssConfigError` if it can't be called."""
    if not callable(transform):
        raise OssConfigError(f"transform: {transform!r} can't be called")
    return transform


def transformed(data: Any, transform: Callable[[Any], T], uri: OssUri) -> T:
    """Return what `transform` makes of an object or a sample; an error of its own becomes one that names `uri`."""
    try:
        return transform(data)
    except OssError:
        raise
    except Exception as error:
        said = f"the transform failed on {uri}: {type(error).__name__}: {error}"
        raise OssTransformError(f'{said} (on_error="skip" leaves such objects out)') from error


@functional("fetch_oss_objects")
class OssObjectFetcher(IterDataPipe[Any]):
    """Yield a `DataObject`, or what `transform` makes of it, for each object (functional form: `fetch_oss_objects`).

    `source` yields `ObjectInfo`s or URIs. Many requests are in flight at a time (`prefetchConcurrency`); objects come
    in the order of `source` unless `in_order` is false. An object that does not exist is an `OssNotFoundError`;
    `on_error="skip"` leaves out what can't be read even after retries, logs it and counts it in `skipped_objects`; a
    function is called with the `ObjectInfo` and the error: what it returns, if not None, stands in the object's place.
    """

    def __init__(
        self,
        source: Iterable[ObjectInfo | OssUri | str],
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        anonymous: bool = False,
        in_order: bool = True,
        on_error: OnError = "raise",
    ) -> None:
        self._source = source
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        self._transform, self._in_order = checked_transform(transform), in_order
        self._skipping = Skipping(on_error, SharedNumbers(folder=self._client.config.index_dir))

    @property
    def is_one_to_one(self) -> bool:
        """Whether it yields one item for each object, in order."""
        return self._in_order and not self._skipping.is_on

    @property
    def skipped_objects(self) -> int:
        """How many objects all copies of this pipe have left out or replaced because they can't be read."""
        return self._skipping.count()

    def __len__(self) -> int:
        """Return the length of the source, if it has one."""
        return len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return fetch(
            self._client,
            map(as_info, self._source),
            transform=self._transform,
            in_order=self._in_order,
            skip=self._skipping if self._skipping.is_on else None,
            bucket=getattr(self._source, "awaited_bucket", ""),
            window=getattr(self._source, "chunking", NO_CHUNKS).window(0),
        )


def as_info(item: ObjectInfo | OssUri | str) -> ObjectInfo:
    """Return what is known of an object that may be given by its URI alone."""
    if type(item) is ObjectInfo:
        return item
    if isinstance(item, OssUri):
        return ObjectInfo(item)
    if isinstance(item, str):
        return ObjectInfo(parse_object_uri(item))
    raise OssUriError(f"not an object to fetch: {item!r} (give an ObjectInfo, an OssUri or oss://bucket/key)")


async def _first_bytes_or_error(operations: Operations, info: ObjectInfo | MemberRun) -> Download | OssError:
    try:
        return await _first_bytes(operations, info)
    except OssError as error:
        return error


class _Wanted(itertools.chain[ObjectInfo | MemberRun]):
    """An iterator that costs no Python call for an object, and closes its source."""

    source: Iterable[ObjectInfo] = ()

    def close(self) -> None:
        """Close the source, if it can be closed."""
        close = getattr(self.source, "close", None)
        if close is not None:
            close()


def _wanted(infos: Iterable[ObjectInfo], window: tuple[int, int]) -> _Wanted:
    """Return what is to be fetched for `infos`, in their order: members of tars as runs, objects as they are."""
    ranges, (first_rows, chunk_rows) = Ranges(), window
    items = _Wanted.from_iterable(
        runs_of(group, ranges, first_rows=first_rows, chunk_rows=chunk_rows) if kind is MemberUri else group
        for kind, group in itertools.groupby(infos, key=_KIND)
    )
    assert isinstance(items, _Wanted)
    items.source = infos
    return items


def _first_bytes(operations: Operations, info: ObjectInfo | MemberRun) -> Coroutine[Any, Any, Download]:
    if type(info) is MemberRun:
        return fetch_run(operations, info)
    assert type(info) is ObjectInfo
    size = info.size  # as `first_span`, without the call: for every object
    stop = FIRST_BYTES if size is None or size > FIRST_BYTES else size or 1
    return operations.get(info.uri, tuple.__new__(ByteSpan, (0, stop)))


def data_object(client: OssClient, info: ObjectInfo, download: Download) -> DataObject:
    stat = download.stat
    body: bytes | OssReader = download.body
    if download.span.stop < stat.size:
        body = OssReader(client, info.uri, transfer=client.config.dataset, first=download)
    return DataObject(info.uri, body, label=info.label, etag=stat.etag)


def first_span(info: ObjectInfo) -> ByteSpan:
    return ByteSpan(0, FIRST_BYTES if info.size is None else min(info.size, FIRST_BYTES) or 1)


class _Sizes:
    """How many bytes an object will have in memory, and had."""

    def __init__(self) -> None:
        self._assumed = _ASSUMED_BYTES

    def weight(self, info: ObjectInfo | MemberRun) -> int:
        """Return what the first bytes of this object will take, at a guess if its size is unknown."""
        if type(info) is MemberRun:
            return info.weight
        size = info.size
        if size is None:
            return self._assumed
        return size if size < FIRST_BYTES else FIRST_BYTES  # noqa: FURB136 - `min` is a call

    def received_bytes(self, download: Download | OssError) -> int:
        """Return what came, and learn from it."""
        received = download.span.stop - download.span.start if type(download) is Download else 0
        assumed = self._assumed + (received - self._assumed) // _REMEMBERED
        self._assumed = assumed if assumed > _LEAST_ASSUMED_BYTES else _LEAST_ASSUMED_BYTES  # noqa: FURB136
        return received
