"""One item of a load plan, a tensor or an object, on its way from a file into its target.

How a large tensor arrives: its bytes go directly into the target's memory. The bytes around them go into a buffer.

    file       ... | head |      the tensor's bytes      | tail | ...
                      |                  |                  |          `segments`: what to fetch, in ranges
                   staging            target             staging       where `loading` lets the ranges land
                      |                  |                  |
                   receive      receive, receive_crc     receive       a range has come
                      |                  |                  |
                      '-- as expected? --+-- same CRC-32? --'          `finish`
                                         |
                                   commit_tensor                       the planner is told

The bytes of a small tensor, of one on another device, and of a part that is no block of its tensor are staged too, and
copied. An object, and a tensor that is not stored as `torch.save` stores plain ones, is staged whole and decoded.

An item is in one of these states; only its own methods change it.

    FETCHING ---receive, of the last bytes---> ARRIVED
       |                                          |
       |  finish, if it needs no bytes            |  finish
       '------------------------------------------+---> DONE       the target is filled
                                                  '---> REFUSED    `finish` has raised

All methods are called on the thread that loads. Loop threads only write bytes to target and staging memory, and the
queue through which a request ends makes these writes visible before `receive` is called.
"""

from __future__ import annotations

import enum
import functools
import io
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlanner, ReadItem

from ..errors import OssIntegrityError
from ..protocol.checksum import combine_crc32
from ..protocol.values import ByteSpan
from ..tensors.memory import contiguous, copy_into, fill, is_plain, writable_memory
from ..uri import OssUri
from .allowed import AllowList
from .archive import stated_crc
from .decoding import check_records, decode_tensor, restored, strided, vet_object
from .segments import Segment, Slice, slice_of
from .tensors import QUANTISED_DTYPES, tensor_archive
from .torch_dcp import ExtensionRegistry

# From this size on a tensor's bytes go straight into the target; fewer are staged and copied. What goes straight into a
# target is received by itself, and so is what stands before it: 25 more calls in Python, which take as long as copying
# 64 KiB (measured), and hold the interpreter's lock.
MIN_DIRECT_BYTES = 128 * 1024
# A tensor's zip head and tail are smaller than this.
MAX_KEPT_BYTES = 64 * 1024


class StoredItem(NamedTuple):
    """What the metadata says of an item: its place in a file and, of a tensor, what it should be."""

    fqn: str
    uri: OssUri
    start: int
    length: int
    descriptors: tuple[str, ...]
    dtype: torch.dtype | None  # None for an object
    shape: tuple[int, ...]

    @property
    def where(self) -> str:
        return f"{self.fqn} in {self.uri}"


class Layout(NamedTuple):
    """How the item of a tensor is laid out: which bytes stand before the tensor's own.

    It is an archive as `torch.save` writes it, with a tail; or in a safetensors file the tensor's bytes alone.
    """

    is_archive: bool
    head: bytes
    data_start: int
    data_bytes: int


@functools.lru_cache(maxsize=4096)
def usual_layout(dtype: torch.dtype, shape: tuple[int, ...], length: int) -> Layout | None:
    """Return how a tensor's item of `length` bytes is laid out, if it is as usual; None if it can't be."""
    data_bytes = math.prod(shape) * dtype.itemsize
    if length == data_bytes:
        return Layout(False, b"", 0, data_bytes)
    if dtype in QUANTISED_DTYPES or not data_bytes:
        return None
    archive = tensor_archive(dtype, shape)
    return Layout(True, archive.head, len(archive.head), data_bytes) if archive.size == length else None


class LoadContext(NamedTuple):
    """How items are read, the same for all of a load."""

    planner: LoadPlanner
    registry: ExtensionRegistry
    allowed: AllowList | None  # None allows anything


class LoadState(enum.Enum):
    """Where an item is on its way; the module's docstring has the transitions."""

    FETCHING = enum.auto()
    ARRIVED = enum.auto()
    DONE = enum.auto()
    REFUSED = enum.auto()


