"""Tensors whose class is not torch's own: what only adds names and methods is saved as the tensor that it is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import download
from torch.distributed.checkpoint import FileSystemReader
from torch.utils._pytree import tree_map

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem, OssStager
from osstorchconnector.testing import OssBucket


class Tagged(torch.Tensor):
    """Adds nothing but its name, as timm's and torchvision's tensors do."""


class Noted(torch.Tensor):
    """Has attributes, one of which no pickle takes."""

    note: Any


class Meddling(torch.Tensor):
    """Has its own mind about what torch's functions do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.detach:
            raise RuntimeError("not with me")
        return super().__torch_function__(func, types, args, kwargs or {})


class Wrapper(torch.Tensor):
    """Is made of another tensor and decides what operations do, as DTensor and quantised ones do."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapper:
        made: Wrapper = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = tree_map(lambda value: value.inner if isinstance(value, cls) else value, (args, kwargs or {}))
        result = func(*inner[0], **inner[1])
        return tree_map(lambda value: cls(value) if isinstance(value, torch.Tensor) else value, result)


def noted() -> torch.Tensor:
    tensor = torch.arange(4.0).as_subclass(Noted)
    tensor.note = lambda: "not to be pickled"
    return tensor


MEMBERS: dict[str, Callable[[], torch.Tensor]] = {
    "tagged": lambda: torch.arange(4.0).as_subclass(Tagged),
    "with attributes": noted,
    "meddling": lambda: torch.arange(4.0).as_subclass(Meddling),
    "parameter of it": lambda: torch.nn.Parameter(torch.arange(4.0).as_subclass(Tagged)),
    "with a gradient": lambda: torch.arange(4.0).as_subclass(Tagged).requires_grad_(),
    "computed": lambda: torch.arange(4.0, requires_grad=True).as_subclass(Tagged) * 2,
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).as_subclass(Tagged).t(),
    "part of a storage": lambda: torch.arange(1000.0).as_subclass(Tagged)[10:14],
    "no elements": lambda: torch.empty(0, 4).as_subclass(Tagged),
    "conjugate": lambda: torch.arange(4.0).to(torch.complex64).as_subclass(Tagged).conj(),
    "negative": lambda: torch.arange(4.0).to(torch.complex64).conj().imag.as_subclass(Tagged),
    "large": lambda: torch.arange(200_000).as_subclass(Tagged),
    "buffer": lambda: getattr(torch.nn, "Buffer", torch.nn.Parameter)(torch.arange(4.0)),
    "torch's own with attributes": lambda: setattr(made := torch.arange(4.0), "note", len) or made,  # type: ignore[func-returns-value]
}


def save_at_once(fs: OssDCPFileSystem, uri: str, state: dict[str, Any]) -> str:
    dcp.save(state, storage_writer=fs.writer(uri))
    return uri


def save_asynchronously(fs: OssDCPFileSystem, uri: str, state: dict[str, Any]) -> str:
    saving = dcp.async_save(state, storage_writer=fs.writer(uri))
    assert isinstance(saving, Future)
    saving.result()
    return uri


def save_by_a_manager(fs: OssDCPFileSystem, uri: str, state: dict[str, Any]) -> str:
    manager = OssCheckpointManager(fs, uri)
    manager.async_save(1, state)
    manager.close()
    return manager.uri(1)


@pytest.mark.parametrize("save", [save_at_once, save_asynchronously, save_by_a_manager])
@pytest.mark.parametrize("name", MEMBERS)
def test_it_is_saved_as_torchs_own_and_read_by_both(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path, save: Callable[..., str], name: str
) -> None:
    made = MEMBERS[name]()
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        expected = made.as_subclass(torch.Tensor).clone()
    uri = save(fs, oss_bucket.uri + "ckpt", {"weight": made})
    folder = download(oss_bucket, uri.removeprefix(oss_bucket.uri) + "/", tmp_path)
    for reader in (fs.reader(uri), FileSystemReader(folder)):
        target = {"weight": torch.full(expected.shape, 7).to(expected.dtype)}
        dcp.load(target, storage_reader=reader)
        assert torch.equal(target["weight"], expected)


def test_it_is_loaded_into_one_of_its_kind(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = save_at_once(fs, oss_bucket.uri + "ckpt", {"weight": MEMBERS["tagged"]()})
    target = {"weight": torch.zeros(4).as_subclass(Tagged)}
    dcp.load(target, storage_reader=fs.reader(uri))
    assert type(target["weight"]) is Tagged
    assert target["weight"].tolist() == [0, 1, 2, 3]


def test_what_is_staged_does_not_change_with_it() -> None:
    made = MEMBERS["tagged"]()
    staged = OssStager().stage({"weight": made, "same": made})
    made.fill_(9)
    assert type(staged["weight"]) is torch.Tensor
    assert staged["weight"].tolist() == [0, 1, 2, 3]
    assert staged["same"] is staged["weight"]


@pytest.mark.parametrize("save", [save_at_once, save_asynchronously, save_by_a_manager])
def test_one_that_decides_what_operations_do_stays_what_it_is(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, save: Callable[..., str]
) -> None:
    uri = save(fs, oss_bucket.uri + "ckpt", {"weight": Wrapper(torch.arange(4.0))})
    target = {"weight": Wrapper(torch.zeros(4))}
    with torch.serialization.safe_globals([Wrapper]):
        dcp.load(target, storage_reader=fs.reader(uri))
    assert target["weight"].inner.tolist() == [0, 1, 2, 3]
