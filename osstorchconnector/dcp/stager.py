"""Staging for `dcp.async_save`: a copy of the state in reused, already mapped memory, so that training can continue."""

from __future__ import annotations

import copy
import logging
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ..tensors.isolation import garbage_collection_paused, outside_contexts, plain_torch
from ..tensors.memory import Shape, bare
from .torch_dcp import AsyncStager, DTensor, copied_shards, device_module

_logger = logging.getLogger(__name__)

_CONSTANT = frozenset({int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
_DICTS = (dict, OrderedDict, defaultdict)
_TENSORS = (torch.Tensor, torch.nn.Parameter)

Path = tuple[Any, ...]
Copy = tuple[torch.Tensor, torch.Tensor]  # (target, source)

SHARED_OUT_ELEMENTS = 32768  # from this size on, torch copies one tensor with several threads
THREAD_BYTES = 8 << 20  # copying fewer bytes per thread is not worth starting it


class HostMemory:
    """Allocates CPU memory for staging and copies tensors to it, also from devices."""

    def __init__(self) -> None:
        self._can_pin = True

    def is_elsewhere(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor's bytes are on a device."""
        return not tensor.is_cpu

    def pinned(self, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        """Return pinned memory: devices copy to it without the CPU."""
        return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)

    def ordinary(self, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="cpu")

    def buffer_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return memory to copy a tensor to. If no more can be pinned, log that once and use ordinary memory."""
        shape: Shape = tuple(tensor.shape)
        if self._can_pin and self.is_elsewhere(tensor):
            try:
                return self.pinned(shape, tensor.dtype)
            except RuntimeError as error:
                self._can_pin = False
                _logger.warning("no (more) pinned memory, so copies from devices take longer: %s", error)
        return self.ordinary(shape, tensor.dtype)

    def copy(self, targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        """Copy each source into its target, all in parallel. Return when every copy is complete."""
        copies = list(zip(targets, sources, strict=True))
        devices = {source.device for source in sources if self.is_elsewhere(source)}
        if devices:
            _copy(copies, non_blocking=True)
        else:
            _copy_in_threads(copies)
        self.wait(devices)

    def wait(self, devices: Iterable[torch.device]) -> None:
        """Wait until the copies from these devices are complete."""
        for device in devices:
            device_module(device).current_stream(device).synchronize()


def _copy(copies: list[Copy], *, non_blocking: bool = False) -> None:
    if copies:
        targets, sources = map(list, zip(*copies, strict=True))
        with torch.no_grad():
            torch._foreach_copy_(targets, sources, non_blocking=non_blocking)


def _copy_in_threads(copies: list[Copy]) -> None:
    """Copy within CPU memory, with at most as many threads as torch uses itself.

    torch divides one large tensor among its threads, but copies any number of small ones in a single thread. So the
    small ones are divided here.
    """
    small = [pair for pair in copies if pair[1].numel() < SHARED_OUT_ELEMENTS]
    large = [pair for pair in copies if pair[1].numel() >= SHARED_OUT_ELEMENTS]
    count = min(torch.get_num_threads(), sum(source.nbytes for _, source in small) // THREAD_BYTES)
    if count > 1:
        with ThreadPoolExecutor(count) as threads:
            for copied in [threads.submit(_copy, small[number::count]) for number in range(count)]:
                copied.result()
    else:
        _copy(small)
    _copy(large)


class OssStager(AsyncStager):
    """Copies a state for `dcp.async_save` into buffers in CPU memory, and keeps the buffers for the next save.

    `stage` returns when the copy is complete. A buffer is reused only when nothing refers to its memory, not even a
    running save: while an earlier state is still being saved, new buffers are made. For tensors on a GPU the buffers
    are pinned, and all copies run in parallel. Values that are not tensors are deep-copied. `OssStorageWriter` stages
    in the same way. This class is for writers that do not, such as torch's own.

    `memory` is for tests: it allocates memory and waits for devices.
    """

    _synchronize_after_execute = False

    def __init__(self, memory: HostMemory | None = None) -> None:
        self._memory = memory or HostMemory()
        self._buffers: dict[Path, _StagingBuffer] = {}

    @outside_contexts
    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of `state_dict` that shares no memory with it."""
        with garbage_collection_paused():
            staging = _Staging(self._buffers, self._memory)
            staged: dict[str, Any] = staging.copied(state_dict, ())
            staging.fill()
        self._buffers = staging.used
        return staged

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` returns when the copy is complete."""

    def close(self) -> None:
        """Free the buffers."""
        self._buffers = {}


class _StagingBuffer:
    """Memory for tensors of one shape and dtype.

    The tensor's shape, dtype and storage are read only once, since a save may have to check thousands of buffers.
    """

    __slots__ = ("_address", "_storage", "dtype", "shape", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.shape, self.dtype = tensor, tensor.shape, tensor.dtype
        self._storage = tensor.untyped_storage()
        self._address = self._storage._cdata

    def fits(self, tensor: torch.Tensor) -> bool:
        return self.dtype == tensor.dtype and self.shape == tensor.shape

    def references(self) -> tuple[int, int]:
        """Return how many references the memory has (from tensors and the like), and how many its Python storage."""
        return _uses(self._address), sys.getrefcount(self._storage)

    def is_free(self) -> bool:
        """Return whether only this buffer refers to the memory. Always False if torch has no count of references."""
        return self.references() == _OF_A_FREE_ONE


class _Staging:
    """One copy of one state. It uses the `old` buffers that fit and are free."""

    def __init__(self, old: dict[Path, _StagingBuffer], memory: HostMemory) -> None:
        self._old, self._memory = old, memory
        self.used: dict[Path, _StagingBuffer] = {}
        self._copies: dict[int, Any] = {}  # by id: a value that is in the state twice is copied once
        self._sources: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def copied(self, value: Any, path: Path) -> Any:
        """Return the copy of `value`. Only `fill` copies the data of its tensors."""
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
        """Copy the data of all tensors, and wait until that is done."""
        self._memory.copy(self._targets, self._sources)

    def _copied_leaf(self, value: Any, path: Path) -> Any:
        if isinstance(value, torch.Tensor):
            value = bare(value)
        if type(value) in _TENSORS and _is_copied_bytewise(value):
            return self._buffer_for(value, path)
        if isinstance(value, DTensor) and _is_copied_bytewise(value.to_local()):
            return _spread_like(value, self._buffer_for(bare(value.to_local()), path))
        if isinstance(value, torch.Tensor) and not hasattr(value, "local_shards"):
            return value.detach().to("cpu", copy=True)
        if hasattr(value, "local_shards"):
            return copied_shards(value)
        return copy.deepcopy(value)

    def _buffer_for(self, source: torch.Tensor, path: Path) -> torch.Tensor:
        buffer = self._old.get(path)
        if buffer is None or not buffer.fits(source) or not buffer.is_free():
            buffer = _StagingBuffer(self._memory.buffer_for(source))
        self.used[path] = buffer
        self._sources.append(source)
        self._targets.append(buffer.tensor)
        return buffer.tensor.detach()


def _spread_like(value: DTensor, local: torch.Tensor) -> DTensor:
    """Return a tensor distributed over ranks in the same way as `value`, with `local` as this rank's part.

    `from_local` can't be used: it would copy `local`, which has no data yet, to the device of the mesh.
    """
    flatten: Any = value.__tensor_flatten__  # torch's protocol for tensors made of tensors; it has no types
    unflatten: Any = DTensor.__tensor_unflatten__
    names, context = flatten()
    parts = {name: getattr(value, name) for name in names} | {"_local_tensor": local}
    spread = unflatten(parts, context, value.shape, value.stride())
    assert isinstance(spread, DTensor)
    return spread


def _is_copied_bytewise(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


# Not public: torch's CUDA graph trees count the users of a storage with it. Without it, each count is a new object that
# equals no other, so no buffer is ever free.
_uses: Any = getattr(torch._C, "_storage_Use_Count", lambda address: object())
with plain_torch():
    _OF_A_FREE_ONE = _StagingBuffer(torch.empty(1, dtype=torch.float32, device="cpu")).references()
