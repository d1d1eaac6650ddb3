"""Files of tensors in the safetensors format, on OSS.

How a load flows, from an object to tensors:

    connector --> opened --> header <-- OSS        which tensors there are, and where; checked before it is believed
                    |
                    |------> loading <-- OSS       many ranges at a time, straight into the tensors
                    '------> tensor_slice          a part of a tensor; `slices` knows which ranges bring it

How a save flows:

    connector --> saving --> header --> OSS        the header, then each tensor from where it stands

The modules, in the order in which to read them:

- public: `connector` is `OssSafetensor`, `opened` an open file; `failures` are the errors
- the format: `header`, without I/O and without torch
- reading: `loading`; for a `tensor_slice`, which knows what is wanted, `slices`: which bytes that takes, without torch
- writing: `saving`
"""

from __future__ import annotations

from .connector import OssSafetensor
from .failures import OssSafetensorError, OssTensorNotFoundError
from .opened import OpenedSafetensors
from .tensor_slice import TensorSlice

__all__ = ["OpenedSafetensors", "OssSafetensor", "OssSafetensorError", "OssTensorNotFoundError", "TensorSlice"]
