"""The list of names that pickles in a checkpoint may use, and a check of the arguments of each call.

The list has Python's containers and values, numpy's arrays, scalars and generators, and torch's tensors. Making one of
them runs no third-party code, and takes memory in proportion to the size of the pickle. Users add their own classes by
`safe_types`. Names are compared by module and qualified name. No module is imported for a name in a pickle.
"""

from __future__ import annotations

import _compat_pickle
import contextlib
import enum
import math
import pickle
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ..errors import OssUsageError
from . import numpy_calls
from .numpy_calls import Array
from .pickle_limits import Budget, Call, Counted, Filled, Made, Name, StandIn, Trusted
from .torch_dcp import safe_globals

_FRACTION = re.compile(r"-?\d+(/\d+)?")


class AllowList:
    """Allows the harmless names and those of `safe_types`: classes, functions, or pairs of one with its full name."""

    def __init__(self, safe_types: Iterable[Any] = ()) -> None:
        self._own = _by_name(safe_types)

    def __call__(self, name: Name) -> Any:
        """Return the `Call` that checks calls of this name, a constant, or None if the name is not allowed."""
        found = _HARMLESS.get(name)
        if found is not None:
            return found
        if name[0] == "torch":
            found = _of_torch(vars(torch).get(name[1]))  # `getattr` could import: torch has a `__getattr__`
        return found or _in(self._own, name) or _in(_named_to_torch(), name)


def written_names(module: str, name: str) -> Iterator[Name]:
    """Yield the names that pickles use for it: in protocol 3 and newer, then in protocols 0 to 2."""
    yield module, name
    old = _compat_pickle.REVERSE_NAME_MAPPING.get((module, name))
    yield old or (_compat_pickle.REVERSE_IMPORT_MAPPING.get(module, module), name)


def listed(names: Iterable[Name]) -> str:
    """Return names from a pickle as they are in Python code."""
    found = (_compat_pickle.NAME_MAPPING.get(name, name) for name in names)
    return ", ".join(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}" for module, name in found)


# names that the user allows


def _by_name(safe_types: Iterable[Any]) -> dict[Name, Any]:
    found: dict[Name, Any] = {}
    for safe in safe_types:
        value, names = (safe[0], _splits(safe[1])) if isinstance(safe, tuple) and len(safe) == 2 else (safe, [])
        names = names or _names_of(value)
        if not (callable(value) and names):
            raise OssUsageError(f"safe_types are classes and functions, or pairs of one and its name, not {safe!r}")
        for name in names:
            found.update(dict.fromkeys(written_names(*name), value))
    return found


def _named_to_torch() -> dict[Name, Any]:
    """Return the safe globals that the user gave to torch, except those without a name."""
    found: dict[Name, Any] = {}
    for safe in safe_globals():
        with contextlib.suppress(OssUsageError):
            found.update(_by_name([safe]))
    return found


def _names_of(value: Any) -> list[Name]:
    owner = getattr(value, "__self__", None)
    if isinstance(owner, type):  # a class method, which may be inherited
        return [(owner.__module__, f"{owner.__qualname__}.{value.__name__}")]
    name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return [(str(name[0]), str(name[1]))] if None not in name else []


def _splits(full_name: Any) -> list[Name]:
    """Return every split into module and qualified name, since the class may be nested in another."""
    parts = full_name.split(".") if isinstance(full_name, str) else []
    return [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(1, len(parts))]


def _in(own: dict[Name, Any], name: Name) -> Any:
    """Return the `Call` for a name that the user allows, or a class method, static method or member of such a class."""
    if name in own:
        return _trusted
    owner, _, attribute = name[1].rpartition(".")
    kind = own.get((name[0], owner))
    inner = vars(kind).get(attribute) if isinstance(kind, type) else None
    if isinstance(kind, enum.EnumMeta) and attribute in kind.__members__:
        return Filled()
    return _trusted if isinstance(inner, (classmethod, staticmethod)) else None


