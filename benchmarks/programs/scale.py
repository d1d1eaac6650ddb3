"""The same work by more and more processes, as on a machine with many cores: this library and the C++ connector.

One server can't feed many readers, so there are several with the same objects; the readers take turns in choosing one.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.gauge import Done, Program, cpu_seconds
from benchmarks.values import Access

from .clients import fill, touched_buffer
from .objects import read_all, repeated

_FORK = multiprocessing.get_context("fork")


class _ByWorker(IterableDataset[int]):
    """The sizes of objects; each DataLoader worker reads its share of them from the server of its number."""

    def __init__(self, accesses: Sequence[Access], uris: Sequence[str]) -> None:
        self._accesses, self._uris = accesses, uris

    def __iter__(self) -> Iterator[int]:
        from osstorchconnector import OssIterableDataset

        worker: Any = get_worker_info()
        access = self._accesses[worker.id % len(self._accesses)]
        # The dataset takes its worker's share by itself.
        yield from OssIterableDataset.from_objects(self._uris, transform=read_all, **access)


def iterate_by_workers(accesses: Sequence[Access], uris: Sequence[str], reads: int, size: int, workers: int) -> Program:
    """Read objects in DataLoader workers. Only their sizes come to this process, and those in batches."""
    from osstorchconnector import OssIterableDataset

    # Made but not read: it loads code that all workers inherit, and starts no thread before they are forked.
    OssIterableDataset.from_objects(uris[:1], transform=read_all, **accesses[0])
    dataset = _ByWorker(accesses, repeated(uris, reads))
    loader: Any = DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=sum)
    yield None
    total = sum(loader)
    yield Done(reads)
    assert total == reads * size


def read_by_processes(accesses: Sequence[Access], uri: str, size: int, times: int, processes: int) -> Program:
    """Read one object several times into a buffer, in each of several processes at once, as ranks load a checkpoint."""
    ready, start = _FORK.Semaphore(0), _FORK.Event()
    used: Any = _FORK.SimpleQueue()
    readers = [
        _FORK.Process(target=_read, args=(accesses[number % len(accesses)], uri, size, times, ready, start, used))
        for number in range(processes)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        ready.acquire()
    yield None
    began = time.perf_counter()
    start.set()
    cpu = sum(used.get() for _ in readers)
    yield Done(size * times * processes, seconds=time.perf_counter() - began, cpu_seconds=cpu)
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0


def _read(access: Access, uri: str, size: int, times: int, ready: Any, start: Any, used: Any) -> None:
    """Prepare, wait for the start, read, and tell the CPU time since the start."""
    from osstorchconnector import OssCheckpoint

    checkpoint: Any = OssCheckpoint(**access)
    buffer = touched_buffer(size)
    with checkpoint.reader(f"{uri}.small") as reader:
        assert reader.read()
    ready.release()
    start.wait()
    cpu = cpu_seconds()
    for _ in range(times):
        with checkpoint.reader(uri) as reader:
            fill(reader, buffer)
    used.put(cpu_seconds() - cpu)
    assert buffer[::4096].strip(b"\1"), "nothing was read"
