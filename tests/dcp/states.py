"""States to save, targets to load them into, and what it means that they are the same."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Any

import torch

_NAMES = (
    "float32 float64 float16 bfloat16 int8 uint8 int16 int32 int64 "
    "uint16 uint32 uint64 bool complex64 complex128 float8_e4m3fn float8_e5m2"
)


def _can_be_saved(name: str) -> bool:
    """Say whether this torch has the dtype, and stores it: unsigned integers of more than 8 bits from 2.5 on."""
    try:
        torch.save(torch.zeros(1).to(getattr(torch, name)), io.BytesIO())
    except (AttributeError, KeyError):
        return False
    return True


DTYPES: tuple[torch.dtype, ...] = tuple(getattr(torch, name) for name in filter(_can_be_saved, _NAMES.split()))


def many_kinds() -> dict[str, Any]:
    """Return a state with every kind of tensor and object that a checkpoint may have."""
    random = torch.Generator().manual_seed(5)
    state: dict[str, Any] = {str(dtype): torch.randint(0, 2, (7, 5), generator=random).to(dtype) for dtype in DTYPES}
    shared = torch.arange(1000.0)
    return {
        **state,
        "large": torch.randn(1200, 1000, generator=random),
        "large transposed": torch.randn(1000, 1200, generator=random).t(),
        "transposed": torch.arange(12.0).reshape(3, 4).t(),
        "channels last": torch.randn(2, 3, 4, 5, generator=random).to(memory_format=torch.channels_last),
        "column": torch.arange(100.0).reshape(10, 10)[:, 3],
        "no elements": torch.empty(0, 4),
        "no dimensions": torch.tensor(3.5),
        "part of a storage": shared[10:20],
        "other part of it": shared[15:],
        "conjugate": torch.randn(4, dtype=torch.complex64, generator=random).conj(),
        "parameter": torch.nn.Parameter(torch.randn(3, 3, generator=random)),
        "nested": {"list": [torch.ones(3), {"deep": torch.zeros(2)}], "number": 5},
        "text": "text",
        "bytes": b"bytes",
        "date": datetime.datetime(2025, 3, 14, tzinfo=datetime.timezone.utc),
        "path": Path("some/where"),
    }


def blank(value: Any) -> Any:
    """Return a target of the same structure, with other numbers in it."""
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {key: blank(item) for key, item in value.items()}
    if isinstance(value, list):
        return [blank(item) for item in value]
    return None


def differences(left: Any, right: Any, name: str = "") -> list[str]:
    """Return the names of what is not the same, to the last bit."""
    if isinstance(left, torch.Tensor):
        same = left.shape == right.shape and left.dtype == right.dtype and bits(left) == bits(right)
        return [] if same else [name]
    if isinstance(left, dict):
        return [found for key in left for found in differences(left[key], right[key], f"{name}.{key}")]
    if isinstance(left, list):
        return [found for pair in zip(left, right, strict=True) for found in differences(*pair, f"{name}[]")]
    return [] if left == right else [name]


def bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
