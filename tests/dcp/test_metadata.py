"""`.metadata` with objects of a planner's, and `.metadata` that is damaged."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import functools
import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import blank, differences
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from osstorchconnector.dcp import OssDCPFileSystem, UnsafePickleError
from osstorchconnector.dcp.allowed import AllowList
from osstorchconnector.dcp.metadata import dump_metadata, load_metadata, stored_names
from osstorchconnector.dcp.pickle_limits import DryRun
from osstorchconnector.errors import OssIntegrityError, OssUsageError
from osstorchconnector.testing import OssBucket

STATE = {"model": {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3)}, "step": 5}


@dataclasses.dataclass
class Sharding:
    """What a framework of the user's keeps about a tensor."""

    ranks: tuple[int, ...]

    class Kind(enum.Enum):
        ROWS = 1


@dataclasses.dataclass
class OwnMetadata(Metadata):
    """Metadata with a field more."""

    own: Any = None


@dataclasses.dataclass
class OwnTensorMetadata(TensorStorageMetadata):
    """What is known of a tensor, and more."""


class Planner(DefaultSavePlanner):
    """Lets a function change the metadata."""

    def __init__(self, change: Callable[[list[SavePlan], Metadata], Metadata]) -> None:
        super().__init__()
        self._change = change

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = super().create_global_plan(all_plans)
        return plans, self._change(plans, metadata)


def with_data(data: Any) -> Callable[[list[SavePlan], Metadata], Metadata]:
    return lambda plans, metadata: dataclasses.replace(
        metadata, planner_data={**metadata.planner_data, "own": data if data is not None else list(plans)}
    )


def with_own_class(plans: list[SavePlan], metadata: Metadata) -> Metadata:
    return OwnMetadata(**vars(metadata), own=Sharding((0,)))


def with_own_entries(plans: list[SavePlan], metadata: Metadata) -> Metadata:
    entries = {
        name: OwnTensorMetadata(**vars(entry)) if isinstance(entry, TensorStorageMetadata) else entry
        for name, entry in metadata.state_dict_metadata.items()
    }
    return dataclasses.replace(metadata, state_dict_metadata=entries)


HARMLESS = {
    "plans": with_data(None),
    "containers": with_data(collections.defaultdict(list, when=datetime.date(2025, 3, 14))),
}
OWN: dict[str, tuple[Any, list[Any]]] = {
    "objects": (with_data([Sharding((0, 1))]), [Sharding]),
    "enums": (with_data(Sharding.Kind.ROWS), [Sharding.Kind]),
    "metadata": (with_own_class, [OwnMetadata, Sharding]),
    "entries": (with_own_entries, [OwnTensorMetadata]),
}


def loaded(fs: OssDCPFileSystem, uri: str, **options: Any) -> Any:
    target = {"model": blank(STATE["model"]), "step": None}
    dcp.load(target, storage_reader=fs.reader(uri, **options))
    return target


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_may_stand_in_metadata(name: str, fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(HARMLESS[name]))
    assert differences(STATE, loaded(fs, uri)) == []


@pytest.mark.parametrize("name", OWN)
def test_a_planners_own_objects_are_refused_until_they_are_allowed(
    name: str, fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri = oss_bucket.uri + "ckpt"
    change, safe_types = OWN[name]
    dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(change))
    with pytest.raises(UnsafePickleError, match=rf"{__name__}.*safe_types=\[.*{safe_types[0].__name__}"):
        fs.reader(uri).read_metadata()
    assert differences(STATE, loaded(fs, uri, safe_types=safe_types)) == []
    assert differences(STATE, loaded(fs, uri, weights_only=False)) == []


@pytest.mark.parametrize("name", [*OWN, "unknown"])
def test_a_save_in_its_place_leaves_no_old_data(name: str, fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    change = OWN[name][0] if name in OWN else OWN["objects"][0]
    dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(change))
    if name == "unknown":  # written where there are other packages
        oss_bucket.put("ckpt/.metadata", oss_bucket.get("ckpt/.metadata").replace(b"Sharding", b"NotThere"))
    for _ in range(2):
        dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(change))
        assert len(names(oss_bucket)) == 2
    assert fs.clean(oss_bucket.uri, older_than=0) == []
    assert differences(STATE, loaded(fs, uri, weights_only=False)) == []


class Strategy:
    """What a planner may hand out methods of."""

    def split(self) -> None:
        """Do nothing."""

    def __call__(self) -> Strategy:
        return self


class Made:
    """Is made by what another call has made."""

    def __reduce__(self) -> Any:
        return Strategy(), ()


