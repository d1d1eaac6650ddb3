"""The client as most of the library sees it: synchronous, and the parallel pipeline.

A client is a recipe (endpoint, where credentials come from, settings) until it is used; then it has connections on
the loop threads of this process. It may be shared by threads, survives a fork (the child opens its own
connections) and pickles as the recipe.
"""

from __future__ import annotations

import functools
import itertools
import logging
import platform
import secrets
import ssl
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import Config, load_config
from ..credentials import CredentialsCache, credentials_source
from ..errors import OssConfigError
from ..logs import audit_log, configure_logging
from ..protocol.answers import PageOrder
from ..protocol.endpoint import parse_endpoint, plan_signing
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
from ..uri import OssUri, parse_object_uri, parse_uri
from ..version import __version__
from .engine import LoopThread, engine
from .operations import Operations
from .paging import Ahead, PageStream
from .pipeline import Pipeline
from .sender import Session
from .sharing import ClientReference, Recipe, SharedState, can_travel, reference_to, remember

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

T = TypeVar("T")
R = TypeVar("R")

_warned_of: set[str] = set()  # endpoints that may be overheard: each is told of once
_client_numbers = itertools.count()
_logger = logging.getLogger(__name__)


class OssClient:
    """Requests to one endpoint with one set of credentials.

    `cred_path` names a JSON credential file, `cred_provider` is an oss2 (or alibabacloud-oss-v2) credentials provider;
    with neither, the environment variables that oss2 reads. `config_path` names the JSON config file. `region` is
    needed where the endpoint's host does not tell it. All of these are checked here (`OssConfigError`); nothing is
    sent, and no credentials are read, before the first request.

    The methods are those of `Operations`, with the URI also as text, and block until done.
    """

    _opened: Session | None

    def __init__(
        self,
        endpoint: str,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
    ) -> None:
        source, config = credentials_source(cred_path, cred_provider), load_config(config_path)
        self.__setstate__((endpoint, region, source, config, secrets.token_hex(8)))
        self._opened = self._open()

    @property
    def _session(self) -> Session:
        """What the loops share. A client that was unpickled has none before it is used."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Session:
        endpoint, region, source, config, _ = self._recipe
        parsed = parse_endpoint(endpoint, config.addressing)
        configure_logging(config)
        signing = plan_signing(parsed, region, config.signature_version)
        if signing.version == "v1" and config.signature_version == "auto":
            _logger.info("no region is known for %s: requests are signed with version 1 (region= for 4)", parsed)
        if parsed.is_exposed and str(parsed) not in _warned_of:
            _warned_of.add(str(parsed))
            _logger.warning("%s is plain http: signatures, and the data, travel in the clear; use https", parsed)
        return Session(
            endpoint=parsed,
            signing=signing,
            config=config,
            credentials=CredentialsCache(source, patience_seconds=min(60.0, config.operation_timeout_seconds / 2)),
            user_agent=user_agent(),
            audit=audit_log(config),
            tls=_tls_context(config) if parsed.scheme == "https" else None,
            shared=self._shared,
        )

    def __getstate__(self) -> Recipe | tuple[Any, ...]:
        return (*self._recipe, self._shared) if can_travel() else self._recipe

    def __setstate__(self, state: Recipe | tuple[Any, ...]) -> None:
        self._recipe: Recipe = state[:5]
        self._shared: SharedState = state[5] if len(state) > 5 else SharedState()
        self._opened = None
        self.config = self._recipe[3]
        self._number = next(_client_numbers)
        self._turn = itertools.count()
        self._finalizer = weakref.finalize(self, _close_everywhere, self._number)
        remember(self, self._number)

    @property
    def identity(self) -> str:
        """What copies of this client in other processes have in common, and no other client has."""
        return self._recipe[4]

    def reference(self) -> ClientReference:
        """Return what stands for this client in the pickle of an item: no secrets, and nothing that could fail."""
        return reference_to(self, self._recipe)

    def __repr__(self) -> str:
        return f"OssClient({str(self._session.endpoint)!r})"

    @property
    def endpoint(self) -> str:
        """The endpoint as it is used: scheme, host and port."""
        return str(self._session.endpoint)

    @property
    def retries(self) -> int:
        """How many requests were sent again so far, also by processes that were started with this client in them."""
        return self._shared.retries

    def get(
        self, uri: OssUri | str, span: ByteSpan | None = None, *, into: BytesLike | None = None, if_match: str = ""
    ) -> Download:
        """As `Operations.get`; `into` may be anything that can be written to as bytes, without gaps."""
        memory = None if into is None else writable_memory(into)
        return self._run(lambda operations: operations.get(_object(uri), span, into=memory, if_match=if_match))

    def head(self, uri: OssUri | str) -> ObjectStat:
        """As `Operations.head`."""
        return self._run(lambda operations: operations.head(_object(uri)))

    def put(
        self, uri: OssUri | str, body: BytesLike | Iterable[BytesLike], *, forbid_overwrite: bool = False
    ) -> StoredObject:
        """As `Operations.put`."""
        return self._run(lambda operations: operations.put(_object(uri), body, forbid_overwrite=forbid_overwrite))

    def list(self, uri: OssUri | str, *, delimiter: str = "", start_after: str = "") -> Iterator[ListedObject]:
        """Iterate over all objects whose keys begin as `uri` does; the next page is fetched while one is read.

        With a `delimiter` the keys behind it are left out, and what they begin with, up to it, comes in their place:
        as a `ListedPrefix`, whose `is_prefix()` is true.
        """
        for page in self.list_pages(uri, delimiter=delimiter, start_after=start_after):
            yield from page.entries()

    def list_pages(
        self,
        uri: OssUri | str,
        *,
        delimiter: str = "",
        start_after: str = "",
        wait: Callable[[Future[ListPage]], ListPage] = Future.result,
    ) -> Iterator[ListPage]:
        """As `list`, page by page, with the common prefixes that a `delimiter` makes; `wait` waits for each."""
        thread = engine.threads(1)[0]
        prefix, order = _any(uri), PageOrder(start_after)

        def ask(token: str, ahead: Ahead) -> Coroutine[Any, Any, ListPage]:
            after = "" if token else start_after
            return self._operations(thread).list_page(
                prefix, delimiter=delimiter, start_after=after, token=token, order=order, ahead=ahead
            )

        stream = PageStream(ask)
        page: ListPage | None = None
        try:
            while page is None or page.next_token:
                page = wait(thread.submit(stream.next()))
                yield page
        finally:
            thread.call(stream.close)

    def list_page(
        self, uri: OssUri | str, *, delimiter: str = "", start_after: str = "", token: str = "", max_keys: int = 1000
    ) -> ListPage:
        """As `Operations.list_page`."""
        return self._run(
            lambda operations: operations.list_page(
                _any(uri), delimiter=delimiter, start_after=start_after, token=token, max_keys=max_keys
            )
        )

    def server_time(self, uri: OssUri | str) -> float:
        """As `Operations.server_time`."""
        return self._run(lambda operations: operations.server_time(_any(uri)))

    def delete(self, uri: OssUri | str) -> None:
        """As `Operations.delete`."""
        self._run(lambda operations: operations.delete(_object(uri)))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        """As `Operations.delete_many`."""
        self._run(lambda operations: operations.delete_many(bucket, keys))

    def copy(self, source: OssUri | str, target: OssUri | str, *, if_match: str = "") -> StoredObject:
        """As `Operations.copy`."""
        return self._run(lambda operations: operations.copy(_object(source), _object(target), if_match=if_match))

    def create_upload(self, uri: OssUri | str) -> str:
        """As `Operations.create_upload`."""
        return self._run(lambda operations: operations.create_upload(_object(uri)))

    def upload_part(
        self, uri: OssUri | str, upload_id: str, number: int, body: BytesLike | Iterable[BytesLike]
    ) -> UploadedPart:
        """As `Operations.upload_part`."""
        return self._run(lambda operations: operations.upload_part(_object(uri), upload_id, number, body))

    def complete_upload(self, uri: OssUri | str, upload_id: str, parts: Sequence[UploadedPart]) -> StoredObject:
        """As `Operations.complete_upload`."""
        return self._run(lambda operations: operations.complete_upload(_object(uri), upload_id, parts))

    def abort_upload(self, uri: OssUri | str, upload_id: str) -> None:
        """As `Operations.abort_upload`."""
        self._run(lambda operations: operations.abort_upload(_object(uri), upload_id))

    def list_parts(self, uri: OssUri | str, upload_id: str) -> Sequence[UploadedPart]:
        """As `Operations.list_parts`."""
        return self._run(lambda operations: operations.list_parts(_object(uri), upload_id))

    def list_uploads(self, uri: OssUri | str) -> Sequence[ListedUpload]:
        """As `Operations.list_uploads`."""
        return self._run(lambda operations: operations.list_uploads(_any(uri)))

    def submit(self, work: Callable[[Operations], Coroutine[Any, Any, R]], *, workers: int = 1) -> Future[R]:
        """Start `work` on one of the first `workers` loop threads, in turn."""
        threads = engine.threads(workers)
        thread = threads[next(self._turn) % workers]
        return thread.submit(work(self._operations(thread)))

    def map(
        self,
        work: Callable[[Operations, T], Awaitable[R]],
        items: Iterable[T],
        *,
        concurrency: int,
        workers: int,
        in_order: bool = True,
        weight: Callable[[T], int] | None = None,
        max_bytes: int | None = None,
        size: Callable[[R], int] | None = None,
    ) -> Pipeline[T, R]:
        """Iterate over `work(operations, item)` for all items, `concurrency` of them in flight on `workers` threads.

        `items` are taken on the caller's thread, ahead of the results by at most twice `concurrency`, and by
        `max_bytes` of `weight(item)`. With `size(result)` in bytes, small results are left to one thread. See
        `Pipeline` for order and errors.
        """
        lanes: list[tuple[LoopThread, Callable[[T], Awaitable[R]]]] = [
            (thread, functools.partial(work, self._operations(thread)))
            for thread in engine.threads(min(workers, concurrency))
        ]
        return Pipeline(
            lanes,
            items,
            concurrency=concurrency,
            window=2 * concurrency,
            in_order=in_order,
            weight=weight,
            max_bytes=max_bytes,
            size=size,
        )

    def close(self) -> None:
        """Drop this process's connections; the client may be used again and then opens new ones."""
        _close_everywhere(self._number)

    def _run(self, call: Callable[[Operations], Coroutine[Any, Any, R]]) -> R:
        thread = engine.threads(1)[0]
        return thread.run(call(self._operations(thread)))

    def _operations(self, thread: LoopThread) -> Operations:
        operations = thread.attached.get(self._number)
        if operations is None:
            operations = thread.attached.setdefault(self._number, Operations(self._session))
        assert isinstance(operations, Operations)
        return operations