class LoadItem:
    """An item that is to be read; see the module for its way and its states.

    It stands in its file from `start` to `stop`. `size_bytes` are to be fetched for it. `checksummed` are the bytes
    whose CRC-32 it needs, None if it needs none.
    """

    __slots__ = (
        "_context",
        "_crcs",
        "_direct",
        "_layout",
        "_missing_bytes",
        "_request",
        "_slice",
        "_staged",
        "_staged_spans",
        "_stored",
        "_target",
        "checksummed",
        "size_bytes",
        "start",
        "state",
        "stop",
    )  # fmt: skip

    def __init__(self, request: ReadItem, stored: StoredItem, context: LoadContext) -> None:
        _, _, start, length, descriptors, dtype, shape = stored
        self.state = LoadState.FETCHING
        self._request, self._stored, self._context = request, stored, context
        self.start, self.stop = start, start + length
        self._target: torch.Tensor | None = None
        self._staged: dict[int, memoryview] = {}  # what has come to be staged, by its start in the file
        self._crcs: list[tuple[int, int, int]] = []  # start, size and CRC-32 of what has come of the tensor's bytes
        self._layout = layout = None if dtype is None or descriptors else usual_layout(dtype, shape, length)
        # What is needed of it: `_slice` is None for all elements, `_direct` for a tensor that is copied.
        self._slice: Slice | None = None
        self._direct: tuple[ByteSpan, memoryview] | None = None
        self._staged_spans: list[tuple[int, int]] = [(start, self.stop)]
        self.checksummed: ByteSpan | None = None
        self.size_bytes = length
        if layout is not None:
            self._plan(layout)
        self._missing_bytes = self.size_bytes

    # what to fetch

    def _plan(self, layout: Layout) -> None:
        """Find out what of the tensor is needed, and what of that goes straight into the target."""
        lengths = tuple(self._request.lengths)
        if 0 in lengths:
            self._staged_spans, self.size_bytes = [], 0
            return
        data = ByteSpan(self.start + layout.data_start, self.start + layout.data_start + layout.data_bytes)
        if lengths != self._stored.shape:
            self._plan_slice(data, lengths)
            return
        if layout.is_archive:
            self.checksummed = data
        if layout.data_bytes >= MIN_DIRECT_BYTES and self._can_be_filled(self._resolved()):
            self._plan_direct(data, [(self.start, data.start), (data.stop, self.stop)])

    def _plan_slice(self, data: ByteSpan, lengths: tuple[int, ...]) -> None:
        found = slice_of(contiguous(self._stored.shape), self._request.storage_offsets, lengths)
        width = self._element_bytes
        needed = ByteSpan(data.start + found.start * width, data.start + found.stop * width)
        head = self.start, data.start
        self._slice = found
        if needed.size >= MIN_DIRECT_BYTES and found.is_block and self._can_be_filled(self._resolved()):
            self._plan_direct(needed, [head])
        else:
            self._stage([head, needed])

    def _plan_direct(self, needed: ByteSpan, around: list[tuple[int, int]]) -> None:
        self._direct = needed, writable_memory(self._resolved())
        self._stage(around)
        self.size_bytes += needed.size

    def _stage(self, spans: list[tuple[int, int]]) -> None:
        self._staged_spans = [(start, stop) for start, stop in spans if stop > start]
        self.size_bytes = sum([stop - start for start, stop in self._staged_spans])

    def segments(self, number: int) -> list[Segment]:
        """Return the parts of the file that are to be fetched for it, as those of owner `number`."""
        found = []
        for start, stop in self._staged_spans:
            found.append(Segment(start, stop, number))
        if self._direct is not None:
            (start, stop), _ = self._direct
            found.append(Segment(start, stop, number, True))
        return found

    def target_memory(self, segment: Segment) -> memoryview:
        """Return the target's memory for a direct segment."""
        assert self._direct is not None
        (first, _), view = self._direct
        return view[segment.start - first : segment.stop - first]

    # FETCHING: what comes

    def receive(self, start: int, stop: int, staged: memoryview | None) -> bool:
        """Take what has come of a segment: in `staged`, or in the target. Return True if nothing more is to come.

        The staging memory stays as it is until `lets_go_of_staging`.
        """
        assert self.state is LoadState.FETCHING
        if staged is not None:
            self._staged[start] = staged
        self._missing_bytes -= stop - start
        if self._missing_bytes:
            return False
        self.state = LoadState.ARRIVED
        return True

    def receive_crc(self, span: ByteSpan, crc: int) -> None:
        """Take the CRC-32 of a part of `checksummed` that has come."""
        start, stop = span
        self._crcs.append((start, stop - start, crc))

    def lets_go_of_staging(self) -> bool:
        """True if it refers to no memory that was received: while it waits for more, it copies the little it has."""
        if self.state is LoadState.FETCHING:
            if sum(map(len, self._staged.values())) > MAX_KEPT_BYTES:
                return False
            self._staged = {start: memoryview(bytes(staged)) for start, staged in self._staged.items()}
        return True

    # ARRIVED: what becomes of it

    def finish(self, fetch_whole: Callable[[ByteSpan], memoryview]) -> None:
        """Check what has come, fill the target and tell the planner.

        `fetch_whole` returns all bytes of the item. It is called if the item is laid out in another way than was
        assumed, and only a part of it has come.

        Raises `OssIntegrityError` if the bytes are not those that were written, or make no such tensor,
        `UnsafePickleError` if they name what is not allowed, and whatever the planner raises.
        """
        assert not self._missing_bytes
        self.state = LoadState.REFUSED
        layout = self._layout
        if layout is None:
            self._decode(self._staged[self.start])
        elif not self.size_bytes:
            self._commit()
        elif not layout.is_archive or self._is_as_written(layout):
            if self._direct is None:
                self._copy(layout)
            self._commit()
        else:
            whole = self._whole_so_far()
            self._decode(fetch_whole(ByteSpan(self.start, self.stop)) if whole is None else whole)
        self._staged = {}
        self.state = LoadState.DONE

    def _is_as_written(self, layout: Layout) -> bool:
        """Say whether the bytes around the data are what they should be; raises if the data's CRC-32 is wrong."""
        # Memoryviews are compared element by element, bytes all at once.
        staged = self._staged[self.start]
        if bytes(staged[: layout.data_start]) != layout.head:
            return False
        if self._slice is not None:
            return True
        data_stop = layout.data_start + layout.data_bytes
        stated = stated_crc(staged[data_stop:] if self._direct is None else self._staged[self.start + data_stop])
        if stated is None:
            return False
        crc = self._crcs[0][2] if len(self._crcs) == 1 else self._joined_crc()
        if stated and stated != crc:  # 0: written with torch.serialization.set_crc32_options(False)
            raise OssIntegrityError(
                f"{self._stored.where}: the tensor's bytes have CRC-32 {crc:08x}, they were written with {stated:08x}"
            )
        return True

    def _joined_crc(self) -> int:
        crc = 0
        for _, size, part_crc in sorted(self._crcs):
            crc = combine_crc32(crc, part_crc, size)
        return crc

    def _copy(self, layout: Layout) -> None:
        """Copy the tensor's bytes, all of which are staged, into the target."""
        start = layout.data_start
        if self._slice is None:
            octets = self._staged[self.start][start : start + layout.data_bytes]
        else:
            octets = self._staged[self.start + start + self._slice.start * self._element_bytes]
        target = self._resolved()
        if (self._slice is None or self._slice.is_block) and self._can_be_filled(target):
            fill(target, octets)
        else:
            assert self._stored.dtype is not None
            strides = contiguous(self._stored.shape)
            part = strided(octets, self._stored.dtype, tuple(self._request.lengths), strides)
            copy_into(target, part)

    def _whole_so_far(self) -> memoryview | None:
        """Return all bytes of the item, if all have come: those in the target too."""
        if self._direct is None:
            staged = self._staged.get(self.start)
            return staged if staged is not None and len(staged) == self._stored.length else None
        if self._slice is not None:
            return None
        data, view = self._direct
        tail = self._staged.get(data.stop, memoryview(b""))
        return memoryview(bytearray().join((self._staged[self.start], view, tail)))

    def _decode(self, data: memoryview) -> None:
        """Fill the target from all bytes of the item, whatever their layout."""
        where = self._stored.where
        data = restored(data, self._stored.descriptors, self._context.registry)
        if self._request.type == LoadItemType.BYTE_IO:
            check_records(data, where)
            file = io.BytesIO(data)
            if self._context.allowed is not None:
                vet_object(file, where, self._context.allowed)
            self._context.planner.load_bytes(self._request, file)
            return
        tensor = decode_tensor(data, where, self._context.allowed)
        if tuple(tensor.shape) != self._stored.shape:
            raise OssIntegrityError(f"{where}: a tensor of {tuple(tensor.shape)}, not of {self._stored.shape}")
        part = narrow_tensor_by_index(tensor, self._request.storage_offsets, self._request.lengths)
        copy_into(self._resolved(), part)
        self._commit()

    # the target

    def _resolved(self) -> torch.Tensor:
        """Return the tensor to fill; raises if it has another size than what is to come."""
        target = self._target
        if target is None:
            target = self._context.planner.resolve_tensor(self._request)
            self._target = target = target.detach() if target.requires_grad else target
            if target.shape != tuple(self._request.lengths):
                raise OssIntegrityError(
                    f"{self._stored.where}: {tuple(self._request.lengths)} elements are to go into a tensor of "
                    f"{tuple(target.shape)}"
                )
        return target

    def _can_be_filled(self, target: torch.Tensor) -> bool:
        """True if the target's memory takes the bytes as they are stored."""
        return target.is_cpu and target.dtype == self._stored.dtype and is_plain(target) and target.is_contiguous()

    @property
    def _element_bytes(self) -> int:
        assert self._stored.dtype is not None
        return self._stored.dtype.itemsize

    def _commit(self) -> None:
        self._context.planner.commit_tensor(self._request, self._resolved())
