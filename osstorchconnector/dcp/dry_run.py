"""What a pickle would call, seen before it is loaded: nothing that it names is looked up, nothing is called.

C's unpickler runs the pickle with stand-ins for all that it names. Each stand-in knows how honest pickles use what it
stands for, and refuses the rest: forty bytes of a pickle can ask for a list of all numbers up to 10¹⁰, or for a
fraction with as many digits, and name nothing but Python's own types. Pure.
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from .opcodes import check_opcodes

_CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, bytearray)

Name = tuple[str, str]  # the module, and the name in it, as they stand in a pickle


# Calls and states may copy what they are given. A pickle of a few bytes can give the same object to many of them.
# Honest pickles do so with short texts (the parts of paths), and copy a text two or three times until it is an array.
_FREE_BYTES, _COPIES = 1024, 4


class Budget:
    """How much the containers that a pickle makes of others may hold together: four times as much as it has bytes.

    `copied_storage` allows one copy of each of the tensors' storages.
    """

    def __init__(self, pickle_bytes: int) -> None:
        self._left, self._left_of_storages = _COPIES * pickle_bytes, 0
        self._storages: set[Any] = set()
        self._checks: list[Callable[[], object]] = []

    def spend(self, contents: Any) -> None:
        if not isinstance(contents, _CONTAINERS):
            raise pickle.UnpicklingError(f"a container made of a {type(contents).__name__}")
        self.count_bytes(len(contents))

    def count(self, *values: Any) -> None:
        """Count what a call copies of its arguments, or an object of its state."""
        for value in values:
            if isinstance(value, tuple):
                self.count_bytes(len(value) + sum(map(_counted, value)))
            else:
                self.count_bytes(_counted(value))

    def count_nested(self, *values: Any) -> None:
        """Count what a call copies with all that is nested in it, each list as often as it occurs."""
        waiting = [iter(values)]
        while waiting:
            for value in waiting[-1]:
                if isinstance(value, (list, tuple)):
                    self.count_bytes(len(value) + 1)
                    waiting.append(iter(value))
                    break
            else:
                waiting.pop()

    def count_bytes(self, count: int) -> None:
        """Count bytes that are copied."""
        self._left -= count
        if self._left < 0:
            raise pickle.UnpicklingError("containers out of all proportion to the pickle")

    def note_storage(self, key: Any, elements: int) -> None:
        """Take note of a tensor's storage, which torch holds against the archive."""
        if key not in self._storages:
            self._storages.add(key)
            self._left_of_storages += elements

    def copied_storage(self, elements: int) -> None:
        """Count elements of tensors that a call copies."""
        self._left_of_storages -= elements
        if self._left_of_storages < 0:
            raise pickle.UnpicklingError("tensors out of all proportion to their storages")

    def check_at_end(self, check: Callable[[], object]) -> None:
        """Have `check` called when all of the pickle was run."""
        self._checks.append(check)

    def end(self) -> None:
        for check in self._checks:
            check()

    def bounded(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return `make`, of which the first argument is a container that counts."""

        def call(*arguments: Any) -> Any:
            for contents in arguments[:1]:
                self.spend(contents)
            return make(*arguments)

        return call


def _counted(value: Any) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return max(len(value) - _FREE_BYTES, 0)
    if isinstance(value, int):
        return max(value.bit_length() // 8 - _FREE_BYTES, 0)
    return len(value) if isinstance(value, _CONTAINERS) else 0


class Made:
    """Stands for what a call makes, where nothing more may be done to it.

    The opcode that gives an object its state calls `__setstate__`. Without one it would set attributes: of an
    instance, and of a class just as well. With it, a class is refused for want of an argument.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state for something that has none")

    def __call__(self, *arguments: Any) -> Any:
        raise pickle.UnpicklingError("a call of something that has no name")


class Filled(Made):
    """Stands for what a call makes, where the pickle may fill it with state and items."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Take any state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take any item."""

    def append(self, item: Any) -> None:
        """Take any item."""

    def extend(self, items: Any) -> None:
        """Take any items."""

    def add(self, item: Any) -> None:
        """Take any item."""


class Counted(Filled):
    """Stands for what a call makes, and counts the state that it is filled with."""

    __slots__ = ("_budget",)

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        self._budget.count(state)


class Kept(Filled):
    """Stands for what a call makes, and keeps the state that the pickle gives it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *arguments: Any) -> Any:
        return Kept()


class Trusted(Filled):
    """Stands for what the user's own classes and functions make: whatever is done to it is their business."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        return Trusted()


class StandIn(Filled):
    """Stands for something that a pickle names; a class, as some opcodes take nothing else for one."""

    __slots__ = ()
    name: ClassVar[Name]
    call: ClassVar[Callable[..., Any]]


Call = Callable[..., Any]  # takes the budget and the arguments, returns what stands for the result
Allowed = Callable[[Name], Any]  # returns a `Call`, or a constant, or None for what is not allowed


class DryRun(pickle.Unpickler):
    """Runs a pickle with stand-ins for what `allowed` knows, and for the rest such as do nothing.

    No stand-in holds the run itself: it holds all that was made, and would be garbage that is collected late.
    """

    def __init__(self, data: bytes, allowed: Allowed) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")  # as torch reads it
        self._data, self._budget, self._allowed = data, Budget(len(data)), allowed
        self._found: dict[Name, Any] = {}
        self._unknown: dict[Name, None] = {}
        self._owners: set[Name] = set()  # of what is inside them
        self._called: set[Name] = set()

    def load(self) -> Any:
        """Raise `pickle.UnpicklingError`, or another of Python's errors, if loading would take too much memory."""
        check_opcodes(self._data)
        loaded = super().load()
        self._budget.end()
        return loaded

    def refused(self) -> list[Name]:
        """Return the names, so far, that are not allowed: classes that only contain what is allowed are."""
        return [name for name in self._unknown if name in self._called or name not in self._owners]

    def find_class(self, module: str, name: str) -> Any:
        found = self._found.get((module, name))
        if found is None:
            found = self._found[module, name] = self._stand_in((module, name))
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Stand for the bytes of a tensor, which torch holds against the archive."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise pickle.UnpicklingError(f"something outside the pickle that is no storage: {pid!r}")
        _, _, key, _, elements = pid
        if type(elements) is not int or elements < 0:
            raise pickle.UnpicklingError(f"a storage of {elements!r} elements")
        self._budget.note_storage(key, elements)
        return Made()

    def _stand_in(self, name: Name) -> Any:
        found = self._allowed(name)
        if found is None and name in (("builtins", "getattr"), ("__builtin__", "getattr")):
            run = weakref.proxy(self)
            return self._class(name, lambda budget, *arguments: run._attribute(*arguments))
        if found is None:
            self._unknown[name] = None
            return self._class(name, partial(_noted, self._called, name))
        return self._class(name, found) if callable(found) else found

    def _class(self, name: Name, call: Call) -> Any:
        budget = self._budget

        def new(kind: type, *arguments: Any) -> Any:
            return call(budget, *arguments)

        return type("StandIn", (StandIn,), {"__slots__": (), "__new__": new, "name": name, "call": staticmethod(call)})

    def _attribute(self, owner: Any, attribute: Any) -> Any:
        """Stand for what is inside a class: older protocols name it so. The class itself is not called by that."""
        if not (isinstance(owner, type) and issubclass(owner, StandIn) and isinstance(attribute, str)):
            raise pickle.UnpicklingError(f"an attribute {attribute!r} of a {type(owner).__name__}")
        module, name = owner.name
        self._owners.add(owner.name)
        return self.find_class(module, f"{name}.{attribute}")


def _noted(called: set[Name], name: Name, budget: Budget, *arguments: Any) -> Filled:
    called.add(name)
    return Filled()
