"""`torch.distributed.checkpoint` in one process: this library, the C++ connector, fsspec, and torch on local files."""

from __future__ import annotations

import importlib
import itertools
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.staging import AsyncStager, DefaultStager, StagingOptions
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from benchmarks.gauge import Done, Program, warm_memory
from benchmarks.values import Access, Keys

State = dict[str, torch.Tensor]
Shape = Mapping[str, Any]  # the arguments of `model_state`
# In a transformer's block, two of the six weights are four times as large as the others.
PROPORTIONS = (1, 1, 1, 1, 4, 4)
COLUMNS = 64


def save(access: Access, uri: str, state: Shape) -> Program:
    """`dcp.save`: this library and the C++ connector."""
    files = _file_system(access)
    return _save(files.writer, uri, state)


def save_by_fsspec(keys: Keys, uri: str, state: Shape) -> Program:
    """`dcp.save` by torch's writer on ossfs."""
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

    return _save(lambda path: FsspecWriter(path, **_fsspec(keys)), uri, state)


def load(
    access: Access,
    uri: str,
    state: Shape,
    every: int = 1,
    needed: Mapping[str, int] | None = None,
    is_warm: bool = True,
) -> Program:
    """`dcp.load` into existing tensors: this library and the C++ connector.

    Loads one of `every` keys; `needed` holds the stored lengths of all. With `is_warm`, free memory is used once first.
    """
    files = _file_system(access)
    return _load(lambda: files.reader(uri), state, every, needed, is_warm)


def load_by_fsspec(keys: Keys, uri: str, state: Shape) -> Program:
    """`dcp.load` by torch's reader on ossfs."""
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

    return _load(lambda: FsspecReader(uri, **_fsspec(keys)), state)


def load_by_file_system(access: Access, uri: str, state: Shape) -> Program:
    """`dcp.load` by torch's reader on our file system."""
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

    return _load(lambda: FsspecReader(uri, **access), state)


def load_local(path: str, state: Shape) -> Program:
    """`dcp.load` of a folder in memory by torch's own reader."""
    return _load(lambda: FileSystemReader(path), state)


def load_nothing(path: str, state: Shape) -> Program:
    """`dcp.load` by a reader that has the metadata and reads nothing: the time of torch itself."""
    target = model_state(**state)
    reader = _NoReader(FileSystemReader(path).read_metadata())
    yield None
    state_dict_loader.load(target, storage_reader=reader, no_dist=True)
    yield Done(bytes_of(target))


def async_save(access: Access, uri: str, state: Shape, stager: str, is_nested: bool = False) -> Program:
    """`dcp.async_save` until training may continue, with warm buffers; the save's end is not measured.

    The `stager` is `writer` (ours), `torch` or `nothing`, which passes the state on without a copy. The tensors are
    entries of the state, or all in one entry if nested: `{"model": ...}`.
    """
    writer = _file_system(access).writer
    tensors = model_state(**state)
    saved = {"model": tensors} if is_nested else tensors
    ours = writer(_fresh(uri))

    def start() -> Any:
        return state_dict_saver.async_save(
            saved, checkpoint_id=_fresh(uri), storage_writer=ours, async_stager=STAGERS[stager](), no_dist=True
        )

    start().result()
    _wait_for_savers()
    yield None
    saving = start()
    yield Done(1)
    saving.result()


def managed_save(access: Access, uri: str, state: Shape) -> Program:
    """`OssCheckpointManager.async_save` until training may continue, with warm buffers."""
    from osstorchconnector.dcp import OssCheckpointManager

    manager = OssCheckpointManager(uri, **access)
    tensors = model_state(**state)
    manager.async_save(0, tensors).result()
    _wait_for_savers()
    yield None
    saving = manager.async_save(1, tensors)
    yield Done(1)
    saving.result()


def copy_state(state: Shape) -> Program:
    """Copy a state into warm buffers: the minimum time of staging."""
    tensors = model_state(**state)
    buffers = {name: tensor.clone() for name, tensor in tensors.items()}
    yield None
    for name, tensor in tensors.items():
        buffers[name].copy_(tensor)
    yield Done(1)


def model_state(size: int, tensors: int, is_even: bool = False) -> State:
    """Return a state dict of about `size` bytes, with weights of two sizes, or one with `is_even`."""
    parts = (1,) if is_even else PROPORTIONS
    unit = size * len(parts) / sum(parts) / tensors
    rows = [max(round(unit * part / COLUMNS / 4), 1) for part in parts]
    shapes = enumerate(itertools.islice(itertools.cycle(rows), tensors))
    return {f"layers.{number}.weight": torch.full((count, COLUMNS), 1.0 + number) for number, count in shapes}


def bytes_of(state: State) -> int:
    return sum(tensor.nbytes for tensor in state.values())


def _save(writer: Callable[[str], Any], uri: str, state: Shape) -> Program:
    tensors = model_state(**state)
    state_dict_saver.save({"small": torch.ones(10)}, storage_writer=writer(_fresh(uri)), no_dist=True)
    warm_memory(2 * bytes_of(tensors))
    yield None
    state_dict_saver.save(tensors, storage_writer=writer(_fresh(uri)), no_dist=True)
    yield Done(bytes_of(tensors))


def _load(
    reader: Callable[[], Any],
    state: Shape,
    every: int = 1,
    needed: Mapping[str, int] | None = None,
    is_warm: bool = True,
) -> Program:
    wanted = model_state(**state)
    target = {name: torch.zeros_like(tensor) for name, tensor in list(wanted.items())[::every]}
    lengths = sum(length for name, length in (needed or {}).items() if name in target)
    if is_warm:
        warm_memory(2 * bytes_of(target))
    yield None
    state_dict_loader.load(target, storage_reader=reader(), no_dist=True)
    yield Done(bytes_of(target), {"needed_bytes": lengths} if lengths else {})
    for name, tensor in target.items():
        assert torch.equal(tensor, wanted[name]), name


class _NoReader(StorageReader):
    """Has the metadata of a checkpoint, and reads nothing."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        return True

    def reset(self, checkpoint_id: object = None) -> None:
        """Do nothing."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: object) -> Future[None]:
        future: Future[None] = Future()
        future.set_result(None)
        return future


class _NoStager(AsyncStager):
    """Passes the state on without a copy."""

    _synchronize_after_execute = False

    def stage(self, state_dict: State) -> State:
        return state_dict


STAGERS: Mapping[str, Callable[[], AsyncStager | None]] = {
    "writer": lambda: None,
    # torch makes one for each save if neither the writer nor the user has one
    "torch": lambda: DefaultStager(StagingOptions(False, False, False, False)),
    "nothing": _NoStager,
}


def _wait_for_savers() -> None:
    """Wait until the threads of savers have released what they saved, as they have before the next save in training."""
    for thread in threading.enumerate():
        if thread.name.startswith(("AsyncCheckpointExecutor", "osstorchconnector-save")):
            thread.join()


def _file_system(access: Access) -> Any:
    """Return the file system of this library or the C++ connector, which has it only at the top of its package."""
    try:
        from osstorchconnector.dcp import OssDCPFileSystem
    except ModuleNotFoundError:
        files = importlib.import_module("osstorchconnector").OssDCPFileSystem
        return files(**access)
    return OssDCPFileSystem(**access)


def _fsspec(keys: Keys) -> dict[str, Any]:
    return {"endpoint": keys["host_endpoint"], "key": keys["key_id"], "secret": keys["secret"]}


def _fresh(uri: str) -> str:
    return f"{uri}/{uuid.uuid4().hex}"
