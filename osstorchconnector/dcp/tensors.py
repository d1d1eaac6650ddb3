"""How tensors are laid out in items of a checkpoint."""

from __future__ import annotations

import functools
import io
import pickle
from typing import Any, NamedTuple

import torch

from ..errors import OssUsageError
from ..tensors.memory import Shape, uninitialised
from .archive import Archive, archive_around

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


class PlainTensor(NamedTuple):
    """What a tensor's pickle says: a view of the one storage that stands beside it."""

    dtype: torch.dtype
    shape: Shape
    stride: Shape
    offset: int  # in elements


@functools.lru_cache(maxsize=4096)
def tensor_archive(dtype: torch.dtype, shape: Shape) -> Archive:
    """Return the archive that `torch.save` makes of a contiguous tensor of this kind."""
    tensor = uninitialised(shape, dtype)
    return archive_around(_pickled(tensor), tensor.numel() * tensor.element_size())


class _TensorPickler(pickle.Pickler):
    """Pickles as `torch.save` does: a storage is a name, its bytes stand elsewhere."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, torch.storage.TypedStorage):
            name = next((name for name, dtype in STORAGE_DTYPES.items() if dtype == obj.dtype), "")
            if not name:  # unsigned integers of more than 8 bits before torch 2.5
                raise OssUsageError(
                    f"torch {torch.__version__} can't store tensors of {obj.dtype}, by torch.save either"
                )
            return ("storage", getattr(torch, name), "0", "cpu", len(obj._untyped_storage) // obj.dtype.itemsize)
        if isinstance(obj, torch.UntypedStorage):
            return ("storage", torch.UntypedStorage, "0", "cpu", obj.nbytes())
        return None


def _pickled(tensor: torch.Tensor) -> bytes:
    out = io.BytesIO()
    _TensorPickler(out, protocol=2).dump(tensor)
    return out.getvalue()