def _trusted(budget: Budget, *arguments: Any) -> Any:
    return Trusted()


# checks of the calls of harmless names


def _made(budget: Budget, *arguments: Any) -> Any:
    budget.count(*arguments)
    return Made()


def _filled(budget: Budget, *arguments: Any) -> Any:
    budget.count(*arguments)
    return Counted(budget)


def _empty(budget: Budget, *arguments: Any) -> Any:
    """Accept a call without arguments. `UserList` would expand a huge range to a list, and `UserString` to a text."""
    if arguments:
        raise pickle.UnpicklingError("arguments for a class that pickles make without any")
    return Counted(budget)


def _never_called(budget: Budget, *arguments: Any) -> Any:
    """Refuse to call a type that honest pickles only name, such as the factory of a defaultdict."""
    raise pickle.UnpicklingError("a call that no pickle of Python's makes")


def _container(budget: Budget, *arguments: Any) -> Any:
    for contents in arguments[:1]:
        budget.spend(contents)
    return Counted(budget)


def _octets(budget: Budget, *arguments: Any) -> Any:
    return _container(budget, *arguments) if arguments else b""


def _default_dict(budget: Budget, factory: Any = None, *contents: Any) -> Any:
    return _container(budget, *contents)


def _array(budget: Budget, code: str, contents: Any) -> Any:
    budget.spend(contents)
    return Made()


def _encoded(budget: Budget, text: str, encoding: str) -> bytes:
    """Return the bytes, which protocol 2 writes as Latin-1 text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    budget.spend(text)
    return text.encode("latin1")


def _fraction(budget: Budget, *arguments: Any) -> Any:
    """Accept integers and texts such as `1/3`. `Fraction` also accepts `1e999999999`, which would fill the memory."""
    if not all(isinstance(argument, int) or _FRACTION.fullmatch(argument) for argument in arguments):
        raise pickle.UnpicklingError("a fraction that is not written as one")
    budget.count(*arguments)
    return Made()


def _type(budget: Budget, value: Any) -> Any:
    """Accept `type(None)`, which pickles write as a call of `type`."""
    if value is not None:
        raise pickle.UnpicklingError("a type that is asked for by a value")
    return Made()


class _MemoryFile(Made):
    """Stand-in for a file in memory."""

    __slots__ = ("_budget",)

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        self._budget.count(state)
        contents, position = state[0], state[-2]
        if not isinstance(position, int) or position > len(contents):  # the next write would fill the gap
            raise pickle.UnpicklingError("a file in memory that goes on behind its end")


def _memory_file(budget: Budget) -> Any:
    return _MemoryFile(budget)


class _Tensor(Made):
    """Stand-in for a tensor, with the number of its elements, or None if its shape is not a tuple."""

    __slots__ = ("elements",)

    def __init__(self, elements: int | None) -> None:
        self.elements = elements


def _strided(budget: Budget, storage: Any, offset: Any, shape: Any, *others: Any) -> Any:
    """Accept a view of a storage: torch checks that the storage has enough bytes for the shape and strides."""
    budget.count(shape, *others)
    return _Tensor(math.prod(shape) if isinstance(shape, tuple) else None)


def _copied_tensor(budget: Budget, source: Any, *others: Any) -> Any:
    """Accept a tensor of a device without storages (XLA): torch copies it from a CPU tensor or an array."""
    if isinstance(source, Array):
        source.note_copy()
    elif isinstance(source, _Tensor) and source.elements is not None:  # a view may repeat few elements
        budget.copied_storage(source.elements)
    else:
        raise pickle.UnpicklingError("a tensor that is copied from something else")
    return Made()


def _tensor(budget: Budget, *arguments: Any) -> Any:
    """Accept a tensor made of other tensors or of lists of numbers; torch expands nested lists."""
    budget.count(*arguments)
    budget.count_nested(*arguments)
    return Made()


def _typed_tensor(budget: Budget, rebuild: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Accept a tensor with attributes or of a subclass, if `rebuild`, the function that makes it, is a known one."""
    call = rebuild.call if isinstance(rebuild, type) and issubclass(rebuild, StandIn) else None
    if call not in (_tensor, _strided, _copied_tensor, _trusted):
        raise pickle.UnpicklingError("a tensor that is made by something else")
    budget.count(state)
    return call(budget, *arguments)