@pytest.mark.parametrize(
    "data", [Strategy().split, functools.partial(Strategy().split), "text".join], ids=["method", "partial", "text"]
)
def test_what_can_not_be_vetted_is_saved_and_replaced_like_the_rest(
    data: Any, fs: OssDCPFileSystem, oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture
) -> None:
    uri = oss_bucket.uri + "ckpt"
    for _ in range(2):
        dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(with_data([data, Made()])))
        assert len(names(oss_bucket)) == 2
    assert "weights_only=False" in caplog.text
    assert fs.clean(oss_bucket.uri, older_than=0) == []
    with pytest.raises(UnsafePickleError, match="weights_only=False"):
        fs.reader(uri).read_metadata()
    with pytest.raises(UnsafePickleError, match="weights_only=False"):
        fs.reader(uri, safe_types=[Strategy, functools.partial, Made]).read_metadata()
    assert differences(STATE, loaded(fs, uri, weights_only=False)) == []


class Unreadable:
    """Can be pickled and not be read."""

    def __setstate__(self, state: Any) -> None:
        raise ZeroDivisionError("never")

    def __getstate__(self) -> Any:
        return {"a": 1}


@pytest.mark.parametrize("data", [lambda: None, Unreadable(), open], ids=["unnamed", "unreadable", "a function"])
def test_what_can_not_be_read_again_is_refused_by_the_save(
    data: Any, fs: OssDCPFileSystem, oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture
) -> None:
    uri = oss_bucket.uri + "ckpt"
    if data is open:  # can be read by who allows it, so the log says what to allow
        dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(with_data(data)))
        assert "readers need safe_types=[open]" in caplog.text
        return
    with pytest.raises(CheckpointException, match="planner has put into the checkpoint's metadata what can't be"):
        dcp.save(dict(STATE), storage_writer=fs.writer(uri), planner=Planner(with_data(data)))
    assert not names(oss_bucket, ".metadata")


def test_metadata_is_vetted_before_anything_in_it_is_made() -> None:
    metadata = Metadata({}, planner_data={"own": Sharding((0,)), "call": Unreadable()}, storage_data={})
    with pytest.raises(UnsafePickleError, match=r"Sharding, .*Unreadable"):
        load_metadata(pickle.dumps(metadata), "here")
    with pytest.raises(UnsafePickleError, match=r"names .*Unreadable, which"):
        load_metadata(pickle.dumps(metadata), "here", AllowList([Sharding]))
    with pytest.raises(OssIntegrityError, match="never"):
        load_metadata(pickle.dumps(metadata), "here", AllowList([Sharding, Unreadable]))
    assert stored_names(pickle.dumps(metadata), "here") == set()


def test_what_was_looked_through_is_gone_without_a_collection() -> None:
    run = DryRun(pickle.dumps([Sharding((0,)), Sharding.Kind.ROWS], 2), AllowList([Sharding.Kind]))
    run.load()
    gone = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert gone() is None
    finally:
        gc.enable()


# damaged

SIZE = torch.Size([3, 4])


def sample() -> Metadata:
    chunks = [ChunkStorageMetadata(torch.Size([0, 0]), SIZE)]
    metadata = Metadata(
        {
            "weight": TensorStorageMetadata(TensorProperties(torch.float32), SIZE, chunks),
            "step": BytesStorageMetadata(),
        },
        planner_data={"weight": ("weight",), "step": ("step",)},
        storage_data={
            MetadataIndex("weight", [0, 0], 0): _StorageInfo("file", 0, 1000),
            MetadataIndex("step"): _StorageInfo("file", 1000, 500),
        },
    )
    metadata.version = "1.0"
    return metadata


def tensor(**changes: Any) -> Callable[[Metadata], None]:
    return lambda metadata: vars(metadata.state_dict_metadata["weight"]).update(changes)


def chunk(**changes: Any) -> Callable[[Metadata], None]:
    return lambda metadata: vars(metadata.state_dict_metadata["weight"].chunks[0]).update(changes)


def place(**changes: Any) -> Callable[[Metadata], None]:
    return lambda metadata: vars(next(iter(metadata.storage_data.values()))).update(changes)


def index(**changes: Any) -> Callable[[Metadata], None]:
    return lambda metadata: vars(next(iter(metadata.storage_data))).update(changes)


def whole(**changes: Any) -> Callable[[Metadata], None]:
    return lambda metadata: vars(metadata).update(changes)


