"""Tensors and objects out of the bytes of a checkpoint's items, checked before anything in them is made.

An item is a zip archive with a pickle, and its records must have the CRC-32 they were written with. Unpicklers run what
a pickle names. So an ordinary tensor's pickle is read by an unpickler that can make nothing else, and any other pickle
is looked through (`vet_object`) before torch reads it.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

import torch

from ..errors import OssIntegrityError
from ..protocol.checksum import crc32
from .allowed import HARMLESS, AllowList, listed
from .archive import LOCAL_SIGNATURE, NotAnArchiveError, Record, read_directory
from .metadata import UnsafePickleError
from .pickle_limits import DryRun, Name, check_opcodes
from .tensors import STORAGE_DTYPES, PlainTensor
from .torch_dcp import ExtensionRegistry, StreamTransformExtension

_Reader: Callable[[io.BytesIO], Any] = torch._C.PyTorchFileReader


def restored(data: memoryview, descriptors: Sequence[str], registry: ExtensionRegistry) -> memoryview:
    """Return what was saved, from what `descriptors` say that extensions made of it."""
    if not descriptors:
        return data
    stream = cast(IO[bytes], io.BytesIO(data))
    for extension in registry.from_descriptor_list(descriptors):
        if isinstance(extension, StreamTransformExtension):
            stream = extension.transform_from(stream)
    return memoryview(bytearray(stream.read()))


def check_records(data: memoryview, where: str) -> dict[str, Record]:
    """Return the records of an item that is an archive, each checked against its CRC-32; none if it is no archive."""
    try:
        records = read_directory(data)
    except NotAnArchiveError as error:
        if data[:4] == LOCAL_SIGNATURE:  # torch would unpack what is compressed: a thousand times its size, perhaps
            raise OssIntegrityError(f"{where}: {error}") from None
        return {}
    if sum(record.size for record in records.values()) > len(data):
        raise OssIntegrityError(f"{where}: the item's records overlap")
    for name, record in records.items():
        found = crc32(data[record.start : record.start + record.size])
        if found != record.crc and record.crc:  # 0: written with torch.serialization.set_crc32_options(False)
            raise OssIntegrityError(
                f"{where}: record {name} of the item has CRC-32 {found:08x}, it was written with {record.crc:08x}"
            )
    return records


def decode_tensor(data: memoryview, where: str, allowed: AllowList | None = HARMLESS) -> torch.Tensor:
    """Return the tensor that `torch.save` wrote; it may share the memory of `data`.

    Raises `UnsafePickleError` if it names what is not allowed (None allows anything), else `OssIntegrityError`.
    """
    records = check_records(data, where)
    plain = _plain_tensor(data, records)
    if plain is not None and "data/0" in records:
        storage = records["data/0"]
        octets = data[storage.start : storage.start + storage.size]
        try:
            return strided(octets, plain.dtype, plain.shape, plain.stride, plain.offset)
        except (RuntimeError, TypeError, ValueError) as error:
            raise OssIntegrityError(f"{where}: the item's bytes do not make its tensor: {error}") from error
    file = io.BytesIO(data)
    if allowed is not None:
        vet_object(file, where, allowed)
    try:
        tensor = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:
        raise OssIntegrityError(f"{where}: no tensor can be read from the item: {error}") from error
    if not isinstance(tensor, torch.Tensor):
        raise OssIntegrityError(f"{where}: the item is a {type(tensor).__name__}, not a tensor")
    return tensor


def _plain_tensor(data: memoryview, records: dict[str, Record]) -> PlainTensor | None:
    record = records.get("data.pkl")
    byteorder = records.get("byteorder")
    if record is None or (byteorder and bytes(data[byteorder.start : byteorder.start + byteorder.size]) != b"little"):
        return None
    return read_tensor_pickle(bytes(data[record.start : record.start + record.size]))


def strided(
    octets: memoryview, dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int], offset: int = 0
) -> torch.Tensor:
    """Return a tensor over these bytes, copied only if its elements could not begin where they do.

    Raises one of Python's errors if the bytes do not suffice.
    """
    if 0 in shape:
        return torch.empty(tuple(shape), dtype=dtype, device="cpu")
    flat = torch.frombuffer(octets, dtype=torch.uint8)
    if flat.data_ptr() % dtype.itemsize:
        flat = flat.clone()
    return flat.view(dtype).as_strided(tuple(shape), tuple(stride), offset)


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