@functools.lru_cache(maxsize=1)
def user_agent() -> str:
    """Return the `User-Agent` of this library: its version, torch's and Python's."""
    try:
        torch = metadata.version("torch").split("+")[0]
    except metadata.PackageNotFoundError:
        torch = "none"
    return f"osstorchconnector/{__version__} torch/{torch} python/{platform.python_version()} {sys.platform}"


def _close_everywhere(client_number: int) -> None:
    for thread in engine.running():
        operations = thread.attached.pop(client_number, None)
        if operations is not None:
            thread.start_soon(operations.aclose)


def _tls_context(config: Config) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as error:
        raise OssConfigError(f"config key caFile: {config.ca_file!r} can't be loaded: {error}") from error


def _object(uri: OssUri | str) -> OssUri:
    return parse_object_uri(uri) if isinstance(uri, str) else uri


def _any(uri: OssUri | str) -> OssUri:
    return parse_uri(uri) if isinstance(uri, str) else uri


def as_client(
    endpoint: str | OssClient,
    *,
    cred_path: str = "",
    cred_provider: object | None = None,
    config_path: str = "",
    region: str = "",
) -> OssClient:
    """Return a client of the endpoint; where a client stands in the endpoint's place, that one."""
    if not isinstance(endpoint, OssClient):
        return OssClient(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
    if cred_path or cred_provider is not None or config_path or region:
        raise OssConfigError("a client has its credentials, config and region already: give these to OssClient instead")
    return endpoint
