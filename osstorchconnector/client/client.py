"""The client as most of the library sees it: synchronous, and the parallel pipeline.

A client is a recipe (endpoint, where credentials come from, settings) until it is used; then it has connections on
the loop threads of this process. It may be shared by threads, survives a fork (the child opens its own
connections) and pickles as the recipe.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import secrets
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..config import Concurrency
from ..errors import OssConfigError
from ..protocol.answers import PageOrder
from ..protocol.attributes import attributes
from ..protocol.values import (
    ByteSpan,
    Download,
    ListedObject,
    ListedUpload,
    ListPage,
    ObjectStat,
    StoredObject,
    UploadedPart,
    writable_memory,
)
from ..redaction import printable
from ..uri import OssUri, object_of, uri_of
from .engine import LoopThread, engine
from .limiter import Kind, Limiter, limiter
from .opening import Opened, Oss2Service, client_arguments, open_recipe
from .operations import Operations
from .paging import Ahead, PageStream
from .pipeline import Pipeline
from .sharing import ClientReference, Recipe, SharedState, can_travel, check_pickles, reference_to, remember
from .transport.base import TransportFactory

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike
    from typing_extensions import Self

T = TypeVar("T")
R = TypeVar("R")

_client_numbers = itertools.count()


class OssClient:
    """Requests to one endpoint with one set of credentials.

    `endpoint` is a URL, or a `Bucket` of oss2; `""` makes a client of files of this machine, whose bucket is the first
    folder of a path (`/data/train/a.png` is `oss://data/train/a.png`). `cred_path` names a JSON credential file,
    `cred_provider` is a credentials provider of oss2 or alibabacloud-oss-v2, a function, or the name of a place;
    `anonymous=True` signs nothing. Without all three, credentials are looked for (docs/credentials.md).
    `config_path` names the JSON config file. `region` is needed if the endpoint's host does not contain it.
    `transport` is "direct" or "aiohttp", as the config key `transport`, or a factory of your own transport (see
    `osstorchconnector.client.transport.base`), such as an `osstorchconnector.testing.ScriptedTransport`. A wrong
    argument raises `OssConfigError`. The first request is sent, and credentials are read, when a method needs them.

    All methods take URIs as text (`oss://bucket/key`) or as `OssUri`, block until done, and may be called from any
    thread. They repeat requests after errors that may be temporary, within the configured attempts and time, and check
    the CRC-64 that OSS gives. After that they raise an `OssError`: `OssNotFoundError` (also a `FileNotFoundError`),
    `OssPermissionError`, `OssTimeoutError`, `OssConnectionError`, `OssIntegrityError` (wrong bytes),
    `OssProtocolError` (an answer that is not from OSS), `OssServiceError` (any other refusal) or `OssCredentialsError`.
    A wrong URI raises `OssConfigError`, a call that is not allowed `OssUsageError`.
    """

    _opened: Opened | None

    def __init__(
        self,
        endpoint: str | Oss2Service,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        transport: Literal["", "direct", "aiohttp"] | TransportFactory = "",
    ) -> None:
        url, region, source, config = client_arguments(
            endpoint, region, cred_path, cred_provider, config_path, anonymous
        )
        factory = transport if callable(transport) else None
        if transport == "direct" or transport == "aiohttp":
            config = dataclasses.replace(config, transport=transport)
        elif factory is None and transport != "":
            raise OssConfigError(f'transport: expected "direct", "aiohttp" or a factory, not {transport!r:.80}')
        self.__setstate__((url, region, source, config, secrets.token_hex(8), None, factory))
        self._opened = open_recipe(self._recipe, self._shared, factory)

    @property
    def _works_on(self) -> Opened:
        """What the loops share. A client that was unpickled has none before it is used."""
        if self._opened is None:
            self._opened = open_recipe(self._recipe, self._shared, self._transport_factory)
        return self._opened

    def __getstate__(self) -> tuple[Any, ...]:
        check_pickles(self._transport_factory)
        return (*self._recipe, self._shared if can_travel() else None, self._transport_factory)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._recipe: Recipe = state[:5]
        shared, self._transport_factory = (*state[5:], None, None)[:2]
        self._shared: SharedState = shared or SharedState()
        self._opened = None
        self.config = self._recipe[3]
        self._number = next(_client_numbers)
        self._turn = itertools.count()
        self._finalizer = weakref.finalize(self, _close_everywhere, self._number)
        remember(self, self._number)

    @property
    def identity(self) -> str:
        """For internal use: an id that only this client and its copies in other processes have."""
        return self._recipe[4]

    def reference(self) -> ClientReference:
        """For internal use: what represents this client in a pickled file. It has no secrets, and always pickles."""
        return reference_to(self, self._recipe, self._transport_factory)

    def with_settings(self, **changes: Any) -> Self:
        """For internal use: another client of the same endpoint and credentials, with these fields of `Config`."""
        other = type(self).__new__(type(self))
        endpoint, region, source, config, _ = self._recipe
        config = dataclasses.replace(config, **changes)
        other.__setstate__((endpoint, region, source, config, secrets.token_hex(8), None, self._transport_factory))
        return other

    def __repr__(self) -> str:
        return f"OssClient({self.endpoint!r}{f', {printable(str(self._recipe[2]), 120)}' if self.endpoint else ''})"

    @property
    def endpoint(self) -> str:
        """The endpoint as it is used: scheme, host and port; `""` for files of this machine."""
        return self._works_on.endpoint

    @property
    def retries(self) -> int:
        """The number of requests repeated so far, also by processes that were started with this client."""
        return self._shared.retries

    def get(
        self, uri: OssUri | str, span: ByteSpan | None = None, *, into: BytesLike | None = None, if_match: str = ""
    ) -> Download:
        """Fetch the bytes of an object in `span`, or all of them, in one request.

        Returns a `Download`: `body` (bytes), `span` (which bytes these are), `stat` (the object's size, ETag and
        CRC-64) and `crc64` of the body. A span may reach past the end: then the bytes up to the end are returned. With
        `into`, a writable contiguous buffer of as many bytes as the span, the bytes go there and `body` is empty.

        A transfer that breaks off is resumed at that byte. Raises `OssObjectChangedError` if the object has another
        ETag than `if_match`, or was replaced during the transfer, and `OssNotFoundError` if there is no such object.
        """
        memory = None if into is None else writable_memory(into)
        return self._run(lambda operations: operations.get(object_of(uri), span, into=memory, if_match=if_match))

    def head(self, uri: OssUri | str) -> ObjectStat:
        """Return an `ObjectStat`: size in bytes, ETag, CRC-64, time of last change, types, storage class, metadata.

        Raises `OssNotFoundError` if there is no such object.
        """
        return self._run(lambda operations: operations.head(object_of(uri)))

    def put(
        self,
        uri: OssUri | str,
        body: BytesLike | Iterable[BytesLike],
        *,
        forbid_overwrite: bool = False,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        storage_class: str = "",
    ) -> StoredObject:
        """Store an object in one request (up to 5 GB); an old one stays until the new one is complete.

        `body` is bytes-like (an array too), or several such objects, which are joined. Raises `OssUsageError` for
        attributes that OSS does not allow, and with `forbid_overwrite` `OssConflictError` if the object exists. Returns
        a `StoredObject`: its ETag and CRC-64.
        """
        target, stored = object_of(uri), attributes(content_type, metadata, storage_class)
        return self._run(
            lambda operations: operations.put(target, body, forbid_overwrite=forbid_overwrite, attributes=stored)
        )

    def list(self, uri: OssUri | str, *, delimiter: str = "", start_after: str = "") -> Iterator[ListedObject]:
        """Iterate over all objects whose keys start with the key of `uri`, in UTF-8 byte order.

        Each is a `ListedObject`: key, size in bytes, ETag, time of last change. With `start_after`, only keys after
        that one are listed. The next page is fetched while one is read.

        With a `delimiter`, such as "/", keys that contain it after the key of `uri` are left out. Each of their
        beginnings, up to the delimiter, comes once, as a `ListedPrefix`, whose `is_prefix()` is true.
        """
        for page in self.list_pages(uri, delimiter=delimiter, start_after=start_after):
            yield from page.entries()

    def list_pages(
        self,
        uri: OssUri | str,
        *,
        delimiter: str = "",
        start_after: str = "",
        wait: Callable[[Future[ListPage]], ListPage] | None = None,
    ) -> Iterator[ListPage]:
        """Iterate as `list` does, over whole pages: `ListPage.objects`, and `ListPage.prefixes` with a `delimiter`.

        For internal use: `wait(future)` returns the page of a future, and may raise to stop.
        """
        thread = engine.threads(1)[0]
        prefix, order = uri_of(uri), PageOrder(start_after)

        def ask(token: str, ahead: Ahead) -> Coroutine[Any, Any, ListPage]:
            after = "" if token else start_after
            return self._operations(thread).list_page(
                prefix, delimiter=delimiter, start_after=after, token=token, order=order, ahead=ahead
            )

        stream = PageStream(ask)
        page: ListPage | None = None
        try:
            while page is None or page.next_token:
                page = (wait or Future.result)(thread.submit(stream.next()))
                yield page
        finally:
            thread.call(stream.close)

    def list_page(
        self, uri: OssUri | str, *, delimiter: str = "", start_after: str = "", token: str = "", max_keys: int = 1000
    ) -> ListPage:
        """Return one page of the objects whose keys start with the key of `uri`, in UTF-8 byte order: a `ListPage`.

        A page has `objects` and, with a `delimiter`, `prefixes`; up to `max_keys` (1 to 1000) of both together. Give
        its `next_token` as `token` for the next page; it is empty on the last page. With `start_after`, only keys
        after that one are listed.
        """
        return self._run(
            lambda operations: operations.list_page(
                uri_of(uri), delimiter=delimiter, start_after=start_after, token=token, max_keys=max_keys
            )
        )

    def server_time(self, uri: OssUri | str) -> float:
        """Return OSS's time in whole seconds since 1970. The credentials must allow listing the bucket of `uri`."""
        return self._run(lambda operations: operations.server_time(uri_of(uri)))

    def delete(self, uri: OssUri | str) -> None:
        """Delete an object; one that does not exist counts as deleted."""
        self._run(lambda operations: operations.delete(object_of(uri)))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete any number of objects, a thousand in a request; those that do not exist count as deleted."""
        self._run(lambda operations: operations.delete_many(bucket, keys))

    def copy(self, source: OssUri | str, target: OssUri | str, *, if_match: str = "") -> StoredObject:
        """Copy an object within OSS, up to 1 GB, and return the new one's ETag; `crc64` is None.

        Raises `OssServiceError` with status 412 if the source has another ETag than `if_match`.
        """
        return self._run(lambda operations: operations.copy(object_of(source), object_of(target), if_match=if_match))

    def create_upload(self, uri: OssUri | str) -> str:
        """Begin a multipart upload to `uri` and return its id."""
        return self._run(lambda operations: operations.create_upload(object_of(uri)))

    def upload_part(
        self, uri: OssUri | str, upload_id: str, number: int, body: BytesLike | Iterable[BytesLike]
    ) -> UploadedPart:
        """Send one part of a multipart upload, and return the `UploadedPart` for `complete_upload`.

        `number` (1 to 10,000) gives the order; a part sent again replaces the earlier one. Each has 100 KB to 5 GB,
        except the last. `body` is as for `put`. Raises `OssNotFoundError` if there is no such upload.
        """
        return self._run(lambda operations: operations.upload_part(object_of(uri), upload_id, number, body))

    def complete_upload(self, uri: OssUri | str, upload_id: str, parts: Sequence[UploadedPart]) -> StoredObject:
        """Publish the object made of `parts`, and return its ETag and CRC-64.

        If the answer is lost, this checks whether the object was published. Raises `OssIntegrityError` if OSS's CRC-64
        of the object is not that of the parts.
        """
        return self._run(lambda operations: operations.complete_upload(object_of(uri), upload_id, parts))

    def abort_upload(self, uri: OssUri | str, upload_id: str) -> None:
        """Abort a multipart upload and delete its parts; one that does not exist counts as aborted."""
        self._run(lambda operations: operations.abort_upload(object_of(uri), upload_id))

    def list_parts(self, uri: OssUri | str, upload_id: str) -> Sequence[UploadedPart]:
        """Return the parts that OSS holds of an unfinished upload, by number."""
        return self._run(lambda operations: operations.list_parts(object_of(uri), upload_id))

    def list_uploads(self, uri: OssUri | str) -> Sequence[ListedUpload]:
        """Return the unfinished multipart uploads of keys that start with the key of `uri`."""
        return self._run(lambda operations: operations.list_uploads(uri_of(uri)))

    def submit(self, work: Callable[[Operations], Coroutine[Any, Any, R]], *, workers: int = 1) -> Future[R]:
        """Start `work(operations)` on one of the first `workers` event-loop threads, in turn; return its future.

        `operations` has this client's methods as coroutines. Cancelling the future cancels the work.
        """
        threads = engine.threads(workers)
        thread = threads[next(self._turn) % workers]
        return thread.submit(work(self._operations(thread)))

    def limiter(self, kind: Kind, concurrency: Concurrency, *, processes: int = 1) -> Limiter:
        """For internal use: return how many requests may be in flight for one more purpose, in one of `processes`."""
        retries = self.config.retry_budget
        return limiter(self.endpoint, kind, concurrency, self._shared, processes=processes, retries=retries)

    def map(
        self,
        work: Callable[[Operations, T], Awaitable[R]],
        items: Iterable[T],
        *,
        concurrency: Concurrency,
        workers: int,
        kind: Kind = "objects",
        processes: int = 1,
        in_order: bool = True,
        weight: Callable[[T], int] | None = None,
        max_bytes: int | None = None,
        size: Callable[[R], int] | None = None,
        bucket: str = "",
    ) -> Pipeline[T, R]:
        """For internal use: iterate over the results of `work(operations, item)`, `concurrency` at a time.

        `items` are taken on the caller's thread, at most `2 * concurrency`, and `max_bytes` of `weight(item)`, ahead.
        With `size(result)` in bytes, one of the `workers` threads does all work of small results. An error is raised in
        place of its result; with `in_order=False` results come as they arrive. Connections to `bucket` are begun now.
        """
        limit = self.limiter(kind, concurrency, processes=processes)
        threads = engine.threads(min(workers, limit.limit))
        if bucket:
            self.open_ahead(bucket, limit.limit, workers=1 if size is not None else len(threads))
        lanes: list[tuple[LoopThread, Callable[[T], Awaitable[R]]]] = [
            (thread, functools.partial(work, self._operations(thread))) for thread in threads
        ]
        return Pipeline(
            lanes, items, concurrency=limit, in_order=in_order, weight=weight, max_bytes=max_bytes, size=size
        )

    def open_ahead(self, bucket: str, count: int, *, workers: int) -> None:
        """For internal use: begin connections that requests on `workers` threads will soon need; return at once."""
        for number, thread in enumerate(engine.threads(workers)):
            thread.call(self._operations(thread).open_ahead, bucket, len(range(number, count, workers)))

    def close(self) -> None:
        """Drop this process's connections; the client may be used again and then opens new ones."""
        _close_everywhere(self._number)

    def _run(self, call: Callable[[Operations], Coroutine[Any, Any, R]]) -> R:
        thread = engine.threads(1)[0]
        return thread.run(call(self._operations(thread)))

    def _operations(self, thread: LoopThread) -> Operations:
        operations = thread.attached.get(self._number)
        if operations is None:
            operations = thread.attached.setdefault(self._number, self._works_on.operations())
        assert isinstance(operations, Operations)
        return operations


def _close_everywhere(client_number: int) -> None:
    for thread in engine.running():
        operations = thread.attached.pop(client_number, None)
        if operations is not None:
            thread.start_soon(operations.aclose)


def as_client(
    endpoint: str | OssClient | Oss2Service,
    cred_path: str = "",
    cred_provider: object | None = None,
    config_path: str = "",
    region: str = "",
    anonymous: bool = False,
) -> OssClient:
    """Return a client of the endpoint; where a client stands in the endpoint's place, that one."""
    if not isinstance(endpoint, OssClient):
        return OssClient(
            endpoint,
            cred_path=cred_path,
            cred_provider=cred_provider,
            config_path=config_path,
            region=region,
            anonymous=anonymous,
        )
    if cred_path or cred_provider is not None or config_path or region or anonymous:
        raise OssConfigError("a client has its credentials, config and region already: give these to OssClient instead")
    return endpoint
