"""Staging for `dcp.async_save`: a copy of the state that training may go on without, in memory that is already warm."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from typing import Any

import torch
from torch.distributed._state_dict_utils import _copy_state_dict, _create_cpu_state_dict
from torch.distributed.checkpoint.staging import AsyncStager
from torch.distributed.tensor import DTensor

from .tensors import Shape

_CONSTANT = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_DICTS = (dict, OrderedDict, defaultdict)

Path = tuple[Any, ...]


class OssStager(AsyncStager):
    """Copies tensors into buffers in the processor's memory and keeps the buffers for the next time.

    `stage` returns when the copy is made. A buffer is used again only when nothing refers to its memory any more,
    not the saving either: while an earlier state is still being saved, new buffers are made. For tensors on a GPU
    the buffers are pinned and all copies run side by side. What is no tensor is deep-copied.
    """

    _synchronize_after_execute = False

    def __init__(self) -> None:
        self._buffers: dict[Path, torch.Tensor] = {}

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of `state_dict` that shares no memory with it."""
        staging = _Staging(self._buffers)
        staged: dict[str, Any] = staging.copied(state_dict, ())
        staging.fill()
        self._buffers = staging.used
        return staged

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` returns when the copy is made."""

    def close(self) -> None:
        """Let the buffers go."""
        self._buffers = {}


class _Staging:
    """One copy of one state, into `old` buffers where they fit and are free."""

    def __init__(self, old: dict[Path, torch.Tensor]) -> None:
        self._old = old
        self.used: dict[Path, torch.Tensor] = {}
        self._copies: dict[int, Any] = {}  # by id: what stands in the state twice is copied once
        self._sources: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def copied(self, value: Any, path: Path) -> Any:
        """Return the copy of `value`, whose tensors `fill` will fill."""
        kind = type(value)
        if kind in _CONSTANT:
            return value
        if kind in _DICTS:
            result = copy.copy(value)
            for key, item in value.items():
                result[key] = self.copied(item, (*path, key))
            return result
        if kind is list or kind is tuple:
            return kind([self.copied(item, (*path, number)) for number, item in enumerate(value)])
        known = self._copies.get(id(value))
        if known is None:
            known = self._copies[id(value)] = self._copied_leaf(value, path)
        return known

    def fill(self) -> None:
        """Copy all tensors, and wait until that is done."""
        devices = {tensor.device for tensor in self._sources if tensor.device.type != "cpu"}
        if self._sources:
            torch._foreach_copy_(self._targets, self._sources, non_blocking=bool(devices))
        for device in devices:
            torch.get_device_module(device).synchronize(device)

    def _copied_leaf(self, value: Any, path: Path) -> Any:
        if type(value) in (torch.Tensor, torch.nn.Parameter) and _is_copied_bytewise(value):
            return self._buffer_for(value.detach(), path)
        if isinstance(value, DTensor) and _is_copied_bytewise(value.to_local()):
            local = self._buffer_for(value.to_local().detach(), path)
            return DTensor.from_local(
                local, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
            )
        if isinstance(value, torch.Tensor) and not hasattr(value, "local_shards"):
            return value.detach().to("cpu", copy=True)
        if hasattr(value, "local_shards"):
            state = {"": value}
            return _copy_state_dict(state, _create_cpu_state_dict(state))[""]
        return copy.deepcopy(value)

    def _buffer_for(self, source: torch.Tensor, path: Path) -> torch.Tensor:
        shape: Shape = tuple(source.shape)
        buffer = self._old.get(path)
        if buffer is None or buffer.dtype != source.dtype or tuple(buffer.shape) != shape or not _is_free(buffer):
            buffer = torch.empty(shape, dtype=source.dtype, pin_memory=source.device.type == "cuda")
        self.used[path] = buffer
        self._sources.append(source)
        self._targets.append(buffer)
        return buffer.detach()


def _is_copied_bytewise(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type != "meta"


def _is_free(buffer: torch.Tensor) -> bool:
    """True if nothing refers to the buffer's memory but the buffer (and the wrapper of it that is made here)."""
    storage = buffer.untyped_storage()
    count: int = torch._C._storage_Use_Count(storage._cdata)
    return count <= _COUNT_OF_A_FREE_ONE


def _count_of_a_free_one() -> int:
    storage = torch.empty(1).untyped_storage()
    probe = torch.empty(0).set_(storage)
    del storage
    count: int = torch._C._storage_Use_Count(probe.untyped_storage()._cdata)
    return count


_COUNT_OF_A_FREE_ONE = _count_of_a_free_one()
