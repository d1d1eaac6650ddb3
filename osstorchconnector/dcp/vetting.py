"""Objects of a checkpoint are pickles, and an unpickler runs what they name: here is what they may name."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import fractions
import functools
import io
import pathlib
import pickle
import random
import threading
import types
import uuid
from collections.abc import Iterable
from typing import Any

import torch

from ..errors import OssIntegrityError
from .archive import NotAnArchiveError, read_directory
from .dry_run import check_calls
from .metadata import UnsafePickleError
from .opcodes import check_opcodes
from .tensors import STORAGE_DTYPES, PlainTensor

# One at a time: torch keeps the list of what is allowed in a global.
_vetting = threading.Lock()

# The names by which pickles of numpy 1 and 2 call the same things.
_NUMPY_NAMES = {
    "scalar": ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    "_reconstruct": ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
}


def vet_object(data: io.BytesIO, where: str, *, safe_types: Iterable[Any] = ()) -> None:
    """Raise `UnsafePickleError` unless the object that `torch.save` wrote is made of harmless things only.

    Harmless are tensors and what `torch.load(weights_only=True)` knows, Python's containers and values, numpy's
    arrays, scalars and generators, dates, paths, and `safe_types`; and nothing that takes more memory than its bytes
    suggest. `OssIntegrityError` if it can't be read at all.
    """
    try:
        check_calls(object_pickle(data.getbuffer()))
        with _vetting, torch.serialization.safe_globals([*_harmless(), *safe_types]):
            torch.load(data, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafePickleError(
            f"{where}: the object is not made of harmless things only, so it was not loaded: {_reason(error)}. "
            "If it is yours, give its classes to the reader as safe_types=[...], or weights_only=False to load anything"
        ) from error
    except Exception as error:
        raise OssIntegrityError(f"{where}: no object can be read from the item: {error!r}") from error
    finally:
        data.seek(0)


def object_pickle(archive: memoryview) -> bytes:
    """Return the pickle in an archive of `torch.save`; `NotAnArchiveError` if there is none."""
    record = read_directory(archive).get("data.pkl")
    if record is None:
        raise NotAnArchiveError("an archive without a pickle")
    return bytes(archive[record.start : record.start + record.size])


def _reason(error: pickle.UnpicklingError) -> str:
    """Return the part of torch's message that names what was refused."""
    lines = str(error).splitlines()
    named = [line for line in lines if "GLOBAL" in line] or lines[:1] or ["no reason given"]
    return named[0].strip().split(" was not an allowed")[0]


@functools.cache
def _harmless() -> tuple[Any, ...]:
    return (*_PYTHON, *_STAND_INS, *_numpy())


_PYTHON: tuple[Any, ...] = (
    collections.Counter,
    collections.OrderedDict,
    argparse.Namespace,
    types.SimpleNamespace,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    random.Random,
    *(getattr(pathlib, name) for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *((getattr(pathlib, name), f"pathlib._local.{name}") for name in ("PosixPath", "PurePosixPath")),
    # what a defaultdict may make, and values that pickle as a call
    *(int, float, complex, bool, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice),
)


def _mapping(*arguments: Any) -> dict[Any, Any]:
    return {}


def _sequence(*arguments: Any) -> list[Any]:
    return []


# torch's unpickler fills only dicts and lists. What is made while vetting is thrown away, so these will do.
_STAND_INS = ((_mapping, "collections.defaultdict"), (_sequence, "collections.deque"))


def _numpy() -> list[Any]:
    try:
        import numpy as np
    except ImportError:
        return []
    found: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in np.typecodes["All"]}]
    multiarray = np.ones(1).__reduce__()[0]
    found += [(multiarray, name) for name in _NUMPY_NAMES["_reconstruct"]]
    found += [(np.float64(1).__reduce__()[0], name) for name in _NUMPY_NAMES["scalar"]]
    from numpy.random import _pickle, bit_generator

    found += [np.random.Generator, np.random.RandomState, bit_generator.SeedSequence, *_pickle.BitGenerators.values()]
    found += [function for name, function in vars(_pickle).items() if name.endswith("_ctor")]
    found += [function for name, function in vars(bit_generator).items() if name == "__pyx_unpickle_SeedSequence"]
    return found


@functools.lru_cache(maxsize=4096)
def read_tensor_pickle(data: bytes) -> PlainTensor | None:
    """Return what a tensor's pickle says, by an unpickler that can make nothing else; None if it says anything else."""
    try:
        check_opcodes(data)
        tensor = _TensorUnpickler(io.BytesIO(data)).load()
    except Exception:
        return None  # whatever it is: torch.load(weights_only=True) is to judge
    return tensor if isinstance(tensor, PlainTensor) else None


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            return _plain_v2 if name.endswith("2") else _plain_v3
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.uint8
        if module == "torch":
            kind = getattr(torch, name, None)
            if isinstance(kind, torch.dtype):
                return kind
            if name in STORAGE_DTYPES:
                return STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or key != "0" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a storage {pid!r}")
        return dtype


def _plain_v2(dtype: Any, offset: int, shape: Any, stride: Any, grad: bool, hooks: Any, state: Any = None) -> Any:
    if state or hooks:
        return None
    return PlainTensor(dtype, tuple(shape), tuple(stride), offset)


def _plain_v3(
    storage: Any, offset: int, shape: Any, stride: Any, grad: bool, hooks: Any, dtype: Any, state: Any = None
) -> Any:
    return _plain_v2(dtype, offset, shape, stride, grad, hooks, state)
