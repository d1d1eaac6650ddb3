"""What the pipes share: how they come by a client, their functional names, and lists of objects that have numbers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, TypeVar

from torch.utils.data import IterDataPipe, MapDataPipe, functional_datapipe, get_worker_info

from ..errors import OssUsageError
from ..index.fixed import FixedIndex
from ..index.info import ObjectInfo
from ..index.orders import View
from ..index.shared import ObjectIndex
from ..index.shared_file import Source
from .ranks import agree_on

if TYPE_CHECKING:
    from typing_extensions import Self

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
    `identity` tells the objects from those of another pipe, on the next run, too.
    """

    def __init__(self, index: ObjectIndex | None, identity: str = "") -> None:
        self.index, self.identity = index, identity

    def __len__(self) -> int:
        """Return the number of objects if it is known by now."""
        if self.index is None or not self.index.is_complete:
            raise TypeError(f"{type(self).__name__}: the number of objects is not known before they are listed")
        return self.index.count()

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self.through() if self.index is None else self.index.infos()

    def view(self) -> View | None:
        """Return the objects by number, in the order in which this pipe yields them."""
        return self.index

    def share_listing(self) -> Self:
        """Let all ranks of torch.distributed read rank 0's listing of these objects; return this pipe.

        It is a collective call: every rank makes it, at the same point of the program. Without it each rank lists for
        itself, and ranks that list at different moments may not agree.
        """
        if self.index is None:
            raise OssUsageError("objects that come through a pipe are listed by each process that reads them")
        agree_on(self.index, "share_listing")
        return self

    def through(self) -> Iterator[ObjectInfo]:
        """Yield the objects that follow from another pipe's items."""
        raise NotImplementedError


def read_through(source: Source) -> Iterator[ObjectInfo]:
    """Yield all that a source has; nothing is kept."""
    for batch in source.batches(b"", Future.result):
        yield from FixedIndex([batch]).infos()


def _is_earlier_load(registered: Callable[..., object], pipe: type) -> bool:
    (taken, *_) = getattr(registered, "args", (object,))
    return (taken.__module__, taken.__qualname__) == (pipe.__module__, pipe.__qualname__)


_watched_in = 0  # the process


def end_with_job() -> None:
    """Let this process, if it is a worker of a DataLoader, not outlive a job that was killed.

    Torch's workers notice within seconds that their job is gone, and then wait until it has taken the last samples out
    of their pipe: for ever, as soon as these are larger than the pipe.
    """
    global _watched_in
    if _watched_in == os.getpid() or get_worker_info() is None:
        return
    _watched_in = os.getpid()
    job = multiprocessing.parent_process()
    if job is not None and not job.is_alive():  # died before torch began to look
        os._exit(1)
    # Before the finaliser that waits (-5), after those that close and tidy up (0 and above).
    Finalize(None, _leave_if_orphaned, args=(os.getppid(),), exitpriority=-1)


def _leave_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
