"""The memory of tensors: as bytes, to read and to write; whether a tensor is no more than that; and new memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..client.memory import copy_bytes

Shape = tuple[int, ...]

_TORCHS_OWN = (torch.Tensor, torch.nn.Parameter)


# Those that Python's memoryviews know: they need not be looked at as bytes first, which takes torch a while.
_PYTHONS_DTYPES = frozenset({torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8})


# torch does not type it.
_UntypedStorage: Any = torch.UntypedStorage


def contiguous(shape: Shape) -> Shape:
    """Return the strides of a tensor whose elements follow each other."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def bare(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a subclass that only adds names and methods as one of torch's own class, sharing its memory.

    A file would name the class, and no reader makes it; a load fills the tensor that is there. Subclasses that decide
    what torch's operations do with them (DTensor, quantised tensors of torchao) are more than their bytes, and stay.
    """
    kind = type(tensor)
    if kind in _TORCHS_OWN or kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor)


def is_plain(tensor: torch.Tensor) -> bool:
    """True if the tensor is its bytes, shape and dtype and nothing else; there is at least one byte."""
    return (
        type(tensor) in _TORCHS_OWN
        and tensor.layout == torch.strided
        and tensor.numel() > 0
        and not tensor.is_quantized
        and not (tensor.dtype.is_complex and tensor.is_conj())
        and not tensor.is_neg()
    )


def memory(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous detached tensor in the processor's memory; the view keeps them alive."""
    if not tensor.numel():
        return memoryview(bytearray())
    if tensor.dtype not in _PYTHONS_DTYPES:
        # `view(-1)` keeps the stride of a single element, which may be any.
        tensor = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    return tensor.numpy().data.cast("B")


def writable_memory(tensor: torch.Tensor) -> memoryview:
    """Return what `memory` does, to be written to: autograd learns that the tensor has changed."""
    torch.autograd.graph.increment_version(tensor)
    return memory(tensor)


def fill(tensor: torch.Tensor, octets: memoryview) -> None:
    """Put bytes, as many as it has, into a contiguous detached tensor in the processor's memory."""
    copy_bytes(writable_memory(tensor), octets)


def copy_into(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy into a tensor, also into one made in `torch.inference_mode`, which can be changed in that mode only."""
    with torch.inference_mode(target.is_inference()):
        target.copy_(source)


def uninitialised(shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """Return a CPU tensor whose memory is not written to, so that its pages take up no room yet.

    (`torch.empty` writes to all of them under `torch.use_deterministic_algorithms(True)`.)
    """
    storage = _UntypedStorage(math.prod(shape) * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, shape, contiguous(shape))
