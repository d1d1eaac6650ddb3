"""Tensors and objects out of the bytes of a checkpoint's items."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, cast

import torch
from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension

from ..errors import OssIntegrityError
from ..protocol.checksum import crc32
from .allowed import HARMLESS, AllowList
from .archive import LOCAL_SIGNATURE, NotAnArchiveError, Record, read_directory
from .tensors import PlainTensor
from .vetting import read_tensor_pickle, vet_object


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
    """Return the records of an item that is an archive, each held against its CRC-32; none if it is no archive."""
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