@pytest.mark.parametrize(
    "damage",
    [
        whole(state_dict_metadata=None),
        whole(state_dict_metadata={5: BytesStorageMetadata()}),
        whole(state_dict_metadata={"weight": torch.float32}),
        whole(storage_data=None),
        whole(storage_data={"weight": _StorageInfo("file", 0, 1)}),
        whole(storage_data={MetadataIndex("weight"): 5}),
        whole(storage_meta="text"),
        whole(version=5),
        lambda metadata: vars(metadata).pop("storage_data"),
        tensor(size=None),
        tensor(size=[3, 4]),
        tensor(size=torch.Size([3])),
        tensor(properties=None),
        tensor(properties=torch.float32),
        tensor(chunks=None),
        tensor(chunks=[None]),
        tensor(chunks=[]),
        chunk(sizes=torch.Size([3, 0])),
        lambda metadata: vars(metadata.state_dict_metadata["weight"]).pop("chunks"),
        lambda metadata: setattr(metadata.state_dict_metadata["weight"].properties, "dtype", None),
        chunk(sizes=None),
        chunk(sizes=torch.Size([3, 5])),
        chunk(sizes=torch.Size([3])),
        chunk(offsets=torch.Size([0, 1])),
        chunk(offsets=torch.Size([-1, 0])),
        chunk(offsets=(0, 0.5)),
        place(relative_path=None),
        place(offset="0"),
        place(offset=-1),
        place(length=None),
        place(transform_descriptors="zip"),
        place(transform_descriptors=[5]),
        lambda metadata: vars(next(iter(metadata.storage_data.values()))).pop("length"),
        index(fqn=5),
        index(offset=5),
        index(index="0"),
    ],
)
def test_metadata_of_the_right_classes_with_something_else_in_them_is_an_error(
    damage: Callable[[Metadata], None],
) -> None:
    metadata = sample()
    assert load_metadata(pickle.dumps(metadata), "here") == metadata
    damage(metadata)
    with pytest.raises(OssIntegrityError, match="^here: not the metadata"):
        load_metadata(pickle.dumps(metadata), "here")


def test_sizes_as_others_write_them_are_let_through() -> None:
    metadata = sample()
    chunk(offsets=[0, 0], sizes=(3, 4))(metadata)
    tensor(chunks=tuple(metadata.state_dict_metadata["weight"].chunks))(metadata)
    assert load_metadata(pickle.dumps(metadata), "here") == metadata


WRITTEN = {protocol: pickle.dumps(sample(), protocol) for protocol in (2, 4)}
flips = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=3)


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WRITTEN)), flips, st.none() | st.integers(0, 1 << 20))
def test_flipped_and_cut_metadata_is_an_error_of_ours_or_plans_a_load(
    protocol: int, flips: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(WRITTEN[protocol])
    for at, by in flips:
        data[at % len(data)] ^= by
    if cut is not None:
        del data[cut % len(data) :]
    try:
        assert all(isinstance(name, str) for name in stored_names(bytes(data), "here"))
    except OssIntegrityError:
        pass
    try:
        metadata = load_metadata(bytes(data), "here")
    except OssIntegrityError:
        return
    planner = DefaultLoadPlanner()
    planner.set_up_planner({"weight": torch.zeros(3, 4), "step": 0}, metadata, is_coordinator=True)
    try:
        plan = planner.create_local_plan()
    except (RuntimeError, ValueError) as error:  # what torch says of an entry that is not there, or has another size
        assert "Missing key" in str(error) or "ize mismatch" in str(error)  # noqa: PT017
        return
    planner.finish_plan(planner.create_global_plan([plan])[0])


def calls(work: Callable[[], object]) -> int:
    """Return how many calls of functions, in Python and in C, some work makes."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_the_same_bytes_are_checked_once_and_read_anew_each_time() -> None:
    metadata = sample()
    for number in range(500):
        metadata.state_dict_metadata[f"checked once {number}"] = metadata.state_dict_metadata["weight"]
    data = pickle.dumps(metadata)
    first = calls(lambda: load_metadata(data, "here"))
    loaded = load_metadata(data, "here")
    loaded.state_dict_metadata["weight"].chunks.clear()
    loaded.storage_data.clear()
    assert load_metadata(data, "here") == metadata
    assert calls(lambda: load_metadata(data, "here")) < first / 2


def test_what_was_read_without_vetting_is_vetted_where_it_must_be() -> None:
    data = pickle.dumps(Metadata({}, planner_data={"own": Sharding((0,))}, storage_data={}))
    for _ in range(2):
        assert load_metadata(data, "here", None).planner_data == {"own": Sharding((0,))}
        with pytest.raises(UnsafePickleError, match="Sharding"):
            load_metadata(data, "here")


def test_dumping_refuses_what_it_can_not_read() -> None:
    with pytest.raises(OssUsageError, match="never"):
        dump_metadata(Metadata({}, planner_data=Unreadable(), storage_data={}))
