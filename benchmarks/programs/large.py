"""One large object, through `OssCheckpoint`: this library and the C++ connector; and torch on a local file."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import torch

from benchmarks.gauge import Done, Program, warm_memory
from benchmarks.values import Access

from .clients import fill, touched_buffer


def read_into(access: Access, uri: str, size: int) -> Program:
    """Read an object into an existing buffer."""
    checkpoint = _checkpoint(access)
    buffer = touched_buffer(size)
    _peek(checkpoint, uri)
    warm_memory(2 * size)
    yield None
    with checkpoint.reader(uri) as reader:
        fill(reader, buffer)
    yield Done(size)
    assert buffer[::4096].strip(b"\1"), "nothing was read"


def read_pieces(access: Access, uri: str, size: int, piece: int) -> Program:
    """Read an object from start to end by `read(piece)`, and discard the bytes."""
    checkpoint = _checkpoint(access)
    _peek(checkpoint, uri)
    warm_memory(2 * size)
    yield None
    total = 0
    with checkpoint.reader(uri) as reader:
        while data := reader.read(piece):
            total += len(data)
    yield Done(size)
    assert total == size


def write_pieces(access: Access, uri: str, size: int, piece: int) -> Program:
    """Write an object by `write(piece)`."""
    checkpoint = _checkpoint(access)
    data = b"\1" * piece
    warm_memory(2 * size)
    yield None
    with checkpoint.writer(uri) as writer:
        for start in range(0, size, piece):
            writer.write(data[: size - start])
    yield Done(size)


def load_state(access: Access, uri: str, size: int) -> Program:
    """`torch.load` from OSS."""
    checkpoint = _checkpoint(access)
    _peek(checkpoint, uri)
    warm_memory(2 * size)
    yield None
    with checkpoint.reader(uri) as reader:
        state = torch.load(reader, weights_only=True)
    yield Done(size)
    assert sum(tensor.nbytes for tensor in state.values()) == size


def load_local_state(path: str, size: int) -> Program:
    """`torch.load` of a local file."""
    warm_memory(2 * size)
    yield None
    state = torch.load(Path(path), weights_only=True)
    yield Done(size)
    assert sum(tensor.nbytes for tensor in state.values()) == size


def save_state(access: Access, uri: str, size: int, tensors: int) -> Program:
    """`torch.save` to OSS; a small one before it loads the code."""
    checkpoint = _checkpoint(access)
    state = make_state(size, tensors)
    with checkpoint.writer(f"{uri}-before") as writer:
        torch.save(make_state(64 << 20, 1), writer)
    warm_memory(2 * size)
    yield None
    with checkpoint.writer(uri) as writer:
        torch.save(state, writer)
    yield Done(size)


def save_nowhere(size: int, tensors: int) -> Program:
    """`torch.save` to a file that discards all bytes: the time of torch itself."""
    state = make_state(size, tensors)
    warm_memory(2 * size)
    yield None
    torch.save(state, cast(IO[bytes], _Nowhere()))
    yield Done(size)


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)

    def flush(self) -> None:
        """Do nothing."""


def make_state(size: int, tensors: int) -> dict[str, torch.Tensor]:
    """Return a state dict of `size` bytes with any values, but with all its pages in memory."""
    count = size // tensors // 4
    return {f"layer{number}.weight": torch.full((count,), 1.0 + number) for number in range(tensors)}


def _checkpoint(access: Access) -> Any:
    from osstorchconnector import OssCheckpoint

    return OssCheckpoint(**access)


def _peek(checkpoint: Any, uri: str) -> None:
    """Load code and open connections by reading a small object first."""
    with checkpoint.reader(f"{uri}.small") as reader:
        assert reader.read()
