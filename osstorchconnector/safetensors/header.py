"""The header of a safetensors file: read and checked, or made. No I/O, and no torch.

A file is 8 bytes that say how long the header is, the header (JSON), and the tensors' bytes without a gap. What is
refused is what the safetensors library refuses, and in addition names that stand twice in one object of the JSON, of
which the library takes the last one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..redaction import printable
from .failures import OssSafetensorError

LENGTH_BYTES = 8
# The library's own limit.
MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"
_ALIGNED_BYTES = 8
# A dimension, and a tensor, has fewer elements than this: their number must fit into 64 bits with a sign.
_TOO_MANY = 1 << 63

# The bits of an element. The order is that in which the library writes tensors: those of the last one first.
DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_RANKS = {name: rank for rank, name in enumerate(DTYPE_BITS)}


class StoredTensor(NamedTuple):
    """A tensor in a file: the format's name of its dtype, its shape, and which bytes of the file it has."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """The tensors of a file by name, in the order of the header, and the file's metadata.

    Their bytes begin at `data_start`, follow each other in some order, and end with the file.
    """

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    data_start: int

    def in_file_order(self) -> list[tuple[str, StoredTensor]]:
        """Return names and tensors in the order of their bytes."""
        return sorted(self.tensors.items(), key=lambda item: item[1][2:])


def header_bytes(begin: bytes | bytearray, size_bytes: int, where: str) -> int:
    """Return how long the header is in a file of `size_bytes` that begins with `begin`, the 8 bytes before it.

    Raises `OssSafetensorError`, which names the file as `where`.
    """
    if size_bytes < LENGTH_BYTES:
        raise _invalid(where, f"it has {size_bytes} bytes, too few for a header")
    length = int.from_bytes(begin, "little")
    if length > MAX_HEADER_BYTES:
        raise _invalid(where, f"its header is said to have {length} bytes, more than {MAX_HEADER_BYTES}")
    if length > size_bytes - LENGTH_BYTES:
        raise _invalid(where, f"its header is said to have {length} bytes, but the file has {size_bytes} in all")
    return length


def parse_header(text: bytes | bytearray, size_bytes: int, where: str) -> Header:
    """Return the header that a file of `size_bytes` has between its first 8 bytes and its tensors.

    Raises `OssSafetensorError`, which names the file as `where`.
    """
    try:
        found = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=_natural, parse_constant=_no_constant)
    except _DuplicateName as error:
        raise _invalid(where, f"{_quoted(error.args[0])} stands twice in its header") from None
    except (ValueError, RecursionError) as error:
        raise _invalid(where, f"its header is not JSON: {printable(str(error))}") from None
    if not isinstance(found, dict):
        raise _invalid(where, "its header is not a JSON object")
    metadata = _checked_metadata(found.pop(_METADATA, None), where)
    data_start = LENGTH_BYTES + len(text)
    tensors = {name: _stored_tensor(name, value, data_start, where) for name, value in found.items()}
    header = Header(tensors, metadata, data_start)
    _check_coverage(header, size_bytes, where)
    return header


class _DuplicateName(Exception):
    """A name stands twice in one object of the JSON."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateName(next(name for name in found if names.count(name) > 1))
    return found


def _natural(digits: str) -> int | None:
    """Return a number; None for one that can't be the size of anything, such as one of a million digits."""
    return int(digits) if len(digits) <= 20 and digits[0] != "-" else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _checked_metadata(found: object, where: str) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _invalid(where, f"its {_METADATA} is not an object of texts")
    for text in (*found, *found.values()):
        _check_unicode(text, where)
    return found


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(where, f"{_quoted(text)} in its header is no Unicode") from None


def _stored_tensor(name: str, found: object, data_start: int, where: str) -> StoredTensor:
    _check_unicode(name, where)
    if not isinstance(found, dict):
        raise _invalid(where, f"what its header says of tensor {_quoted(name)} is not an object")
    dtype: Any = found.get("dtype")
    shape: Any = found.get("shape")
    offsets: Any = found.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _invalid(where, f"tensor {_quoted(name)} has the unknown dtype {_quoted(dtype)}")
    if not _are_naturals(shape):
        raise _invalid(where, f"the shape of tensor {_quoted(name)} is {_quoted(shape)}")
    if not _are_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _invalid(where, f"the data_offsets of tensor {_quoted(name)} are {_quoted(offsets)}")
    bits = _size_bits(dtype, shape)
    if bits is None:
        raise _invalid(where, f"the shape of tensor {_quoted(name)} is {_quoted(shape)}: no tensor is so large")
    if bits != 8 * (offsets[1] - offsets[0]):
        raise _invalid(
            where,
            f"tensor {_quoted(name)} of {dtype} and shape {_quoted(shape)} takes {bits / 8:.15g} bytes, not the "
            f"{offsets[1] - offsets[0]} of its data_offsets",
        )
    return StoredTensor(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_naturals(found: Any) -> bool:
    return isinstance(found, list) and all(type(one) is int and one < _TOO_MANY for one in found)


def _size_bits(dtype: str, shape: Iterable[int]) -> int | None:
    """Return the bits of all elements; None if a tensor of these dimensions, 0 or not, can't be."""
    count, strides = 1, 1
    for size in shape:
        count *= size
        strides *= max(size, 1)
        if strides >= _TOO_MANY:
            return None
    return count * DTYPE_BITS[dtype]


def _check_coverage(header: Header, size_bytes: int, where: str) -> None:
    """Each byte behind the header belongs to exactly one tensor."""
    reached = header.data_start
    for name, stored in header.in_file_order():
        if stored.start != reached:
            what = "overlaps the one before it" if stored.start < reached else "leaves a hole before it"
            start = stored.start - header.data_start
            raise _invalid(where, f"tensor {_quoted(name)} begins at {start} of the data, which {what}")
        reached = stored.stop
    if reached != size_bytes:
        raise _invalid(where, f"its tensors end at byte {reached}, but the file has {size_bytes}")


def _quoted(found: object) -> str:
    """Return foreign text so that it can be shown."""
    text = found if isinstance(found, str) else repr(found)
    return repr(printable(text, 100)) if isinstance(found, str) else printable(text, 100)


def _invalid(where: str, what: str) -> OssSafetensorError:
    return OssSafetensorError(f"{where} is not a valid safetensors file: {what}")


class Entry(NamedTuple):
    """A tensor that is to be written: the format's name of its dtype, and the shape that the format gives it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def make_header(entries: Iterable[Entry], metadata: Mapping[str, str] | None) -> tuple[bytes, list[str]]:
    """Return the beginning of a file with these tensors, up to their bytes, and the order in which these follow.

    Both are as the library writes them: large elements first, then by name.
    """
    ordered = sorted(entries, key=lambda entry: (-_RANKS[entry.dtype], entry.name))
    content: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    position = 0
    for entry in ordered:
        stop = position + entry.size_bytes
        content[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, [entry.name for entry in ordered]


def check_names(names: Iterable[object]) -> None:
    """Raise `TypeError` for a name that is no text, and `ValueError` for one that a file can't have."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a tensor's name must be a text, not {type(name).__name__}: {name!r:.100}")
        if name == _METADATA:
            raise ValueError(f"a tensor can't be named {_METADATA}: that is where a file has its metadata")
        name.encode()
