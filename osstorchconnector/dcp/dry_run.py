"""What a pickle would call, seen before it is loaded: nothing that it names is looked up, nothing is called.

Forty bytes of a pickle can ask for a list of all numbers up to 10¹⁰, or for a fraction with as many digits, and name
nothing but Python's own types. No honest pickle makes such calls. Pure.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

from .opcodes import check_opcodes

_CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, bytearray)
_FRACTION = re.compile(r"-?\d+(/\d+)?")


class Budget:
    """How much the containers that a pickle makes of others may hold together: no more than it has bytes."""

    def __init__(self, most: int) -> None:
        self._left = most

    def spend(self, contents: Any) -> None:
        if not isinstance(contents, _CONTAINERS):
            raise pickle.UnpicklingError(f"a container made of a {type(contents).__name__}")
        self._left -= len(contents)
        if self._left < 0:
            raise pickle.UnpicklingError("containers out of all proportion to the pickle")

    def bounded(self, make: Callable[..., Any], most_arguments: int = 1) -> Callable[..., Any]:
        """Return `make`, of whose arguments the first so many are containers that count."""

        def call(*arguments: Any) -> Any:
            for contents in arguments[:most_arguments]:
                self.spend(contents)
            return make(*arguments)

        return call


class _Anything:
    """Stands for whatever a pickle makes, and takes whatever is done to it; no container can be made of it."""

    def __init__(self, *arguments: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        """Take any state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take any item."""

    def append(self, item: Any) -> None:
        """Take any item."""


def check_calls(data: bytes) -> None:
    """Raise `pickle.UnpicklingError`, or another of Python's errors, if loading `data` would take too much memory."""
    check_opcodes(data)
    _DryRun(data).load()


class _DryRun(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        budget = Budget(len(data))
        container = budget.bounded(_Anything)
        self._known: dict[str, Any] = {
            **dict.fromkeys(("set", "frozenset", "bytes", "bytearray", "Counter", "deque", "Size"), container),
            "OrderedDict": budget.bounded(_Anything),
            "defaultdict": lambda factory=None, *contents: container(*contents),
            "encode": budget.bounded(str.encode),  # bytes, as protocol 2 has them
            "Fraction": _fraction,
            # by the names of Python 2, too: so they stand in pickles of protocol 2
            **dict.fromkeys(("int", "long", "float", "bool", "str", "unicode", "list", "tuple", "dict"), _never_called),
        }

    def find_class(self, module: str, name: str) -> Any:
        return self._known.get(name, _Anything)

    def persistent_load(self, pid: Any) -> Any:
        return _Anything()


def _fraction(*arguments: Any) -> _Anything:
    """Take what fractions are pickled as: `1e999999999` would be another matter."""
    if not all(isinstance(argument, int) or _FRACTION.fullmatch(argument) for argument in arguments):
        raise pickle.UnpicklingError("a fraction that is not written as one")
    return _Anything()


def _never_called(*arguments: Any) -> Any:
    """Stand for a type that a pickle only names, such as a defaultdict's."""
    raise pickle.UnpicklingError("a call that no pickle of Python's makes")
