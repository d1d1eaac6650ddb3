"""One client of ours under fsspec's class: the event loop, instances, pickles.

fsspec's `AsyncFileSystem` runs its coroutines on a loop of its own, which does not survive a fork. Here they run on the
loop threads of the client, which a forked child starts anew.

- A call from a thread runs its coroutine on the first of these loops, and waits.
- A coroutine that is awaited on the user's own loop sends its requests there, too, and waits without blocking.
- What is mostly work with blocking files (downloads, uploads, listings) runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from ..client.client import OssClient
from ..client.engine import engine, in_thread
from ..client.operations import Operations
from ..errors import OssConfigError
from .paths import PROTOCOL, stripped
from .settings import client_named, known, new_client

R = TypeVar("R")
T = TypeVar("T")

LISTING_OPTIONS = frozenset({"use_listings_cache", "listings_expiry_time", "max_paths"})
# Long enough for a tool that looks at each file after listing them, short enough to see what others write.
LISTINGS_EXPIRY_SECONDS = 30.0
CONCURRENT_FILES = 64
MULTIPART_COPY_BYTES = 1 << 30

_living: weakref.WeakValueDictionary[tuple[str, str], OssAccess] = weakref.WeakValueDictionary()


class OssAccess(AsyncFileSystem):
    """What all parts of the file system have: the client, and ways to run work on its loops."""

    protocol = PROTOCOL
    root_marker = ""
    mirror_sync_methods = False  # see `with_blocking_methods`

    def __init__(
        self,
        endpoint: str | OssClient | None = None,
        *,
        region: str = "",
        anonymous: bool = False,
        key: str | None = None,
        secret: str | None = None,
        token: str | None = None,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        client_identity: str = "",
        default_cache_type: str | None = None,
        default_block_size: int | None = None,
        multipart_copy_bytes: int = MULTIPART_COPY_BYTES,
        asynchronous: bool = False,
        loop: object = None,
        batch_size: int | None = None,
        **listing: Any,
    ) -> None:
        if self._cached:
            return
        unknown = sorted(listing.keys() - LISTING_OPTIONS)
        if unknown:
            raise OssConfigError(f"{type(self).__name__} has no option {unknown[0]!r}")
        listing = {"listings_expiry_time": LISTINGS_EXPIRY_SECONDS, **listing}
        # Asynchronous for the base class, so that it starts no loop of its own.
        super().__init__(asynchronous=True, batch_size=batch_size or CONCURRENT_FILES, **listing)
        self.asynchronous = asynchronous
        if client_identity:
            self.client = client_named(client_identity)
        else:
            assert not isinstance(endpoint, OssClient)  # `Settled` has named it
            self.client = new_client(
                endpoint,
                region=region,
                cred_path=cred_path,
                cred_provider=cred_provider,
                anonymous=anonymous,
                config_path=config_path,
            )
        self.default_cache_type, self.default_block_size = default_cache_type, default_block_size
        self.multipart_copy_bytes = multipart_copy_bytes
        self._described = {
            "endpoint": self.client.endpoint,
            "region": region,
            "cred_path": str(cred_path),
            "config_path": str(config_path),
            "anonymous": anonymous,
        }
        if cred_provider is not None or client_identity:
            self._described = {"client_identity": self.client.identity}
        self._options = {
            "default_cache_type": default_cache_type,
            "default_block_size": default_block_size,
            "multipart_copy_bytes": multipart_copy_bytes,
            "asynchronous": asynchronous,
            "batch_size": self.batch_size,
            **listing,
        }
        _living[self.client.identity, repr(sorted(self._options.items()))] = self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.client.endpoint!r})"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restored, (type(self), self.client, self._options)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return a description for JSON, without secrets.

        One that was made with `key` and `secret`, a provider or a client is found again in this process only.
        """
        cls = type(self)
        return {
            "cls": f"{cls.__module__}:{cls.__name__}",
            "protocol": PROTOCOL,
            "args": (),
            **self._described,
            **self._options,
        }

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which calls from threads run, in this process."""
        return engine.threads(1)[0].loop

    @property
    def fsid(self) -> str:
        """What identifies the storage behind this file system: the endpoint."""
        return f"{PROTOCOL}_{self.client.endpoint}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [stripped(each) for each in path]
        return stripped(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget what was listed of a path and above it, or all listings."""
        if path is None:
            self.dircache.clear()
        else:
            path = stripped(path)
            while path:
                self.dircache.pop(path, None)
                path = self._parent(path)
        super().invalidate_cache(path)

    async def _ask(self, work: Callable[[Operations], Coroutine[Any, Any, R]]) -> R:
        """Run `work(operations)` on a loop of the client, from any loop."""
        return await asyncio.wrap_future(self.client.submit(work))

    def _wait(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the first loop of the client, and wait; `OssUsageError` on that loop's own thread."""
        return engine.threads(1)[0].run(work)

    async def _in_thread(self, call: Callable[..., R], *arguments: Any) -> R:
        """Make a blocking call in a thread of its own."""
        return await in_thread(call, *arguments)


def with_blocking_methods(cls: type[T]) -> type[T]:
    """Give a class a method `x` for each of its coroutines `_x` that fsspec has as a blocking method too.

    fsspec would do so for each instance, with a way of waiting that replaces our `OssTimeoutError` by one without text.
    """
    for name in dir(cls):
        method, public = getattr(cls, name), name[1:]
        blocking = getattr(AbstractFileSystem, public, None) if name.startswith("_") and name[1:2] != "_" else None
        if blocking is not None and getattr(cls, public) is blocking:
            if inspect.iscoroutinefunction(method):
                setattr(cls, public, _blocking(method, blocking))
            elif inspect.isasyncgenfunction(method):
                setattr(cls, public, _iterating(method, blocking))
    return cls


def _blocking(method: Callable[..., Coroutine[Any, Any, Any]], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: OssAccess, *arguments: Any, **options: Any) -> Any:
        return self._wait(method(self, *arguments, **options))

    call.__doc__ = method.__doc__ or original.__doc__
    return call


def _iterating(method: Callable[..., AsyncIterator[Any]], original: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(original)
    def iterate(self: OssAccess, *arguments: Any, **options: Any) -> Iterator[Any]:
        items = method(self, *arguments, **options)
        while (item := self._wait(_next(items))) is not _END:
            yield item

    return iterate


_END = object()


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


def _restored(cls: type[OssAccess], client: OssClient, options: dict[str, Any]) -> OssAccess:
    """Return the file system of this process with this client and these options, or a new one."""
    client = known(client)
    living = _living.get((client.identity, repr(sorted(options.items()))))
    return living if living is not None else cls(client, **options)
