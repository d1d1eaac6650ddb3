"""Ranges of a file on their way into tensors: several at a time, straight into memory or through a few buffers."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from ..client.memory import Memory, Pieces, fill, part, prefault
from ..files.read_plan import FIRST_BYTES, MIB, SKIP_BYTES, cut, request_bytes
from ..files.source import ObjectSource
from ..protocol.values import ByteSpan
from ..tensors.dtypes import SAFETENSORS_DTYPES
from ..tensors.memory import Shape, memory, uninitialised
from .failures import OssSafetensorError
from .header import LENGTH_BYTES, Header, StoredTensor, header_bytes, parse_header
from .slices import Axis, SliceBlock, SlicePlan

# Of bytes that must be copied from a buffer: how many come in one request, and how many may be under way.
STAGED_BYTES, MAX_STAGED_BYTES = 4 * MIB, 48 * MIB
_ALIGNED_BYTES = 16


def read_header(source: ObjectSource, where: str) -> Header:
    """Return the header of a file; raises `OssSafetensorError` if it is not one, and the errors of reading."""
    size = source.open().size
    begin = _read(source, ByteSpan(0, min(LENGTH_BYTES, size)))
    text = _read(source, ByteSpan(LENGTH_BYTES, LENGTH_BYTES + header_bytes(begin, size, where)))
    return parse_header(text, size, where)


def _read(source: ObjectSource, span: ByteSpan) -> bytearray:
    data = bytearray(span.size)
    if data:
        source.begin_read(span.start)
        source.read_into(span.start, memoryview(data))
    return data


class TensorKind(NamedTuple):
    """What torch makes of a stored tensor."""

    dtype: torch.dtype
    shape: Shape

    @property
    def size_bytes(self) -> int:
        """How many bytes all elements take."""
        return math.prod(self.shape) * self.dtype.itemsize


def kind_of(stored: StoredTensor, name: str, where: str) -> TensorKind:
    """Return dtype and shape of a stored tensor; `OssSafetensorError` if this torch has none such."""
    dtype = SAFETENSORS_DTYPES.get(stored.dtype)
    if dtype is None:
        raise OssSafetensorError(
            f"{where}: tensor {name!r:.100} has dtype {stored.dtype}, which torch {torch.__version__} lacks"
        )
    if stored.dtype != "F4":
        return TensorKind(dtype, stored.shape)
    *outer, last = stored.shape
    if last % 2:
        raise OssSafetensorError(
            f"{where}: tensor {name!r:.100} of F4 has shape {list(stored.shape)}; torch has two elements in a byte, so "
            "the last dimension must be even"
        )
    return TensorKind(dtype, (*outer, last // 2))


def new_tensor(kind: TensorKind, device: torch.device) -> torch.Tensor:
    """Return a tensor whose content is undefined."""
    if device.type == "cpu":
        return uninitialised(kind.shape, kind.dtype)
    return torch.empty(kind.shape, dtype=kind.dtype, device=device)


def octets(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor's memory as one of `uint8`, in one dimension."""
    return tensor.view(-1).view(torch.uint8)


class Landing(NamedTuple):
    """A range of the file. It lands in `memory` or, if that is None, in a buffer from which `take` copies it."""

    span: ByteSpan
    memory: Memory | None
    take: Callable[[torch.Tensor], object] | None = None


