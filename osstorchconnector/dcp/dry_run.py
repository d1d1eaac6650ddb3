"""A dry run of a pickle before it is loaded: it imports nothing and calls nothing that the pickle names.

C's unpickler runs the pickle with a stand-in for each name. A stand-in refuses calls and states that honest pickles do
not have: forty bytes can ask for a list of all numbers up to 10¹⁰, by names of Python's own types only. Pure.
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from .pickle_limits import check_opcodes

_CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, bytearray)

Name = tuple[str, str]  # the module, and the name in it, as they stand in a pickle


# A call may copy its arguments, and a short pickle can pass one large object to many calls. Honest pickles share only
# short texts between calls (parts of paths), and copy one text up to three times (text, bytes, array).
_FREE_BYTES, _COPIES = 1024, 4


class Budget:
    """Limits how much the calls of a pickle copy: four times its own bytes, and each tensor storage once."""

    def __init__(self, pickle_bytes: int) -> None:
        self._left, self._left_of_storages = _COPIES * pickle_bytes, 0
        self._storages: set[Any] = set()
        self._checks: list[Callable[[], object]] = []

    def spend(self, contents: Any) -> None:
        if not isinstance(contents, _CONTAINERS):
            raise pickle.UnpicklingError(f"a container made of a {type(contents).__name__}")
        self.count_bytes(len(contents))

    def count(self, *values: Any) -> None:
        """Count values that a call, or an object that gets its state, may copy."""
        for value in values:
            if isinstance(value, tuple):
                self.count_bytes(len(value) + sum(map(_counted, value)))
            else:
                self.count_bytes(_counted(value))

    def count_nested(self, *values: Any) -> None:
        """Count values that a call copies deeply: a list that occurs twice is counted twice."""
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
        """Allow one copy of a storage; torch checks that the archive has this number of elements."""
        if key not in self._storages:
            self._storages.add(key)
            self._left_of_storages += elements

    def copied_storage(self, elements: int) -> None:
        """Count elements of tensors that a call copies."""
        self._left_of_storages -= elements
        if self._left_of_storages < 0:
            raise pickle.UnpicklingError("tensors out of all proportion to their storages")

    def check_at_end(self, check: Callable[[], object]) -> None:
        """Call `check` when the whole pickle has been run."""
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
    """Stands for the result of a call, where a pickle must not do anything more to it.

    The opcode that gives an object its state calls `__setstate__`. Without one it would set attributes: of an
    instance, and of a class just as well. With it, a class is refused for want of an argument.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state for something that has none")

    def __call__(self, *arguments: Any) -> Any:
        raise pickle.UnpicklingError("a call of something that has no name")


class Filled(Made):
    """Stands for the result of a call that the pickle may give a state and items."""

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
    """Stands for the result of a call, and counts the state that the pickle gives it."""

    __slots__ = ("_budget",)

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        self._budget.count(state)


class Kept(Filled):
    """Stands for the result of a call, and keeps the state that the pickle gives it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *arguments: Any) -> Any:
        return Kept()


class Trusted(Filled):
    """Stands for the result of a class or function that the user trusts; nothing is refused."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        return Trusted()


class StandIn(Filled):
    """Stands for a name in the pickle. It is a class since some opcodes take only classes."""

    __slots__ = ()
    name: ClassVar[Name]
    call: ClassVar[Callable[..., Any]]


Call = Callable[..., Any]  # takes the budget and the arguments, returns what stands for the result
Allowed = Callable[[Name], Any]  # returns a `Call`, or a constant, or None for what is not allowed


class DryRun(pickle.Unpickler):
    """Runs a pickle with stand-ins: those of `allowed`, and for other names stand-ins that do nothing.

    No stand-in refers to the run, so reference counting frees all of its objects at once.
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
        """Return the names seen so far that are not allowed. A class may lead to an allowed inner one."""
        return [name for name in self._unknown if name in self._called or name not in self._owners]

    def find_class(self, module: str, name: str) -> Any:
        found = self._found.get((module, name))
        if found is None:
            found = self._found[module, name] = self._stand_in((module, name))
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Return a stand-in for a tensor's storage."""
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
        """Return a stand-in for an attribute of a class: older protocols write nested classes so."""
        if not (isinstance(owner, type) and issubclass(owner, StandIn) and isinstance(attribute, str)):
            raise pickle.UnpicklingError(f"an attribute {attribute!r} of a {type(owner).__name__}")
        module, name = owner.name
        self._owners.add(owner.name)
        return self.find_class(module, f"{name}.{attribute}")


def _noted(called: set[Name], name: Name, budget: Budget, *arguments: Any) -> Filled:
    called.add(name)
    return Filled()
