"""What bench measures: iterators that do the work step by step, and yield the bytes of each step.

The first step is the start, which comes once: imports, connections of workers. The clock runs from its end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from ..client.client import OssClient
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..protocol.values import ListedObject
from ..uri import OssUri

MIB = 1 << 20
# Objects up to this size count as small; from this size on one is large.
SMALL_BYTES, LARGE_BYTES = MIB, 8 * MIB
WRITTEN_SMALL_BYTES = 128 << 10
_PIECE_BYTES = 64 * MIB
_TENSOR_BYTES = 16 * MIB
_BATCH_OBJECTS, _LOADED_OBJECTS = 32, 50_000

Steps = Generator[int, None, None]


class Bounds(NamedTuple):
    """When a measurement ends at the latest."""

    seconds: float
    size: int


class Measured(NamedTuple):
    """What was measured: bytes and steps (objects, pieces, batches), and the seconds that they took."""

    name: str
    size: int
    steps: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.size / self.seconds

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds


class Sample(NamedTuple):
    """The objects that are read: small ones, and the largest one with its size."""

    small: Sequence[OssUri]
    small_bytes: int
    large: OssUri | None = None
    large_bytes: int = 0


def sample_of(bucket: str, found: Iterator[ListedObject], most: int) -> Sample:
    """Choose among the objects of a listing, of which up to `most` are looked at."""
    small, small_bytes = list[OssUri](), 0
    large, large_bytes = None, LARGE_BYTES - 1
    for each in itertools.islice(found, most):
        if 0 < each.size <= SMALL_BYTES:
            small.append(OssUri(bucket, each.key))
            small_bytes += each.size
        elif each.size > large_bytes:
            large, large_bytes = OssUri(bucket, each.key), each.size
    return Sample(small, small_bytes, large, large_bytes if large is not None else 0)


def measured(
    name: str,
    steps: Steps,
    bounds: Bounds,
    told: Callable[[int], None],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured | None:
    """Do the steps until one of the bounds is reached, and tell what became of it; None if nothing was done."""
    size = count = 0
    with contextlib.closing(steps):
        next(steps, None)
        begun = clock()
        for step in steps:
            told(step)
            size, count = size + step, count + 1
            if size >= bounds.size or clock() - begun >= bounds.seconds:
                break
    return Measured(name, size, count, max(clock() - begun, 1e-9)) if count else None


# --- reading


def small_reads(client: OssClient, uris: Sequence[OssUri]) -> Steps:
    """Read small objects, again and again, many at a time."""
    yield 0
    transfer = client.config.dataset
    downloads = client.map(
        lambda operations, uri: operations.get(uri),
        itertools.cycle(uris),
        concurrency=transfer.prefetch_concurrency,
        workers=transfer.prefetch_worker,
        size=lambda download: len(download.body),
    )
    with contextlib.closing(downloads):
        for download in downloads:
            yield len(download.body)


def large_read(client: OssClient, uri: OssUri, size: int) -> Steps:
    """Read the first bytes of a large object."""
    memory = memoryview(bytearray(min(_PIECE_BYTES, size)))
    yield 0
    with OssReader(client, uri, transfer=client.config.checkpoint) as reader:
        while size > 0 and (count := reader.readinto(memory[:size])):
            size -= count
            yield count


def loader_reads(client: OssClient, uris: Sequence[OssUri], workers: int) -> Steps:
    """Read small objects, again and again, through a DataLoader; a step is a batch."""
    from torch.utils.data import DataLoader

    from ..datasets import OssIterableDataset

    names = [str(uri) for uri in uris] * -(-_LOADED_OBJECTS // len(uris))
    dataset = OssIterableDataset.from_objects(names, client, transform=_body)
    for batch in DataLoader(dataset, _BATCH_OBJECTS, num_workers=workers, collate_fn=list):
        yield sum(map(len, batch))


def _body(item: Any) -> bytes:
    body: bytes = item.read()
    return body


# --- writing


def small_writes(client: OssClient, uris: Sequence[OssUri]) -> Steps:
    """Write small objects, many at a time."""
    data = os.urandom(WRITTEN_SMALL_BYTES)
    yield 0
    transfer = client.config.dataset
    stored = client.map(
        lambda operations, uri: operations.put(uri, data),
        uris,
        concurrency=transfer.prefetch_concurrency,
        workers=transfer.prefetch_worker,
        kind="uploads",
    )
    with contextlib.closing(stored):
        for _ in stored:
            yield len(data)


def large_write(
    client: OssClient, uri: OssUri, bounds: Bounds, clock: Callable[[], float] = time.perf_counter
) -> Steps:
    """Write a large object, as far as the bounds let it grow; one step is all of it."""
    piece, written = os.urandom(min(_TENSOR_BYTES, bounds.size)), 0
    yield 0
    begun = clock()
    with OssWriter(client, uri, transfer=client.config.checkpoint) as writer:
        while written < bounds.size and clock() - begun < bounds.seconds:
            written += writer.write(piece)
    yield written


def torch_save(client: OssClient, uri: OssUri, size: int) -> Steps:
    """Save tensors of about this many bytes."""
    import torch

    each = min(_TENSOR_BYTES, max(size, 4))
    state = [torch.rand(each // 4) for _ in range(max(size // each, 1))]
    yield 0
    with OssWriter(client, uri, transfer=client.config.checkpoint) as writer:
        torch.save(state, writer)
    yield sum(tensor.nbytes for tensor in state)


def torch_load(client: OssClient, uri: OssUri) -> Steps:
    """Load what `torch_save` has saved."""
    import torch

    yield 0
    with OssReader(client, uri, transfer=client.config.checkpoint) as reader:
        state = torch.load(reader, weights_only=True)
    yield sum(tensor.nbytes for tensor in state)
