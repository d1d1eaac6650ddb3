"""Checks of calls that make numpy's dtypes, arrays and generators of random numbers.

numpy does not check the states that a pickle gives to these. A dtype with a field behind its own end, or with raw bytes
in the place of object pointers, makes numpy read and write memory outside the array. Stand-ins check the states.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

from .pickle_limits import Budget, Filled, Made, StandIn

_CODE = re.compile(r"([?A-Za-z])(\d{1,9})")
_STATE_FIELDS = 8
# numpy's flags of dtypes: of those with objects, and those that others must not have.
_OBJECT_FLAGS, _POINTER_FLAGS = 0b11011, 0b111
_MT19937_WORDS, _PHILOX_WORDS = 624, 4


class Dtype(Made):
    """Stands for a dtype of this size.

    A pickle can change the dict of its fields later, so the dtype is checked wherever it is used, and at the end.
    """

    __slots__ = ("_is_used", "_kind", "_size", "_state")

    def __init__(self, kind: str, size: int) -> None:
        self._kind, self._size, self._is_used = kind, size, False
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        if self._state is not None or self._is_used:
            raise pickle.UnpicklingError("a dtype that is changed after it was made")
        self._state = state[:_STATE_FIELDS]
        self.layout()

    def layout(self, known: dict[int, tuple[int, bool]] | None = None) -> tuple[int, bool]:
        """Return the size of an element in bytes, and whether it has objects; refuse what numpy would not make."""
        self._is_used = True
        known = {} if known is None else known
        if id(self) not in known:
            known[id(self)] = self._checked(known)
        return known[id(self)]

    def has_parts(self) -> bool:
        """Say whether an element is made of several."""
        return self._kind == "V"

    def _checked(self, known: dict[int, tuple[int, bool]]) -> tuple[int, bool]:
        has_objects = self._kind == "O"
        if self._state is None:
            return self._size, has_objects
        _, _, subarray, names, fields, size, _, flags = self._state
        if self._kind not in "USV":
            size = self._size
        parts = [(base, 0, math.prod(shape)) for base, shape in [subarray or (None, ())] if base is not None]
        parts += [(field[0], field[1], 1) for field in (fields or {}).values()]
        for dtype, offset, count in parts:
            field_size, field_has_objects = dtype.layout(known)
            if min(offset, count) < 0 or offset + count * field_size > size:
                raise pickle.UnpicklingError("a dtype with a field outside of it")
            has_objects |= field_has_objects
        is_flagged = flags & _OBJECT_FLAGS == _OBJECT_FLAGS if has_objects else not flags & _POINTER_FLAGS
        if size < 0 or not is_flagged or not (fields or {}).keys() >= set(names or ()):
            raise pickle.UnpicklingError("a dtype that contradicts itself")
        return size, has_objects


class Array(Made):
    """Stands for an array, which numpy fills once: to fill it again would free memory that others may look at."""

    __slots__ = ("_budget", "_octets")

    def __init__(self, budget: Budget, octets: int | None = None) -> None:
        self._budget, self._octets = budget, octets

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, contents = state
        _, has_objects = _layout(kind)
        if self._octets is not None:
            raise pickle.UnpicklingError("an array that is filled twice")
        # numpy makes room for as many objects as the shape says.
        if has_objects and not (isinstance(contents, list) and len(contents) == math.prod(shape)):
            raise pickle.UnpicklingError(f"an array of shape {shape!r} whose objects are not as many")
        if not has_objects and not isinstance(contents, bytes):
            raise pickle.UnpicklingError(f"an array made of a {type(contents).__name__}")
        if kind.has_parts():  # numpy makes arrays of lists for its fields
            self._budget.count_nested(contents)
        self._octets = len(contents)
        self.note_copy()

    def note_copy(self) -> None:
        """Count the array's bytes, which are copied."""
        if self._octets is None:
            raise pickle.UnpicklingError("an array that is not filled")
        self._budget.count_bytes(self._octets)


class Bits(Filled):
    """Stands for a source of random bits or a generator. numpy reads at the position in its state without a check."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        outer = state[0] if isinstance(state, tuple) and isinstance(state[0], dict) else state
        if isinstance(outer, tuple):  # as older ones have it
            outer = {"pos": outer[2]}
        inner = outer.get("state") if outer is not None else None
        for found in (outer, inner):
            if isinstance(found, dict):
                _check_position(found.get("pos", 0), _MT19937_WORDS)
                _check_position(found.get("buffer_pos", 0), _PHILOX_WORDS)


def _check_position(position: Any, most: int) -> None:
    if type(position) is not int or not 0 <= position <= most:
        raise pickle.UnpicklingError(f"a generator of random numbers at position {position!r}")


def _layout(dtype: Any) -> tuple[int, bool]:
    if not isinstance(dtype, Dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    return dtype.layout()


# the calls


def dtype(budget: Budget, code: Any, align: Any, copy: Any) -> Any:
    if align or not copy:  # numpy pickles no other, and to change one that is not a copy changes it for all
        raise pickle.UnpicklingError("a dtype that is no copy")
    if isinstance(code, type) and issubclass(code, StandIn) and code.name == ("numpy", "record"):
        code = "V0"
    named = _CODE.fullmatch(code) if isinstance(code, str) else None
    if named is None:
        raise pickle.UnpicklingError(f"a dtype by the name of {code!r}")
    made = Dtype(named[1], int(named[2]) * (4 if named[1] == "U" else 1))
    budget.check_at_end(made.layout)
    return made


def new_array(budget: Budget, kind: Any, shape: Any, code: Any) -> Any:
    if math.prod(shape):  # numpy begins with nothing
        raise pickle.UnpicklingError(f"an array of shape {shape!r} that is not filled")
    return Array(budget)


def array_of_buffer(budget: Budget, buffer: Any, kind: Any, shape: Any, order: Any) -> Any:
    """Accept an array over bytes, as protocol 5 writes it."""
    if _layout(kind)[1] or not isinstance(buffer, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array over something else than bytes")
    return Array(budget, len(buffer))


def scalar(budget: Budget, kind: Any, contents: Any) -> Any:
    _layout(kind)
    budget.count(contents)
    return Made()


def bit_generator(budget: Budget, kind: Any) -> Any:
    return Bits()


def generator(budget: Budget, kind: Any, make: Any = None) -> Any:
    """Accept a generator. Older numpy versions also pass the function that makes its source of bits."""
    if make is not None and getattr(make, "call", None) is not bit_generator:
        raise pickle.UnpicklingError("a generator of numbers that calls something else")
    return Bits()
