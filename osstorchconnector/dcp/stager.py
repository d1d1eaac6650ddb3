"""Staging for `dcp.async_save`: a copy of the state that training may go on without, in memory that is already warm."""

from __future__ import annotations

import copy
import logging
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.distributed._state_dict_utils import _copy_state_dict, _create_cpu_state_dict
from torch.distributed.checkpoint.staging import AsyncStager
from torch.distributed.tensor import DTensor

from .isolation import garbage_collection_paused, outside_contexts, plain_torch
from .tensors import Shape, bare

_logger = logging.getLogger(__name__)

_CONSTANT = frozenset({int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
_DICTS = (dict, OrderedDict, defaultdict)
_TENSORS = (torch.Tensor, torch.nn.Parameter)

Path = tuple[Any, ...]
Copy = tuple[torch.Tensor, torch.Tensor]  # the target first

SHARED_OUT_ELEMENTS = 32768  # from here on torch copies a tensor by several threads
THREAD_BYTES = 8 << 20  # so much has to be copied that a thread is worth being started


class HostMemory:
    """The machine's memory, and its devices, as staging sees them."""

    def __init__(self) -> None:
        self._can_pin = True

    def is_elsewhere(self, tensor: torch.Tensor) -> bool:
        """True if the tensor's bytes have to come from a device."""
        return not tensor.is_cpu

    def pinned(self, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        """Return memory that devices copy to without the processor's help."""
        return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)

    def ordinary(self, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="cpu")

    def buffer_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return memory to copy a tensor to; where no more can be pinned the log says so once, and it is ordinary."""
        shape: Shape = tuple(tensor.shape)
        if self._can_pin and self.is_elsewhere(tensor):
            try:
                return self.pinned(shape, tensor.dtype)
            except RuntimeError as error:
                self._can_pin = False
                _logger.warning("no (more) pinned memory, so copies from devices take longer: %s", error)
        return self.ordinary(shape, tensor.dtype)

    def copy(self, targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        """Copy each source into its target, side by side; when this returns all of them are there."""
        copies = list(zip(targets, sources, strict=True))
        devices = {source.device for source in sources if self.is_elsewhere(source)}
        if devices:
            _copy(copies, non_blocking=True)
        else:
            _copy_in_threads(copies)
        self.wait(devices)

    def wait(self, devices: Iterable[torch.device]) -> None:
        """Wait until the copies from these devices have come."""
        for device in devices:
            torch.get_device_module(device).current_stream(device).synchronize()


def _copy(copies: list[Copy], *, non_blocking: bool = False) -> None:
    if copies:
        targets, sources = map(list, zip(*copies, strict=True))
        with torch.no_grad():
            torch._foreach_copy_(targets, sources, non_blocking=non_blocking)


def _copy_in_threads(copies: list[Copy]) -> None:
    """Copy within the processor's memory, by as many threads as torch takes for itself.

    It has them share out the elements of one large tensor, and lets one thread copy any number of small ones.
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
    """Copies a state for `dcp.async_save` into buffers in CPU memory, and keeps the buffers for the next time.

    `stage` returns when the copy is made. A buffer is used again only when nothing refers to its memory any more, no
    save either: while an earlier state is still being saved, new buffers are made. For tensors on a GPU the buffers are
    pinned, and all copies run side by side. What is no tensor is deep-copied. `OssStorageWriter` stages in the same
    way; this is for writers that do not, as torch's own.

    `memory` is for tests: how memory is allocated and devices are waited for.
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
        """Do nothing: `stage` returns when the copy is made."""

    def close(self) -> None:
        """Let the buffers go."""
        self._buffers = {}


class _StagingBuffer:
    """Memory for tensors of one shape and dtype.

    What it would ask of its tensor again and again, for each of thousands of buffers, it has asked once.
    """

    __slots__ = ("_address", "_storage", "dtype", "shape", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.shape, self.dtype = tensor, tensor.shape, tensor.dtype
        self._storage = tensor.untyped_storage()
        self._address = self._storage._cdata

    def fits(self, tensor: torch.Tensor) -> bool:
        return self.dtype == tensor.dtype and self.shape == tensor.shape

    def references(self) -> tuple[int, int]:
        """Return how many tensors and the like refer to the memory, and how many names to its storage."""
        return _uses(self._address), sys.getrefcount(self._storage)

    def is_free(self) -> bool:
        """True if nothing refers to the memory but this buffer; where torch can't tell, that is never known."""
        return self.references() == _OF_A_FREE_ONE


class _Staging:
    """One copy of one state, into `old` buffers where they fit and are free."""

    def __init__(self, old: dict[Path, _StagingBuffer], memory: HostMemory) -> None:
        self._old, self._memory = old, memory
        self.used: dict[Path, _StagingBuffer] = {}
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
            state = {"": value}
            return _copy_state_dict(state, _create_cpu_state_dict(state))[""]
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
    """Return a tensor spread over ranks as `value` is, of which this rank has `local`.

    (`from_local` would copy `local`, which is still to be filled, to the device that the mesh is of.)
    """
    flatten: Any = value.__tensor_flatten__  # the protocol of tensors that are made of tensors; torch does not type it
    unflatten: Any = DTensor.__tensor_unflatten__
    names, context = flatten()
    parts = {name: getattr(value, name) for name in names} | {"_local_tensor": local}
    spread = unflatten(parts, context, value.shape, value.stride())
    assert isinstance(spread, DTensor)
    return spread


def _is_copied_bytewise(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


# Not public: torch's own graph trees count so who uses a storage.
_uses: Any = getattr(torch._C, "_storage_Use_Count", lambda address: object())
with plain_torch():
    _OF_A_FREE_ONE = _StagingBuffer(torch.empty(1, dtype=torch.float32, device="cpu")).references()
