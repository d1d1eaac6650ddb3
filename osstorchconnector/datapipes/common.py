"""What the pipes share: how they come by a client, their functional names, and lists of objects that have numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import IterDataPipe, MapDataPipe, functional_datapipe

from ..client.client import OssClient
from ..errors import OssConfigError
from ..objects.index import ObjectIndex
from ..objects.info import ObjectInfo

Pipe = TypeVar("Pipe", bound=type)


def functional(name: str) -> Callable[[Pipe], Pipe]:
    """Register a pipe's functional form, as torch's decorator does; a module that is loaded again replaces its own."""

    def register(pipe: Pipe) -> Pipe:
        for kind in (IterDataPipe, MapDataPipe):
            registered = kind.functions.get(name)
            if issubclass(pipe, kind) and registered is not None and _is_earlier_load(registered, pipe):
                del kind.functions[name]
        functional_datapipe(name)(pipe)
        return pipe

    return register


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


class NumberedObjects(IterDataPipe[ObjectInfo]):
    """Objects that have numbers: a sharder behind this pipe takes its share by arithmetic, without reading the rest."""

    def __init__(self, index: ObjectIndex | None) -> None:
        self.index = index

    def __iter__(self) -> Iterator[ObjectInfo]:
        assert self.index is not None
        return self.index.infos()


def _is_earlier_load(registered: Callable[..., object], pipe: type) -> bool:
    (taken, *_) = getattr(registered, "args", (object,))
    return (taken.__module__, taken.__qualname__) == (pipe.__module__, pipe.__qualname__)
