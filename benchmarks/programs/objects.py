"""Many objects, through the datasets: this library and the C++ connector."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.gauge import Done, Program, one_by_one, resident_bytes
from benchmarks.values import Access


def iterate(access: Access, uris: Sequence[str], reads: int, size: int) -> Program:
    """Iterate over `reads` objects, each of `size` bytes, and read every byte."""
    from osstorchconnector import OssIterableDataset

    wanted = repeated(uris, reads)
    dataset = OssIterableDataset.from_objects(wanted, transform=read_all, **access)
    warm_up(OssIterableDataset, access, uris)
    yield None
    total = sum(dataset)
    yield Done(reads)
    assert total == reads * size


def get_one_by_one(access: Access, uri: str, reads: int, size: int) -> Program:
    """Get the same object again and again, and take the time of each."""
    from osstorchconnector import OssClient

    client = OssClient(**access)
    yield from one_by_one(lambda: len(client.get(uri).body), reads, size)
    client.close()


def first_objects(access: Access, uris: Sequence[str], first: int, size: int) -> Program:
    """Make a dataset and read its `first` objects, in a process that has read nothing before."""
    from osstorchconnector import OssIterableDataset

    yield None
    dataset = OssIterableDataset.from_objects(list(uris), transform=read_all, **access)
    total = sum(itertools.islice(dataset, first))
    yield Done(1)
    assert total == first * size


def load_batches(access: Access, uris: Sequence[str], reads: int, size: int, workers: int, batch: int) -> Program:
    """The same through a DataLoader, to tensors in batches."""
    from osstorchconnector import OssIterableDataset

    dataset = OssIterableDataset.from_objects(repeated(uris, reads), transform=as_tensor, **access)
    loader: Any = DataLoader(dataset, batch_size=batch, num_workers=workers)
    yield None
    shapes = [tuple(data.shape) for data in loader]
    yield Done(reads)
    assert sum(count for count, _ in shapes) == reads
    assert {each for _, each in shapes} == {size}


def load_shuffled(access: Access, uris: Sequence[str], reads: int, size: int, batch: int) -> Program:
    """Read objects by number, in shuffled batches."""
    from osstorchconnector import OssMapDataset

    dataset = OssMapDataset.from_objects(repeated(uris, reads), transform=read_all, **access)
    order = list(range(reads))
    random.Random(7).shuffle(order)
    loader: Any = DataLoader(dataset, batch_size=batch, sampler=order, collate_fn=sum)
    dataset[0]
    yield None
    total = sum(loader)
    yield Done(reads)
    assert total == reads * size


def soak(access: Access, uris: Sequence[str], reads: int, size: int) -> Program:
    """Read many objects, and measure how memory grows after the first tenth."""
    from osstorchconnector import OssIterableDataset

    dataset = OssIterableDataset.from_objects(repeated(uris, reads), transform=read_all, **access)
    yield None
    sizes: list[int] = []
    for number, read in enumerate(dataset):
        assert read == size
        if number % (reads // 100) == 0:
            sizes.append(resident_bytes())
    yield Done(reads, {"growth": max(sizes[10:]) / sizes[10] - 1})


def read_all(data: Any) -> int:
    """Read all bytes of an object; return their number."""
    return len(data.read())


def as_tensor(data: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(data.read()), dtype=torch.uint8)


def repeated(uris: Sequence[str], reads: int) -> list[str]:
    """Return `reads` URIs, by repeating these."""
    return (list(uris) * (reads // len(uris) + 1))[:reads]


def warm_up(kind: Any, access: Access, uris: Sequence[str]) -> None:
    """Load code and fill caches by a small read."""
    assert sum(kind.from_objects(list(uris[:32]), transform=read_all, **access)) > 0
