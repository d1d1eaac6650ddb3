"""Data files in the safetensors format: a header, then the bytes of all tensors. Pure but for torch's dtypes.

Objects that are no tensors stand in it as tensors of bytes. A chunk of a tensor that is spread over ranks is named by
its offsets as well, when the file has more than one of that tensor; `DCP_SHARDING_INFO` has the offsets of all.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


class Entry(NamedTuple):
    """One tensor of a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    size_bytes: int


def header(entries: list[Entry]) -> tuple[bytes, list[int]]:
    """Return the beginning of a file with these tensors, and where in the file the bytes of each are to stand.

    Raises `ValueError` for a dtype that the format does not have.
    """
    content: dict[str, Any] = {}
    sharding: dict[str, Any] = {}
    position, positions = 0, []
    for entry in entries:
        if entry.dtype not in _DTYPES:
            raise ValueError(f"safetensors has no {entry.dtype} ({entry.name}): save in torch's format")
        name = entry.name if entry.name not in content else f"{entry.name}@{','.join(map(str, entry.offsets))}"
        positions.append(position)
        content[name] = {
            "dtype": _DTYPES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, position + entry.size_bytes],
        }
        sharding[name] = {"saved_offsets": list(entry.offsets)}
        position += entry.size_bytes
    content["__metadata__"] = {"format": "pt", "DCP_SHARDING_INFO": json.dumps(sharding), "DCP_VERSION": "1.0"}
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, [start + position for position in positions]