def _of_torch(value: Any) -> Any:
    """Return a dtype or quantisation scheme. Storage and tensor classes may be named but not called."""
    if isinstance(value, (torch.dtype, torch.qscheme)):
        return value
    is_class = isinstance(value, type) and (value in torch._storage_classes or value in torch._tensor_classes)
    return _never_called if is_class or value is torch.Tensor else None


_NAMES: dict[Call, dict[str, str]] = {
    _made: {
        "builtins": "complex range slice",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "array": "_array_reconstructor",
        "ipaddress": "IPv4Address IPv6Address IPv4Network IPv6Network IPv4Interface IPv6Interface",
        "pathlib": "PosixPath PurePath PurePosixPath WindowsPath PureWindowsPath",
        "pathlib._local": "PosixPath PurePath PurePosixPath WindowsPath PureWindowsPath",
        "time": "struct_time",
        "torch": "device",
        "torch.serialization": "_get_layout",
        "zoneinfo": "ZoneInfo._unpickle",
    },
    _filled: {"numpy.random.bit_generator": "__pyx_unpickle_SeedSequence", "torch._C": "Generator"},
    _empty: {
        "argparse": "Namespace",
        "collections": "ChainMap UserDict UserList UserString",
        "random": "Random",
        "types": "SimpleNamespace",
        "uuid": "UUID",
    },
    # factories of defaultdicts, and constants
    _never_called: {
        "builtins": "bool dict float int list object str tuple Ellipsis NotImplemented",
        "numpy": "ndarray matrix record bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 "
        "float64 longdouble complex64 complex128 str_ bytes_ datetime64 timedelta64",
        "numpy.rec": "recarray",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.random.bit_generator": "SeedSequence",
        "torch.storage": "UntypedStorage TypedStorage",
        "zoneinfo": "ZoneInfo",
    },
    _container: {
        "builtins": "bytearray frozenset set",
        "collections": "Counter OrderedDict deque",
        "torch": "Size",
    },
    _array: {"array": "array"},
    _memory_file: {"_io": "BytesIO StringIO", "io": "BytesIO StringIO"},
    _default_dict: {"collections": "defaultdict"},
    _encoded: {"_codecs": "encode"},
    _fraction: {"fractions": "Fraction"},
    _strided: {"torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3"},
    _copied_tensor: {
        "torch._utils": "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor",
    },
    _tensor: {
        "torch._utils": "_rebuild_qtensor _rebuild_parameter _rebuild_parameter_with_state _rebuild_sparse_tensor "
        "_rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_wrapper_subclass",
    },
    _octets: {"builtins": "bytes"},
    _type: {"builtins": "type"},
    _typed_tensor: {"torch._tensor": "_rebuild_from_type_v2"},
    numpy_calls.dtype: {"numpy": "dtype"},
    numpy_calls.new_array: {"numpy.core.multiarray": "_reconstruct", "numpy._core.multiarray": "_reconstruct"},
    numpy_calls.array_of_buffer: {"numpy.core.numeric": "_frombuffer", "numpy._core.numeric": "_frombuffer"},
    numpy_calls.scalar: {"numpy.core.multiarray": "scalar", "numpy._core.multiarray": "scalar"},
    numpy_calls.bit_generator: {"numpy.random._pickle": "__bit_generator_ctor"},
    numpy_calls.generator: {"numpy.random._pickle": "__generator_ctor __randomstate_ctor"},
}
_HARMLESS: dict[Name, Call] = {
    written: call
    for call, modules in _NAMES.items()
    for module, names in modules.items()
    for name in names.split()
    for written in written_names(module, name)
}

HARMLESS = AllowList()
