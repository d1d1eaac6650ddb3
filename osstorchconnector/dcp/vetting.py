"""Objects of a checkpoint are pickles, and an unpickler runs what they name: here they are looked through before."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import OssIntegrityError
from .allowed import HARMLESS, AllowList, listed
from .archive import LOCAL_SIGNATURE, NotAnArchiveError
from .dry_run import DryRun, Name
from .metadata import UnsafePickleError
from .pickle_limits import check_opcodes
from .tensors import STORAGE_DTYPES, PlainTensor

_Reader: Callable[[io.BytesIO], Any] = torch._C.PyTorchFileReader


def vet_object(data: io.BytesIO, where: str, allowed: AllowList = HARMLESS) -> None:
    """Raise `UnsafePickleError` unless the object that `torch.save` wrote is made of harmless things only.

    Harmless is what `allowed` says, as long as it takes no more memory than its bytes suggest. `OssIntegrityError` if
    the object can't be read at all.
    """
    try:
        run = DryRun(object_pickle(data), allowed)
        try:
            run.load()
        except Exception:
            if not run.refused():
                raise
        if run.refused():
            raise _unsafe(where, f"it names {listed(run.refused())}", run.refused())
    except UnsafePickleError:
        raise
    except pickle.UnpicklingError as error:
        raise _unsafe(where, str(error), []) from error
    except Exception as error:
        raise OssIntegrityError(f"{where}: no object can be read from the item: {error!r}") from error
    finally:
        data.seek(0)


def object_pickle(data: io.BytesIO) -> bytes:
    """Return the pickle that `torch.load` reads of an archive; `NotAnArchiveError` if it reads something else."""
    data.seek(0)
    if data.read(len(LOCAL_SIGNATURE)) != LOCAL_SIGNATURE:
        raise NotAnArchiveError("it is not an archive, so torch would read it as an older format")
    data.seek(0)
    reader = _Reader(data)  # torch's own, as another might find another record
    if "constants.pkl" in reader.get_all_records():
        raise NotAnArchiveError("it is a TorchScript archive, which is a program")
    pickled = reader.get_record("data.pkl")
    assert isinstance(pickled, bytes)
    return pickled


def _unsafe(where: str, why: str, names: Sequence[Name]) -> UnsafePickleError:
    own = f"its classes by safe_types=[{', '.join(name for _, name in names)}] of the reader, or " if names else ""
    return UnsafePickleError(
        f"{where}: the object is not made of harmless things only, so it was not loaded: {why}. "
        f"If it is yours, allow {own}anything by weights_only=False"
    )


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
