"""How tensors are laid out in items of a checkpoint, and their memory as bytes."""

from __future__ import annotations

import functools
import io
import math
import pickle
from typing import Any, NamedTuple

import torch

from ..client.memory import copy_bytes
from .archive import Archive, archive_around

Shape = tuple[int, ...]

# The dtypes that have a storage class of their own; a pickle names the others.
STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}


# Tensors of these are more than their bytes: scales, zero points, several elements in a byte.
QUANTISED_DTYPES = frozenset({torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4})

_TORCHS_OWN = (torch.Tensor, torch.nn.Parameter)


# Those that Python's memoryviews know: they need not be looked at as bytes first, which takes torch a while.
_PYTHONS_DTYPES = frozenset({torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8})


# torch does not type it.
_UntypedStorage: Any = torch.UntypedStorage


class PlainTensor(NamedTuple):
    """What a tensor's pickle says: a view of the one storage that stands beside it."""

    dtype: torch.dtype
    shape: Shape
    stride: Shape
    offset: int  # in elements


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


@functools.lru_cache(maxsize=4096)
def tensor_archive(dtype: torch.dtype, shape: Shape) -> Archive:
    """Return the archive that `torch.save` makes of a contiguous tensor of this kind."""
    tensor = uninitialised(shape, dtype)
    return archive_around(_pickled(tensor), tensor.numel() * tensor.element_size())


class _TensorPickler(pickle.Pickler):
    """Pickles as `torch.save` does: a storage is a name, its bytes stand elsewhere."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, torch.storage.TypedStorage):
            name = next(name for name, dtype in STORAGE_DTYPES.items() if dtype == obj.dtype)
            return ("storage", getattr(torch, name), "0", "cpu", len(obj._untyped_storage) // obj.dtype.itemsize)
        if isinstance(obj, torch.UntypedStorage):
            return ("storage", torch.UntypedStorage, "0", "cpu", obj.nbytes())
        return None


def _pickled(tensor: torch.Tensor) -> bytes:
    out = io.BytesIO()
    _TensorPickler(out, protocol=2).dump(tensor)
    return out.getvalue()
