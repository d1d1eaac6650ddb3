"""Members of tars as samples, and tars made of objects: this library and the C++ connector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gauge import Done, Program, warm_memory
from benchmarks.values import Access

from .objects import read_all


def iterate(access: Access, uri: str, count: int, size: int, how: Mapping[str, Any]) -> Program:
    """Iterate over the `count` members of a tar, each of `size` bytes, and read every byte."""
    assert sum(_members(f"{uri}.small", access, {})) > 0
    dataset = _members(uri, access, how)
    warm_memory(2 * count * size)
    yield None
    total = sum(dataset)
    yield Done(count * size)
    assert total == count * size


def pack(access: Access, source: str, warm_up: str, uri: str, count: int) -> Program:
    """Pack the `count` objects below `source` into a tar with an index."""
    _pack(access, warm_up, f"{uri}.before")
    warm_memory(1 << 30)
    yield None
    _pack(access, source, uri)
    yield Done(count)


def _members(uri: str, access: Access, how: Mapping[str, Any]) -> Any:
    from osstorchconnector import OssIterableDataset

    return OssIterableDataset.from_tar(uri, f"{uri}.idx", transform=read_all, **access, **how)


def _pack(access: Access, source: str, uri: str) -> None:
    from osstorchconnector import generate_tar_archive

    where = (access["endpoint"], access["cred_path"], access["config_path"])
    assert generate_tar_archive(*where, uri, f"{uri}.idx", source, region=access["region"]) == 0
