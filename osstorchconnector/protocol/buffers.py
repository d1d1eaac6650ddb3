"""Memory that users pass in: which of it can be sent or written to, and how it is shown. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import OssUsageError

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

Flat = bytes | bytearray | memoryview
_SHOWN_BYTES = 64


def flat_buffers(where: str, body: BytesLike | Iterable[BytesLike]) -> tuple[Flat, ...]:
    """Return buffers of single bytes for `body`, one bytes-like object or several, without a copy if possible.

    Raises `OssUsageError`, which says what to pass instead, for anything else. `where` names operation and object.
    """
    if isinstance(body, (bytes, bytearray)):
        return (body,)
    if isinstance(body, str):
        raise OssUsageError(f"{where}: bytes are wanted, not a text: pass text.encode()")
    if isinstance(body, os.PathLike):
        raise OssUsageError(
            f"{where}: bytes are wanted, not the name of a file: pass path.read_bytes(), or copy the file to an "
            "OssCheckpoint.writer if it is large"
        )
    whole = _flat(body)
    if whole is not None:
        return (whole,)
    if not isinstance(body, Iterable) or isinstance(body, Mapping):
        raise OssUsageError(f"{where}: something bytes-like is wanted, not {_called(body)}")
    return tuple(_flat_part(where, part) for part in body)


def _flat_part(where: str, part: object) -> Flat:
    flat = part if isinstance(part, (bytes, bytearray)) else _flat(part)
    if flat is None:
        raise OssUsageError(f"{where}: several bytes-like objects are wanted, and among them is {_called(part)}")
    return flat


def _flat(data: object) -> Flat | None:
    """Return the bytes of a bytes-like object, or None for any other. Memory that is not contiguous is copied."""
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # a ValueError: an array of dates, which has no bytes to show
        return None
    if view.c_contiguous and view.ndim == 1 and view.format == "B":
        return data if isinstance(data, memoryview) else view
    if not view.nbytes:
        return b""  # a view with a zero in its shape can't be cast
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        return view.tobytes()


def writable_memory(into: BytesLike) -> memoryview:
    """Return memory to fill, as single bytes; `OssUsageError` if it is read-only or not contiguous."""
    view = memoryview(into)
    if view.readonly or not view.c_contiguous:
        raise OssUsageError("into: memory is wanted that can be written to and has no gaps")
    return view.cast("B")


def shown_bytes(data: Flat) -> str:
    """Return bytes as a `repr` shows them: as they are if they are few, else how many they are."""
    size_bytes = data.nbytes if isinstance(data, memoryview) else len(data)
    return f"<{size_bytes} bytes>" if size_bytes > _SHOWN_BYTES else repr(bytes(data))


def _called(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
