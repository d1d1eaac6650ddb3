"""What may stand in an object of a checkpoint, by its full name; and what an error says of the rest."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import pathlib
import pickle
import sys
import time
import zoneinfo
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.dcp import OssDCPFileSystem, UnsafePickleError
from osstorchconnector.dcp.allowed import AllowList
from osstorchconnector.dcp.decoding import object_pickle, vet_object
from osstorchconnector.dcp.pickle_limits import check_opcodes
from osstorchconnector.errors import OssUsageError
from osstorchconnector.testing import OssBucket

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def saved(value: object, protocol: int = 2) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol)
    return file


class Counter:
    """Called as one of Python's classes is."""


class Size:
    """Called as one of torch's."""


class deque:  # noqa: N801
    """Called as another of Python's, which is filled."""


class Fraction:
    """Called as one whose arguments are looked at."""

    def __init__(self, steps: str = "1e9") -> None:
        self.steps = steps

    def __reduce__(self) -> Any:
        return Fraction, (self.steps,)


class Trainer:
    class Mode(enum.Enum):
        TRAIN = 1

    class Flags(enum.IntFlag):
        FAST = 1

    class Inner:
        class Deepest:
            """Two classes deep."""


class ByName(enum.Enum):
    ONE = 1
    __reduce_ex__ = enum.pickle_by_enum_name if sys.version_info >= (3, 12) else enum.Enum.__reduce_ex__


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 0.5


@dataclasses.dataclass(frozen=True, **({"slots": True} if sys.version_info >= (3, 11) else {}))
class Slotted:
    rate: float = 0.5


class Point(NamedTuple):
    x: int
    y: int


class Dict(dict[Any, Any]):
    pass


class List(list[Any]):
    pass


class ByClassMethod:
    @classmethod
    def made(cls, value: int) -> ByClassMethod:
        return cls()

    def __reduce__(self) -> Any:
        return self.made, (5,)


class ByStaticMethod:
    @staticmethod
    def made(value: int) -> ByStaticMethod:
        return ByStaticMethod()

    def __reduce__(self) -> Any:
        return ByStaticMethod.made, (5,)


class Inheriting(ByClassMethod):
    """Is made by a class method of another class, which may do more than that one's author knows."""


def made_by_a_function(value: int) -> Settings:
    return Settings(value)


class ByFunction:
    def __reduce__(self) -> Any:
        return made_by_a_function, (5,)


OWN = [
    (Counter(), [Counter]),
    (Size(), [Size]),
    (deque(), [deque]),
    (Fraction(), [Fraction]),
    (Trainer.Mode.TRAIN, [Trainer.Mode]),
    (Trainer.Flags.FAST, [Trainer.Flags]),
    (Trainer.Inner.Deepest(), [Trainer.Inner.Deepest]),
    (ByName.ONE, [ByName]),
    (Settings(), [Settings]),
    (Slotted(), [Slotted]),
    (Point(1, 2), [Point]),
    (Dict(a=1), [Dict]),
    (List([1]), [List]),
    (ByClassMethod(), [ByClassMethod]),
    (ByClassMethod(), [ByClassMethod.made]),
    (ByStaticMethod(), [ByStaticMethod]),
    (Inheriting(), [Inheriting.made]),
    (Inheriting(), [(Inheriting.made, f"{__name__}.Inheriting.made")]),
    (ByFunction(), [made_by_a_function]),
    (ValueError("text"), [ValueError]),
    (Settings(), [(Settings, f"{__name__}.Settings")]),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("value", "safe_types"), OWN, ids=lambda value: type(value).__name__)
def test_the_users_own_are_refused_until_they_are_allowed(value: Any, safe_types: list[Any], protocol: int) -> None:
    with pytest.raises(UnsafePickleError, match="^here: .*safe_types.*weights_only=False"):
        vet_object(saved([value], protocol), "here")
    vet_object(saved([value], protocol), "here", AllowList(safe_types))


def test_who_allows_a_class_does_not_allow_its_namesake_elsewhere() -> None:
    with pytest.raises(UnsafePickleError, match=rf"names {__name__}\.Counter\."):
        vet_object(saved(Counter()), "here", AllowList([collections.Counter, Size, deque]))


def test_an_inherited_class_method_is_not_allowed_with_the_class() -> None:
    with pytest.raises(UnsafePickleError, match=r"Inheriting\.made"):
        vet_object(saved(Inheriting()), "here", AllowList([Inheriting]))


def test_all_that_is_refused_is_named_at_once_with_its_module() -> None:
    value = {"mode": Trainer.Mode.TRAIN, "settings": [Settings()], "counter": (Counter(),)}
    with pytest.raises(UnsafePickleError) as caught:
        vet_object(saved(value), "here")
    text = str(caught.value)
    assert f"{__name__}.Trainer.Mode, {__name__}.Settings, {__name__}.Counter" in text
    assert "safe_types=[Trainer.Mode, Settings, Counter]" in text
    vet_object(saved(value), "here", AllowList([Trainer.Mode, Settings, Counter]))


