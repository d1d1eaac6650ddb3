"""What numpy would believe of a pickle, and then read or write memory that is not the array's."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from dcp.test_hostile_items import Call, archive_of, nested, saved

from osstorchconnector.dcp.decoding import vet_object
from osstorchconnector.dcp.metadata import UnsafePickleError

RECONSTRUCT = np.ones(1).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]  # type: ignore[index]
OBJECTS, FLOATS = np.dtype("O"), np.dtype("f8")
NO_OBJECTS, HAS_OBJECTS = 16, 27


def dtype(names: Any, fields: Any, size: int = 8, flags: int = NO_OBJECTS, subarray: Any = None) -> Call:
    return Call(np.dtype, "V8", False, True, state=(3, "|", subarray, names, fields, size, 1, flags))


def array(kind: Any, contents: Any, count: int = 1) -> Call:
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (count,), kind, False, contents))


def generator(name: str, **positions: int) -> Call:
    source: Any = getattr(np.random, name)(1)
    make, arguments, (state, seeds) = source.__reduce__()
    inner = {key: positions.get(key, value) for key, value in state["state"].items()}
    return Call(make, *arguments, state=({**state, **positions, "state": inner}, seeds))


LEGACY: Any = np.random.RandomState(1).__reduce__()

HOSTILE: dict[str, Any] = {
    "a pointer of bytes": array(dtype(("a",), {"a": (OBJECTS, 0)}), b"A" * 8),
    "a pointer of bytes, as a scalar": Call(SCALAR, dtype(("a",), {"a": (OBJECTS, 0)}), b"A" * 8),
    "a pointer that is said to be one": array(dtype(("a",), {"a": (OBJECTS, 0)}, flags=HAS_OBJECTS), b"A" * 8),
    "pointers in a row": array(dtype(None, None, subarray=(OBJECTS, (1,))), b"A" * 8),
    "objects that are none": array(dtype(("a",), {"a": (FLOATS, 0)}, flags=HAS_OBJECTS), [(1.0,)]),
    "a field behind the end": array(dtype(("a",), {"a": (FLOATS, 1 << 30)}), b"A" * 8),
    "a field before the beginning": array(dtype(("a",), {"a": (FLOATS, -8)}), b"A" * 8),
    "a row behind the end": array(dtype(None, None, subarray=(FLOATS, (1 << 30,))), b"A" * 8),
    "a field that is larger": array(dtype(("a",), {"a": (dtype(("b",), {"b": (FLOATS, 8)}, size=16), 0)}), b"A" * 8),
    "a field without a name": array(dtype(("a", "b"), {"a": (FLOATS, 0)}), b"A" * 8),
    "a size below zero": array(dtype((), {}, size=-8), b""),
    "a dtype that is not a copy": array(Call(np.dtype, "V8", False, False), b"A" * 8),
    "a dtype of several": array(Call(np.dtype, "f8,f8", False, True), b"A" * 16),
    "nested lists for a field": array(np.dtype([("a", "O"), ("b", "f8", (1,) * 9)]), [(None, nested(9))]),
    "a state out of bounds": generator("MT19937", pos=10**9),
    "a state before the beginning": generator("MT19937", pos=-1),
    "a buffer before the beginning": generator("Philox", buffer_pos=-1),
    "an older state out of bounds": Call(
        *LEGACY[:1], *LEGACY[1], state=("MT19937", np.zeros(624, "u4"), 10**9, 0, 0.0)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_numpy_would_not_have_written_is_refused(name: str, protocol: int) -> None:
    with pytest.raises(UnsafePickleError, match="^here: "):
        vet_object(saved(HOSTILE[name], protocol), "here")


def begun(value: Any) -> bytes:
    """Return a pickle without its head and its end, which leaves one object and keeps it under no number."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 2)
    pickler.fast = True
    pickler.dump(value)
    return file.getvalue()[2:-1]


@pytest.mark.parametrize("is_seen_again", [False, True])
def test_fields_that_are_changed_later_are_looked_at_again(is_seen_again: bool) -> None:
    kind = b"cnumpy\ndtype\n(X\x02\0\0\0V8\x89\x88tRq\x01"
    fields = b"}q\x02X\x01\0\0\0a" + begun(FLOATS) + b"K\x00\x86s0"
    state = b"(K\x03X\x01\0\0\0|NX\x01\0\0\0a\x85h\x02K\x08K\x01K\x10tb"
    change = b"h\x02X\x01\0\0\0a" + begun(FLOATS) + b"J\0\0\0\x40\x86s0"
    back = b"h\x02X\x01\0\0\0a" + begun(FLOATS) + b"K\x00\x86s0"
    use = begun(RECONSTRUCT) + b"(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x01\x85h\x01\x89C\x08AAAAAAAAtb0"
    made = b"\x80\x03" + fields + kind + state + b"0"
    vet_object(archive_of(made + use + b"N."), "here")
    with pytest.raises(UnsafePickleError, match="a field outside of it"):
        vet_object(archive_of(made + change + (use + back if is_seen_again else b"") + b"N."), "here")


def test_nothing_is_made_anew_that_others_may_look_at() -> None:
    kind = b"cnumpy\ndtype\n(X\x02\0\0\0V8\x89\x88tRq\x01"
    larger = b"h\x01(K\x03X\x01\0\0\0|NNNM\0\x10K\x01K\x10tb0"
    filled = b"(K\x01K\x01\x85h\x01\x89C\x08AAAAAAAAtb"
    empty = begun(RECONSTRUCT) + b"(cnumpy\nndarray\nK\x00\x85C\x01btR"
    made = b"\x80\x03" + kind + b"0"
    vet_object(archive_of(made + empty + filled + b"."), "here")
    for again in (empty + filled + larger + b".", empty + filled + filled + b"."):
        with pytest.raises(UnsafePickleError, match=r"changed after it was made|filled twice"):
            vet_object(archive_of(made + again), "here")


KINDS = [np.dtype(code) for code in "?bhilqBHILQefdgFDGO"] + [np.dtype(code) for code in ("S5", "U5", "V5", "M8[D]")]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_numpy_writes_is_let_through(protocol: int) -> None:
    values: list[Any] = [
        np.dtype([]),
        np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4], "titles": ["title"]}),
        np.full(100_000, 0x41414141, "i4"),
        np.random.get_state(),
        bytearray(b"A" * 100_000),
    ]
    for kind in KINDS:
        parts = np.dtype([("a", "i1"), ("b", kind, (2,))], align=True)
        values += [np.zeros(3, kind), np.zeros((), kind), np.zeros((2, 2), kind)[:, :1], np.zeros(2, parts)]
        values += [np.zeros(3, kind.newbyteorder(">")), np.zeros(2, parts)[0], np.zeros(2, kind)[0]]
    for value in values:
        vet_object(saved({"a": [value, value]}, protocol), "here")
