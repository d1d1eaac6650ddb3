"""References to a client, for items that cross to another process before all of them is fetched.

The pickle of a client carries what is needed to make it again, and secrets cross beside it, in a file of their own.
That takes I/O, may fail, and lasts only as long as the sending process. A reference takes no I/O and never fails. A
process that has the client finds it by its identity: the job's process has the one of its workers. Any other process
makes a new client from the recipe. There, credentials are missing unless they are named by a place, and the first
request says so.
"""

from __future__ import annotations

import functools
import pickle
import weakref
from typing import Any, NamedTuple, Protocol

from ..config import Config
from ..credentials import CredentialsSource
from ..credentials.providers import UnavailableCredentials

Recipe = tuple[str, str, CredentialsSource, Config, str]


class Client(Protocol):
    """An `OssClient`, which knows this module."""

    @property
    def identity(self) -> str: ...

    def __setstate__(self, recipe: Recipe, /) -> None: ...


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


def reference_to(client: Client, recipe: Recipe) -> ClientReference:
    """Return what stands for a client that was made from `recipe`."""
    endpoint, region, source, config, identity = recipe
    try:
        pickled = _pickled(client, (endpoint, region, source.by_name(), config, identity))
    except Exception as error:  # a provider of the user's may raise anything
        stranded = UnavailableCredentials(str(source), f"{type(error).__name__} while it was pickled")
        pickled = _pickled(client, (endpoint, region, stranded, config, identity))
    return ClientReference(identity, pickled)


# Cached, so that all items share one client and its connections.
@functools.lru_cache(maxsize=8)
def _made(recipe: bytes) -> Any:
    return pickle.loads(recipe)


def _pickled(client: Client, recipe: Recipe) -> bytes:
    other = type(client).__new__(type(client))
    other.__setstate__(recipe)
    return pickle.dumps(other)