@pytest.mark.parametrize("safe_types", [["Settings"], [5], [("Settings", "x")], [Settings()]])
def test_what_can_not_be_allowed_is_said_to_the_user(safe_types: list[Any]) -> None:
    with pytest.raises(OssUsageError, match="safe_types are classes and functions"):
        AllowList(safe_types)


def test_what_torch_was_told_is_safe_is_allowed() -> None:
    nameless: Any = functools.partial(Settings)
    with torch.serialization.safe_globals([nameless, Settings]):
        vet_object(saved(Settings()), "here")
    with pytest.raises(UnsafePickleError):
        vet_object(saved(Settings()), "here")


def test_the_users_own_come_back(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"mode": Trainer.Mode.TRAIN, "settings": (Settings(0.1),), "file": io.BytesIO(b"bytes")}
    uri = oss_bucket.uri + "ckpt"
    dcp.save(dict(state), storage_writer=fs.writer(uri))
    target: dict[str, Any] = dict.fromkeys(state)
    with pytest.raises(CheckpointException, match=rf"mode in oss.*names {__name__}\.Trainer\.Mode"):
        dcp.load(target, storage_reader=fs.reader(uri))
    dcp.load(target, storage_reader=fs.reader(uri, safe_types=[Trainer.Mode, Settings]))
    assert target["mode"] is Trainer.Mode.TRAIN
    assert target["settings"] == state["settings"]
    assert target["file"].read() == b"bytes"


# what is harmless without being named

STREAM = io.BytesIO(b"some bytes")
STREAM.seek(4)
GENERATOR = torch.Generator()

STANDARD_LIBRARY: list[Any] = [
    STREAM,
    io.StringIO("text"),
    collections.deque([1, 2], 5),
    collections.OrderedDict(a=1),
    collections.defaultdict(collections.OrderedDict, a=1),
    collections.defaultdict(collections.Counter, a=1),
    collections.Counter("text"),
    collections.ChainMap({"a": 1}, {}),
    collections.UserDict(a=1),
    collections.UserList([1]),
    datetime.datetime(2025, 3, 14, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.timezone(datetime.timedelta(hours=1), "name"),
    decimal.Decimal("1e5"),
    fractions.Fraction(1, 3),
    array.array("d", [1.0, 2.0]),
    ipaddress.ip_address("127.0.0.1"),
    time.gmtime(0),
    pathlib.PurePosixPath("a/b"),
    [type(None), ..., NotImplemented, int, object],
    {1 << 500: -1, 1.5: b"", (): bytearray()},
]
NUMPY: list[Any] = [
    np.zeros((2, 0)),
    np.asfortranarray(np.ones((2, 3))),
    np.array([None, [1], "text"], dtype=object),
    np.zeros(2, dtype=[("a", "i4"), ("b", "f8", (2,))]),
    np.rec.array([(1, 2.0)]),
    np.float32,
    np.str_("text"),
    [np.random.RandomState(1), np.random.SeedSequence(5)],
    [
        np.random.Generator(kind(1))
        for kind in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
    ],
]
TORCH: list[Any] = [
    [torch.Size([1, 2]), torch.bfloat16, torch.float8_e5m2, torch.uint8, torch.device("cpu"), torch.sparse_coo],
    [torch.per_channel_affine, torch.FloatTensor, torch.Tensor, torch.float32],
    GENERATOR,
    torch.nn.Parameter(torch.ones(2)),
    getattr(torch.nn, "Buffer", torch.nn.Parameter)(torch.ones(2)),
    torch.eye(2).to_sparse(),
    torch.ones(2, device="meta"),
    torch.ones(2, dtype=torch.complex64).conj(),
    torch.nn.Linear(2, 2).state_dict(),
    torch.ones(2).untyped_storage(),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [*STANDARD_LIBRARY, *NUMPY, *TORCH], ids=lambda value: type(value).__name__)
def test_what_can_do_no_harm_is_let_through(value: object, protocol: int) -> None:
    vet_object(saved({"a": [value, value]}, protocol), "here")


# what it costs


@pytest.mark.parametrize(
    "value",
    [list(range(100_000)), {f"key {n}": n / 3 for n in range(50_000)}, [["text" * (n % 40)] for n in range(50_000)]],
    ids=["numbers", "dict", "texts"],
)
def test_small_values_are_looked_through_without_a_step_in_python_for_each(value: object) -> None:
    file = saved(value)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    check_opcodes(object_pickle(file))  # compiles its patterns
    sys.setprofile(count)
    try:
        vet_object(file, "here")
    finally:
        sys.setprofile(None)
    assert calls < 2_000
