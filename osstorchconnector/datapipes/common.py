"""What the pipes share: how they come by a client, their functional names, and lists of objects that have numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import IterDataPipe, MapDataPipe, functional_datapipe

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


class NumberedObjects(IterDataPipe[ObjectInfo]):
    """Objects that have numbers: a sharder behind this pipe takes its share by arithmetic, without reading the rest.

    `index` is `None` where the objects depend on what comes through another pipe; then `through` yields them.
    """

    def __init__(self, index: ObjectIndex | None) -> None:
        self.index = index

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self.through() if self.index is None else self.index.infos()

    def through(self) -> Iterator[ObjectInfo]:
        """Yield the objects that follow from another pipe's items."""
        raise NotImplementedError


def _is_earlier_load(registered: Callable[..., object], pipe: type) -> bool:
    (taken, *_) = getattr(registered, "args", (object,))
    return (taken.__module__, taken.__qualname__) == (pipe.__module__, pipe.__qualname__)
