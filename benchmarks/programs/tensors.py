"""Files of tensors in the safetensors format: both connectors, and the format's library on a local file."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gauge import Done, Program, warm_memory
from benchmarks.values import Access

from .large import make_state

_PAGE_BYTES = 4096


def load(access: Access, uri: str, size: int) -> Program:
    """`OssSafetensor.load_file`; a small file before it loads code and opens connections."""
    files = _files(access)
    files.load_file(f"{uri}.small")
    warm_memory(2 * size)
    yield None
    tensors = files.load_file(uri)
    yield Done(size)
    assert sum(tensor.nbytes for tensor in tensors.values()) == size


def load_local(path: str, size: int) -> Program:
    """`safetensors.torch.load_file`, and a byte of each page: it maps the file, and reads what is looked at."""
    from safetensors.torch import load_file

    warm_memory(2 * size)
    yield None
    tensors = load_file(path)
    touched = sum(int(tensor.view(torch.uint8)[::_PAGE_BYTES].sum()) for tensor in tensors.values())
    yield Done(size)
    assert touched >= 0
    assert sum(tensor.nbytes for tensor in tensors.values()) == size


def copy_local(path: str, size: int) -> Program:
    """The same, and a copy of each tensor in memory of its own."""
    from safetensors.torch import load_file

    warm_memory(2 * size)
    yield None
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    yield Done(size)
    assert sum(tensor.nbytes for tensor in tensors.values()) == size


def save(access: Access, uri: str, size: int, tensors: int) -> Program:
    """`OssSafetensor.save_file`; a small file before it loads the code."""
    files = _files(access)
    state = make_state(size, tensors)
    files.save_file(make_state(64 << 20, 1), f"{uri}-before")
    warm_memory(2 * size)
    yield None
    files.save_file(state, uri)
    yield Done(size)


def _files(access: Access) -> Any:
    from osstorchconnector import OssSafetensor

    return OssSafetensor(**access)
