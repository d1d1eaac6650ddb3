"""Loading runs nothing that a checkpoint names."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import io
import pathlib
import pickle
import random
import types
import uuid
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from osstorchconnector.dcp import OssDCPFileSystem, UnsafePickleError
from osstorchconnector.dcp.decoding import read_tensor_pickle, vet_object
from osstorchconnector.dcp.metadata import dump_metadata, load_metadata
from osstorchconnector.dcp.tensors import PlainTensor
from osstorchconnector.errors import OssIntegrityError
from osstorchconnector.testing import OssBucket

ran: list[str] = []


class Mine:
    """A class of the user's."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mine)

    __hash__ = object.__hash__


class Attack:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (run, ("attack",))


def run(what: str) -> str:
    ran.append(what)
    return what


HARMLESS = [
    None,
    [1, 2.0, True, "text", b"bytes", 1j, (1, 2), {1, 2}, frozenset([1]), range(3), slice(1, 2), bytearray(b"x")],
    collections.OrderedDict(a=1),
    collections.defaultdict(list, a=[1]),
    collections.Counter("aab"),
    collections.deque([1, 2]),
    datetime.datetime(2025, 3, 14, tzinfo=datetime.timezone.utc),
    [datetime.date(2025, 3, 14), datetime.time(1, 2), datetime.timedelta(1)],
    [pathlib.Path("/a/b"), pathlib.PurePosixPath("c"), pathlib.PureWindowsPath("d:/e")],
    [decimal.Decimal("1.5"), uuid.UUID(int=5), argparse.Namespace(a=1), types.SimpleNamespace(b=2)],
    [np.float32(1), np.int64(2), np.bool_(True), np.datetime64("2025-03-14"), np.dtype("float32")],
    [np.arange(5), np.array(["a", "b"]), np.float64(3)],
    [random.getstate(), np.random.get_state(), np.random.default_rng(1), np.random.default_rng(1).bit_generator.state],
    [torch.get_rng_state(), torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.ones(3)],
]


def saved(value: object) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("value", HARMLESS, ids=lambda value: type(value).__name__)
def test_what_trainers_save_is_harmless(value: object) -> None:
    file = saved(value)
    vet_object(file, "here")
    assert file.tell() == 0


@pytest.mark.parametrize("value", [Attack(), [Attack()], {"a": Attack()}, collections.defaultdict(list, a=Attack())])
def test_what_would_run_something_is_refused_and_not_run(value: object) -> None:
    ran.clear()
    with pytest.raises(UnsafePickleError, match=r"here: .*run"):
        vet_object(saved(value), "here")
    assert ran == []


def test_a_defaultdict_that_would_make_something_else_is_refused() -> None:
    with pytest.raises(UnsafePickleError):
        vet_object(saved(collections.defaultdict(run)), "here")


def test_classes_of_the_users_are_refused_until_they_are_named(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save({"mine": Mine()}, storage_writer=fs.writer(uri))
    target: dict[str, Any] = {"mine": None}
    with pytest.raises(CheckpointException, match=r"mine in oss.*Mine.*safe_types"):
        dcp.load(target, storage_reader=fs.reader(uri))
    dcp.load(target, storage_reader=fs.reader(uri, safe_types=[Mine]))
    assert target["mine"] == Mine()
    target["mine"] = None
    dcp.load(target, storage_reader=fs.reader(uri, weights_only=False))
    assert target["mine"] == Mine()


def test_an_attack_in_a_checkpoint_is_not_run(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({"value": Attack()}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    ran.clear()
    with pytest.raises(CheckpointException, match="not made of harmless things"):
        dcp.load({"value": 1}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert ran == []


# metadata


@pytest.mark.parametrize("value", [Attack(), Metadata({}, planner_data=Attack(), storage_data={})], ids=["all", "part"])
def test_metadata_that_would_run_something_is_refused_and_not_run(value: object) -> None:
    ran.clear()
    with pytest.raises(UnsafePickleError, match=r"here names .*run"):
        load_metadata(pickle.dumps(value), "here")
    assert ran == []


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", pickle.dumps({"a": 1}), pickle.dumps(Metadata({})), pickle.dumps([1])[:-1]], ids=repr
)
def test_what_is_no_metadata_is_told(data: bytes) -> None:
    with pytest.raises(OssIntegrityError, match="here"):
        load_metadata(data, "here")


def test_metadata_comes_back() -> None:
    metadata = Metadata({}, planner_data={"a.b": ("a", "b", 0)}, storage_data={})
    assert load_metadata(dump_metadata(metadata), "here") == metadata


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "WindowsPath"])
def test_paths_in_metadata_are_read_wherever_it_was_written(module: str, name: str) -> None:
    # As Python 3.13 on this or another system writes them, in the field that torch's own writer fills with a path.
    written = pickle.dumps(Metadata({}, storage_data={}, planner_data="PLACE"), protocol=2)
    path = f"c{module}\n{name}\n(Va\nVb\ntR".encode()
    head, tail = written.split(b"X\x05\x00\x00\x00PLACE")
    metadata = load_metadata(head + path + tail, "here")
    assert metadata.planner_data.parts == ("a", "b")


def test_names_that_lead_out_of_the_checkpoint_are_refused(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({"weight": torch.ones(3)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    metadata = load_metadata(oss_bucket.get("ckpt/.metadata"), "here")
    (info,) = metadata.storage_data.values()
    info.relative_path = "../secret"
    oss_bucket.put("ckpt/.metadata", dump_metadata(metadata))
    with pytest.raises(CheckpointException, match=r"'\.\./secret' is no name"):
        dcp.load({"weight": torch.ones(3)}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))


# tensors


def tensor_pickle(tensor: object) -> bytes:
    file = saved(tensor).getvalue()
    from osstorchconnector.dcp.archive import read_directory

    record = read_directory(file)["data.pkl"]
    return file[record.start : record.start + record.size]


def test_a_tensors_pickle_is_read_without_general_unpickling() -> None:
    assert read_tensor_pickle(tensor_pickle(torch.ones(3, 4).t())) == PlainTensor(torch.float32, (4, 3), (1, 4), 0)
    fp8 = torch.ones(2, dtype=torch.float8_e5m2)
    assert read_tensor_pickle(tensor_pickle(fp8)) == PlainTensor(torch.float8_e5m2, (2,), (1,), 0)


def test_what_is_not_just_a_tensor_is_left_to_torch() -> None:
    ran.clear()
    for value in (
        torch.ones(2, dtype=torch.complex64).conj(),
        [torch.ones(2)],
        Attack(),
        torch.nn.Parameter(torch.ones(1)),
    ):
        assert read_tensor_pickle(tensor_pickle(value)) is None
    assert ran == []
