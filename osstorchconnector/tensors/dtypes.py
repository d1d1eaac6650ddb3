"""The names that dtypes have in safetensors files."""

from __future__ import annotations

import torch

# What a torch may lack is named by text. F4 has two elements in a byte, and so has torch's dtype in an element; torch
# has none for F6_E2M3 and F6_E3M2.
_TORCHS_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}

SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, torchs) for name, torchs in _TORCHS_NAMES.items() if hasattr(torch, torchs)
}
SAFETENSORS_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