def fetch(
    source: ObjectSource,
    landings: Iterable[Landing],
    *,
    staged_bytes: int = 0,
    meanwhile: Iterable[object] = (),
) -> None:
    """Fetch all of them, several at a time; those that need a buffer have at most `staged_bytes` each.

    The steps of `meanwhile` are taken while they are under way. When this returns or raises, nothing writes to the
    memory any more, unless it raises the `OssTimeoutError` of `RunningTasks.abandon`.
    """
    staging = _Staging(landings, staged_bytes)
    most = max(MAX_STAGED_BYTES // staging.buffer_bytes, 1) if staged_bytes else None
    source.read_spans(staging.targets(), meanwhile=meanwhile, landed=staging.landed, most=most)


class _Staging:
    """The buffers of one `fetch`. Its methods are called on the thread that fetches."""

    def __init__(self, landings: Iterable[Landing], staged_bytes: int) -> None:
        self._landings = landings
        self.buffer_bytes = -(-staged_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        self._free: list[torch.Tensor] = []
        self._under_way: dict[ByteSpan, tuple[torch.Tensor, Callable[[torch.Tensor], object]]] = {}

    def targets(self) -> Iterator[tuple[ByteSpan, Memory]]:
        for span, target, take in self._landings:
            if target is None:
                assert take is not None
                buffer = self._free.pop() if self._free else uninitialised((self.buffer_bytes,), torch.uint8)
                self._under_way[span] = buffer, take
                target = memory(buffer)[: span.size]
            yield span, target

    def landed(self, span: ByteSpan) -> None:
        if span in self._under_way:
            buffer, take = self._under_way.pop(span)
            take(buffer)
            self._free.append(buffer)


class Scatter:
    """Tensors that stand side by side in a file, to which bytes are copied. Each is given with its first byte."""

    def __init__(self, places: Sequence[tuple[int, torch.Tensor]]) -> None:
        self._starts = [start for start, _ in places]
        self._targets = [octets(tensor) for _, tensor in places]

    def landings(self, span: ByteSpan) -> Iterator[Landing]:
        """Yield what brings `span`, which is all of the tensors' bytes or less; no buffer needs more than 4 MiB."""
        for cut_span in cut(span, STAGED_BYTES):
            yield Landing(cut_span, None, partial(self.take, cut_span))

    def take(self, span: ByteSpan, data: torch.Tensor) -> None:
        """Copy the bytes of `span`, with which `data` begins."""
        position = span.start
        number = bisect_right(self._starts, position) - 1
        while position < span.stop:
            at = position - self._starts[number]
            target = self._targets[number][at : at + span.stop - position]
            here = position - span.start
            target.copy_(data[here : here + target.numel()])
            position += target.numel()
            number += 1


def load(
    source: ObjectSource, header: Header, kinds: Mapping[str, TensorKind], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return all tensors of a file, in the order of its header. All bytes are checked when the last one has come."""
    tensors = {name: new_tensor(kind, device) for name, kind in kinds.items()}
    places = [(stored, tensors[name]) for name, stored in header.in_file_order() if stored.start < stored.stop]
    if not places:
        return tensors
    data = ByteSpan(header.data_start, places[-1][0].stop)
    # What came with the header is there already.
    held = ByteSpan(data.start, max(min(FIRST_BYTES, data.stop), data.start))
    begin, rest = _read(source, held), ByteSpan(held.stop, data.stop)
    if device.type == "cpu":
        views = [memory(tensor) for _, tensor in places]
        target = Pieces(views)
        fill(target, 0, memoryview(begin))
        spans = cut(rest, request_bytes(rest.size, source.concurrency))
        landings = (Landing(span, part(target, span.start - data.start, span.stop - data.start)) for span in spans)
        fetch(source, landings, meanwhile=prefault(views))
    else:
        scatter = Scatter([(stored.start, tensor) for stored, tensor in places])
        if begin:
            scatter.take(held, torch.frombuffer(begin, dtype=torch.uint8))
        fetch(source, scatter.landings(rest), staged_bytes=STAGED_BYTES)
    return tensors


def load_one(source: ObjectSource, stored: StoredTensor, kind: TensorKind, device: torch.device) -> torch.Tensor:
    """Return one tensor of a file."""
    span = ByteSpan(stored.start, stored.stop)
    if device.type != "cpu" and span.size > STAGED_BYTES:
        tensor = new_tensor(kind, device)
        fetch(source, Scatter([(span.start, tensor)]).landings(span), staged_bytes=STAGED_BYTES)
        return tensor
    tensor = new_tensor(kind, torch.device("cpu"))
    if span.size:
        source.begin_read(span.start)
        source.read_into(span.start, memory(tensor))
    return tensor.to(device)


# Torch copies and indexes tensors of these dtypes, but not of all others that have as many bytes.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same memory as a tensor of integers as large as its elements."""
    return tensor.view(_INTEGERS[tensor.dtype.itemsize])


def load_part(
    source: ObjectSource, start: int, kind: TensorKind, axes: Sequence[Axis], device: torch.device
) -> torch.Tensor:
    """Return what `axes` want of a tensor whose first byte is at `start` of the file."""
    item_bytes = kind.dtype.itemsize
    plan = SlicePlan(kind.shape, axes, item_bytes, max_gap_bytes=SKIP_BYTES, max_block_bytes=STAGED_BYTES)
    result = new_tensor(TensorKind(kind.dtype, tuple(map(len, axes))), device)
    blocks = list(plan.blocks())
    if len(blocks) == 1 and blocks[0].is_whole and result.is_cpu:
        position = start + blocks[0].span.start
        source.begin_read(position)
        source.read_into(position, memory(result))
    elif blocks:
        loaded = _PartOfTensor(plan, start, result)
        fetch(source, loaded.landings(blocks), staged_bytes=loaded.staged_bytes(blocks))
    return result


class _PartOfTensor:
    """A part of a tensor, while the blocks of its plan come."""

    def __init__(self, plan: SlicePlan, start: int, result: torch.Tensor) -> None:
        self._plan, self._start, self._item_bytes = plan, start, result.dtype.itemsize
        self._result = as_integers(result).view(plan.shape)
        self._octets = octets(result)
        self._memory = memory(result) if result.is_cpu else None
        behind = range(plan.split + 1, len(plan.axes))
        self._inner = [self._laid_out(number, 0, plan.shape[number]) for number in behind]

    def staged_bytes(self, blocks: Iterable[SliceBlock]) -> int:
        """Return how large a buffer must be; 0 if none is needed."""
        needed = (block.span.size for block in blocks if self._memory is None or not block.is_whole)
        return min(max(needed, default=0), STAGED_BYTES)

    def landings(self, blocks: Iterable[SliceBlock]) -> Iterator[Landing]:
        """Yield what is to be fetched: blocks that are whole go straight into the result, if it is in CPU memory."""
        for block in blocks:
            span = ByteSpan(self._start + block.span.start, self._start + block.span.stop)
            if not block.is_whole:
                yield Landing(span, None, partial(self._take, block))
                continue
            target = self._plan.target_start_bytes(block)
            for cut_span in cut(span, STAGED_BYTES):
                at = target + cut_span.start - span.start
                if self._memory is not None:
                    yield Landing(cut_span, self._memory[at : at + cut_span.size])
                else:
                    yield Landing(cut_span, None, partial(self._take_whole, at, cut_span.size))

    def _take_whole(self, at: int, size_bytes: int, data: torch.Tensor) -> None:
        self._octets[at : at + size_bytes].copy_(data[:size_bytes])

    def _take(self, block: SliceBlock, data: torch.Tensor) -> None:
        """Copy what is wanted of a block, with which `data` begins."""
        laid_out = [self._laid_out(self._plan.split, block.first, block.last), *self._inner]
        sizes, strides = [size for size, _, _ in laid_out], [stride for _, stride, _ in laid_out]
        found = data.view(self._result.dtype).as_strided(sizes, strides)
        for dimension, (_, _, picked) in enumerate(laid_out):
            if picked is not None:
                found = found.index_select(dimension, picked)
        self._result[block.outer][block.first : block.last].copy_(found)

    def _laid_out(self, number: int, first: int, last: int) -> tuple[int, int, torch.Tensor | None]:
        """Return how indices of an axis lie in a block: how many, how many elements apart, and which are wanted."""
        axis, stride = self._plan.axes[number][first:last], self._plan.strides[number] // self._item_bytes
        if isinstance(axis, range):
            return len(axis), axis.step * stride, None
        return axis[-1] - axis[0] + 1, stride, torch.tensor(axis) - axis[0]
