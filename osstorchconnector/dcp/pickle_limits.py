"""What a pickle may be, seen before anything in it is believed: nothing that it names is imported or called.

1. `check_opcodes` reads the opcodes. An unpickler keeps a table of the objects that the pickle numbers, as long as the
   highest number that occurs: seven bytes can ask for 34 GB. No honest pickle numbers more objects than it has bytes.
   Frames say how much to read at a time. C's unpickler trusts them: after a frame within a frame it goes on at other
   bytes than a reader of single opcodes, so frames have to be as Python writes them.
2. `DryRun` runs the pickle in C's unpickler with a stand-in for each name. A stand-in refuses calls and states that
   honest pickles do not have: forty bytes can ask for a list of all numbers up to 10¹⁰, by names of Python's own types
   only. A `Budget` limits how much all calls together may copy.
"""

from __future__ import annotations

import functools
import io
import pickle
import pickletools
import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

_FIXED_BYTES = {"uint1": 1, "uint2": 2, "int4": 4, "uint4": 4, "uint8": 8, "float8": 8}
_COUNT_BYTES = {
    name: int(name[-1]) for name in ("string1", "string4", "bytes1", "bytes4", "bytes8", "bytearray8", "long1", "long4")
} | {"unicodestring1": 1, "unicodestring4": 4, "unicodestring8": 8}
_PROTO, _LONG_BINPUT, _PUT, _STOP, _FRAME = b"\x80", b"r"[0], b"p"[0], b"."[0], b"\x95"[0]
# C's unpickler resolves these through the extension registry without calling `find_class`.
_EXTENSIONS = frozenset(b"\x82\x83\x84")
_LEAST_BITS = 16
_SMALL_COUNTS, _SHORT_BYTES = 256, 64 << 10

_COUNTED = {
    opcode.code.encode("latin-1")[0]: _COUNT_BYTES[opcode.arg.name]
    for opcode in pickletools.opcodes
    if opcode.arg is not None and opcode.arg.name in _COUNT_BYTES
}


def check_opcodes(data: bytes) -> None:
    """Raise `pickle.UnpicklingError` unless `data` is a whole pickle whose numbers of objects are in proportion.

    That is below twice its bytes, or below 65,536.
    """
    position, size = 0, len(data)
    plain = _plain(min(max(size.bit_length(), _LEAST_BITS), 32), _usual_count_bytes(data))
    stop, is_framed = size, False
    while True:
        run = plain.match(data, position, stop)
        assert run is not None  # it matches nothing, too
        begin, position = position, run.end()
        if is_framed and position == stop:
            stop, is_framed = size, False
            continue
        code = data[position] if position < stop else -1
        if code == _STOP:
            return
        if code == _FRAME and not is_framed:
            position += 9
            stop, is_framed = position + int.from_bytes(data[position - 8 : position], "little"), True
            if stop > size:
                raise pickle.UnpicklingError("a pickle that is cut short")
        elif code in _COUNTED:
            start = position + 1 + _COUNTED[code]
            position = start + int.from_bytes(data[position + 1 : start], "little")
        elif code == _PUT:
            end = data.find(b"\n", position, position + 20)
            line = data[position + 1 : end] if end >= 0 else b""
            if not line.isdigit() or int(line) > size:
                raise pickle.UnpicklingError(f"a pickle of {size} bytes that numbers an object {line!r}")
            position = end + 1
        elif position == begin:
            what = "with far higher numbers for its objects" if code == _LONG_BINPUT else "that is not whole"
            raise pickle.UnpicklingError(f"a pickle of {size} bytes {what}")
        if position > stop:
            raise pickle.UnpicklingError("a pickle that is cut short")


def _usual_count_bytes(data: bytes) -> int:
    """Return how wide the counts of most texts are: 1 byte from protocol 4 on, 4 before; 0 for a short pickle.

    A short pickle is checked sooner than a pattern with all small counts is compiled.
    """
    if len(data) < _SHORT_BYTES:
        return 0
    return 1 if data[:1] == _PROTO and data[1:2] >= b"\x04" else 4


@functools.cache
def _plain(bits: int, count_bytes: int) -> re.Pattern[bytes]:
    """Return a pattern of a row of opcodes whose ends `re` finds itself, with object numbers of at most `bits` bits.

    Texts are among them if their counts have `count_bytes` bytes, none if that is 0. At most a thousand opcodes: `re`
    takes memory for each.
    """
    texts = [_short_text(count_bytes)] if count_bytes else []
    opcodes = (*_fixed_opcodes(), *texts, _numbering(bits))
    return re.compile(b"(?s:" + b"|".join(opcodes) + b"){0,1000}")


def _fixed_opcodes() -> Iterator[bytes]:
    """Yield patterns of opcodes without a count, the usual ones first.

    Opcodes of one length are one pattern: trying one after the other takes three times as long. Those that are all
    there is of themselves come in rows.
    """
    by_length: dict[int, bytes] = defaultdict(bytes)
    lines = []
    for opcode in pickletools.opcodes:
        code, argument = opcode.code.encode("latin-1"), opcode.arg
        if code[0] in (_LONG_BINPUT, _PUT, _STOP, _FRAME) or code[0] in _EXTENSIONS or code[0] in _COUNTED:
            continue
        if argument is None or argument.name in _FIXED_BYTES:
            by_length[_FIXED_BYTES[argument.name] if argument is not None else 0] += re.escape(code)
        else:  # text up to the end of a line, or of two
            lines.append(re.escape(code) + b"[^\\n]*\\n" * (2 if argument.name.endswith("_pair") else 1))
    rows = b"[%s]+" % by_length.pop(0)
    smallest, *others = (b"[%s].{%d}" % (codes, length) for length, codes in sorted(by_length.items()))
    yield from (smallest, rows, *others, *lines)


def _short_text(count_bytes: int) -> bytes:
    """Return a pattern of opcodes with a small count in one byte or four.

    There is one alternative for each count. That takes a fifth of the time of a step in Python for each text.
    """
    codes = b"".join(re.escape(bytes([code])) for code, width in _COUNTED.items() if width == count_bytes)
    counts = [re.escape(count.to_bytes(count_bytes, "little")) + b".{%d}" % count for count in range(_SMALL_COUNTS)]
    return b"[%s](?:%s)" % (codes, b"|".join(counts))


def _numbering(bits: int) -> bytes:
    """Return a pattern of the opcode that numbers an object, with a number of at most `bits` bits."""
    free_bytes, rest = divmod(bits, 8)
    highest = b"[\\x00-\\x%02x]" % ((1 << rest) - 1) if free_bytes < 4 else b""
    return b"r.{%d}" % free_bytes + highest + b"\\x00" * (3 - free_bytes)


Name = tuple[str, str]  # the module, and the name in it, as they stand in a pickle


_CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, bytearray)
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
