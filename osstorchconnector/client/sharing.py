"""What the processes of a job share of one client: which one it is, and what all its copies have counted.

- Identity: a `ClientReference` names a client without its secrets. An item that a worker sends carries one, and the
  receiving process finds its own client by it.
- Counts: a `SharedState` counts retries, notes whether the endpoint has answered, and keeps how many requests in flight
  have turned out to be right. It is a page of anonymous memory,
  which forked processes share with their parent. Spawned processes get a second page by its descriptor. Neither page
  has a name that could be left behind, and counting takes no system call. A copy of a client that travels in any other
  way begins with counts of its own.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import pickle
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol

from ..config import Config
from ..credentials import CredentialsSource
from ..credentials.providers import UnavailableCredentials
from ..errors import OssConfigError

Recipe = tuple[str, str, CredentialsSource, Config, str]


class Client(Protocol):
    """An `OssClient`, which knows this module."""

    @property
    def identity(self) -> str: ...

    def __setstate__(self, state: tuple[Any, ...], /) -> None: ...


# The clients of this process, by their number in it.
_living: weakref.WeakValueDictionary[int, Client] = weakref.WeakValueDictionary()


class ClientReference(NamedTuple):
    """A client's identity, and a pickled client without secrets for processes that have none of that identity."""

    identity: str
    recipe: bytes

    def resolve(self) -> Any:
        """Return the `OssClient` of this process, or a new one."""
        for living in _living.valuerefs():
            client = living()
            if client is not None and client.identity == self.identity:
                return client
        return _made(self.recipe)


def remember(client: Client, number: int) -> None:
    """Let references find the client as long as it lives."""
    _living[number] = client


def reference_to(client: Client, recipe: Recipe, transport_factory: Any = None) -> ClientReference:
    """Return what stands for a client that was made from `recipe`; this never fails."""
    endpoint, region, source, config, identity = recipe
    try:
        check_pickles(transport_factory)
    except OssConfigError as error:
        transport_factory = UnavailableTransport(str(error))
    try:
        pickled = _pickled(client, (endpoint, region, source.by_name(), config, identity, None, transport_factory))
    except Exception as error:  # a provider of the user's may raise anything
        stranded = UnavailableCredentials(str(source), f"{type(error).__name__} while it was pickled")
        pickled = _pickled(client, (endpoint, region, stranded, config, identity, None, transport_factory))
    return ClientReference(identity, pickled)


def check_pickles(transport_factory: Any) -> None:
    """Raise `OssConfigError` if a client's transport factory (or None) can't go to another process."""
    if transport_factory is not None:
        try:
            pickle.dumps(transport_factory)
        except Exception as error:  # a factory of the user's may raise anything
            raise OssConfigError(
                "this client can't go to another process, because its transport= can't be pickled "
                f"({type(error).__name__}: {error}): pass a function or a class of a module"
            ) from error


class UnavailableTransport:
    """A factory that did not reach this process. Calling it raises the error, so that unpickling does not."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def __call__(self, _timeouts: object, _tls: object, /) -> NoReturn:
        raise OssConfigError(self._problem)


# Cached, so that all items share one client and its connections.
@functools.lru_cache(maxsize=8)
def _made(recipe: bytes) -> Any:
    return pickle.loads(recipe)


def _pickled(client: Client, state: tuple[Any, ...]) -> bytes:
    other = type(client).__new__(type(client))
    other.__setstate__(state)
    return pickle.dumps(other)


_SIZE = mmap.PAGESIZE
_NUMBER = struct.Struct("=q")
# The first number says whether the endpoint has answered, the next ones are what was learned. Each thread counts in one
# of the others, without a lock: two threads of a job that share one by chance may lose a count.
_LEARNED = {"objects": 1, "uploads": 2, "lookups": 3, "pages": 4}
_FIRST_COUNT = 1 + len(_LEARNED)
_SLOTS = _SIZE // _NUMBER.size - _FIRST_COUNT


class _Page:
    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._sent: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import DupFd

        # Each process gets the descriptor once, even if the page is pickled for it repeatedly, as dill does.
        spawning = get_spawning_popen()
        if spawning not in self._sent:
            self._sent[spawning] = DupFd(self.descriptor)
        return _received, (self._sent[spawning],)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)

    def get(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._memory, place * _NUMBER.size)[0])

    def set(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, place * _NUMBER.size, number)

    def sum(self) -> int:
        return sum(number for (number,) in _NUMBER.iter_unpack(self._memory[_FIRST_COUNT * _NUMBER.size :]))


class SharedState:
    """The state of one client, in this process and in the processes that it started with the client."""

    def __init__(self) -> None:
        self._pages = [_Page()]

    def __getstate__(self) -> list[_Page]:
        """Return the page for spawned processes."""
        if len(self._pages) == 1:
            with contextlib.suppress(OSError):  # a sandbox that refuses it, no descriptor left
                page = _page_to_spawn()
                for place in range(_FIRST_COUNT):
                    page.set(place, self._pages[0].get(place))
                self._pages.append(page)
        return self._pages[1:]

    def __setstate__(self, pages: list[_Page]) -> None:
        # Processes that this one forks or spawns count on the same page.
        self._pages = [*pages, *pages] or [_Page()]

    @property
    def retries(self) -> int:
        """How many requests were sent again, by all processes."""
        return sum(page.sum() for page in set(self._pages))

    def count_retry(self) -> None:
        """Count a request that is sent again."""
        place = _FIRST_COUNT + threading.get_native_id() % _SLOTS
        self._pages[0].set(place, self._pages[0].get(place) + 1)

    @property
    def is_reached(self) -> bool:
        """Whether the endpoint has ever answered one of the processes."""
        return any(page.get(0) for page in self._pages)

    def note_reached(self) -> None:
        """Tell all processes that the endpoint has answered."""
        for page in self._pages:
            page.set(0, 1)

    def learned(self, kind: str) -> int:
        """Return how many requests of this kind one process had in flight lately; 0 if nothing is known."""
        return next(filter(None, (page.get(_LEARNED[kind]) for page in reversed(self._pages))), 0)

    def learn(self, kind: str, limit: int) -> None:
        """Tell all processes how many requests of this kind turned out to be right."""
        for page in self._pages:
            page.set(_LEARNED[kind], limit)


def can_travel() -> bool:
    """Say whether what is being pickled goes to a process that is being spawned, on a system that shares memory so."""
    from multiprocessing.context import get_spawning_popen

    return get_spawning_popen() is not None and hasattr(os, "memfd_create")


def _page_to_spawn() -> _Page:
    descriptor = os.memfd_create("osstorchconnector")
    try:
        os.posix_fallocate(descriptor, 0, _SIZE)
    except OSError:
        os.close(descriptor)
        raise
    return _Page(descriptor)


def _received(duplicate: Any) -> _Page:
    try:
        return _Page(duplicate.detach())
    except (OSError, ValueError):  # what was pickled for one process came to another
        return _Page()
