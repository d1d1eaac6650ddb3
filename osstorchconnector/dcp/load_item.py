"""One item of a load plan, a tensor or an object, on its way from a file into its target.

How a large tensor arrives: its bytes go directly into the target's memory. The bytes around them go into a buffer.

    file       ... | head |      the tensor's bytes      | tail | ...
                      |                  |                  |          `segments`: what to fetch, in ranges
                   staging            target             staging       where `loading` lets the ranges land
                      |                  |                  |
                   receive          receive_crc          receive       a range has come
                      |                  |                  |
                      '-- as expected? --+-- same CRC-32? --'          `finish`
                                         |
                                   commit_tensor                       the planner is told

The bytes of a small tensor, of one on another device, and of a part that is no block of its tensor are staged too, and
copied. An object, and a tensor that is not stored as `torch.save` stores plain ones, is staged whole and decoded.

An item is in one of these states; only its own methods change it.

    PLANNED ---expect_range---> FETCHING ---end_range, the last one---> ARRIVED
       |                                                                   |
       |  finish, if it needs no bytes                                     |  finish
       '-------------------------------------------------------------------+---> DONE       the target is filled
                                                                           '---> REFUSED    `finish` has raised

All methods are called on the thread that loads. Loop threads only write bytes to target and staging memory, and the
queue through which a request ends makes these writes visible before `receive` is called.
"""

from __future__ import annotations

import enum
import io
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint._extension import ExtensionRegistry
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlanner, ReadItem

from ..errors import OssIntegrityError
from ..protocol.checksum import combine_crc32
from ..protocol.values import ByteSpan
from ..uri import OssUri
from .allowed import AllowList
from .archive import Archive, stated_crc
from .decoding import check_records, decode_tensor, restored, strided, vet_object
from .segments import Segment, Slice, slice_of
from .tensors import QUANTISED_DTYPES, contiguous, copy_into, fill, is_plain, tensor_archive, writable_memory

# From this size on a tensor's bytes go straight into the target; fewer are staged and copied, which costs less than
# receiving them by themselves.
MIN_DIRECT_BYTES = 64 * 1024
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
    tensor_bytes: int

    @property
    def where(self) -> str:
        return f"{self.fqn} in {self.uri}"

    @property
    def is_raw(self) -> bool:
        """True for bytes of a safetensors file: nothing stands around them."""
        return self.dtype is not None and not self.descriptors and self.length == self.tensor_bytes

    def archive(self) -> Archive | None:
        """Return the archive that the item is, unless it is unusual; None if it can't be a usual one."""
        if self.dtype is None or self.dtype in QUANTISED_DTYPES or self.descriptors:
            return None
        if self.is_raw or not self.tensor_bytes:
            return None
        archive = tensor_archive(self.dtype, self.shape)
        return archive if archive.size == self.length else None


class LoadContext(NamedTuple):
    """How items are read, the same for all of a load."""

    planner: LoadPlanner
    registry: ExtensionRegistry
    allowed: AllowList | None  # None allows anything


class LoadState(enum.Enum):
    """Where an item is on its way; the module's docstring has the transitions."""

    PLANNED = enum.auto()
    FETCHING = enum.auto()
    ARRIVED = enum.auto()
    DONE = enum.auto()
    REFUSED = enum.auto()


class LoadItem:
    """An item that is to be read; see the module for its way and its states.

    `size_bytes` are to be fetched for it. `checksummed` are the bytes whose CRC-32 it needs, None if it needs none.
    """

    __slots__ = (
        "_archive",
        "_context",
        "_crcs",
        "_data",
        "_direct",
        "_is_usual",
        "_outstanding",
        "_request",
        "_slice",
        "_staged",
        "_staged_spans",
        "_stored",
        "_target",
        "_whole",
        "checksummed",
        "size_bytes",
        "state",
    )  # fmt: skip

    def __init__(self, request: ReadItem, stored: StoredItem, context: LoadContext) -> None:
        self.state = LoadState.PLANNED
        self._request, self._stored, self._context = request, stored, context
        self._target: torch.Tensor | None = None
        self._outstanding = 0  # ranges that have not come
        self._staged: dict[int, memoryview] = {}  # what has come to be staged, by its start in the file
        self._crcs: list[tuple[int, int, int]] = []  # start, size and CRC-32 of what has come of the tensor's bytes
        # Where the item is in the file, and in it the tensor's bytes, if it is as usual.
        self._archive = archive = stored.archive()
        self._whole = ByteSpan(stored.start, stored.start + stored.length)
        start = stored.start + (len(archive.head) if archive is not None else 0)
        self._data = ByteSpan(start, start + stored.tensor_bytes)
        self._is_usual = request.type != LoadItemType.BYTE_IO and (archive is not None or stored.is_raw)
        # What is needed of it: `_slice` is None for all elements, `_direct` for a tensor that is copied.
        self._slice: Slice | None = None
        self._direct, self._staged_spans = self._plan() if self._is_usual else (None, [self._whole])
        self.checksummed = self._data if archive is not None and self._slice is None else None
        self.size_bytes = sum([stop - start for start, stop in self._staged_spans])
        if self._direct is not None:
            self.size_bytes += self._direct[0].size

    # PLANNED: what to fetch

    def _plan(self) -> tuple[tuple[ByteSpan, memoryview] | None, list[ByteSpan]]:
        """Return what of the item goes straight into the target, with the target's memory, and what is staged."""
        data, whole = self._data, self._whole
        if 0 in self._request.lengths:
            return None, []
        needed = data
        if tuple(self._request.lengths) != self._stored.shape:
            strides = contiguous(self._stored.shape)
            self._slice = slice_of(strides, self._request.storage_offsets, self._request.lengths)
            width = self._element_bytes
            needed = ByteSpan(data.start + self._slice.start * width, data.start + self._slice.stop * width)
        if needed.size >= MIN_DIRECT_BYTES and (self._slice is None or self._slice.is_block) and self._can_be_filled():
            around = [ByteSpan(whole.start, data.start)]
            if self._slice is None:
                around.append(ByteSpan(data.stop, whole.stop))
            return (needed, writable_memory(self._resolved())), [span for span in around if span.stop > span.start]
        if self._slice is None:
            return None, [whole]
        return None, [span for span in (ByteSpan(whole.start, data.start), needed) if span.stop > span.start]

    def segments(self, number: int) -> list[Segment]:
        """Return the parts of the file that are to be fetched for it, as those of owner `number`."""
        found = [Segment(start, stop, number) for start, stop in self._staged_spans]
        if self._direct is not None:
            (start, stop), _ = self._direct
            found.append(Segment(start, stop, number, True))
        return found

    def expect_range(self) -> None:
        """Another range will bring bytes of it."""
        assert self.state in (LoadState.PLANNED, LoadState.FETCHING)
        self.state = LoadState.FETCHING
        self._outstanding += 1

    # FETCHING: what comes

    def target_memory(self, segment: Segment) -> memoryview:
        """Return the target's memory for a direct segment."""
        assert self._direct is not None
        (first, _), view = self._direct
        return view[segment.start - first : segment.stop - first]

    def receive(self, start: int, staged: memoryview) -> None:
        """Take what has come of a segment that is staged; the memory stays as it is until `lets_go_of_staging`."""
        self._staged[start] = staged

    def receive_crc(self, span: ByteSpan, crc: int) -> None:
        """Take the CRC-32 of a part of `checksummed` that has come."""
        self._crcs.append((span.start, span.stop - span.start, crc))

    def end_range(self) -> bool:
        """A range has come, and all of it was received; True if it was the last."""
        assert self.state is LoadState.FETCHING
        self._outstanding -= 1
        if self._outstanding:
            return False
        self.state = LoadState.ARRIVED
        return True

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
        assert self.state in (LoadState.PLANNED, LoadState.ARRIVED)
        self.state = LoadState.REFUSED
        if not self._is_usual:
            self._decode(self._staged[self._whole.start])
        elif 0 in self._request.lengths:
            self._commit()
        elif self._archive is None or self._is_as_written(self._archive):
            if self._direct is None:
                self._copy()
            self._commit()
        else:
            whole = self._whole_so_far()
            self._decode(fetch_whole(self._whole) if whole is None else whole)
        self._staged.clear()
        self.state = LoadState.DONE

    def _is_as_written(self, archive: Archive) -> bool:
        """Say whether the bytes around the data are what they should be; raises if the data's CRC-32 is wrong."""
        # Memoryviews are compared element by element, bytes all at once.
        if bytes(self._staged[self._whole.start][: len(archive.head)]) != archive.head:
            return False
        if self._slice is not None:
            return True
        tail_start = self._stored.length - len(archive.tail_template)
        tail = self._staged[self._whole.start][tail_start:] if self._direct is None else self._staged[self._data.stop]
        stated = stated_crc(tail)
        if stated is None:
            return False
        crc = 0
        for _, size, part_crc in sorted(self._crcs):
            crc = combine_crc32(crc, part_crc, size)
        if stated and stated != crc:  # 0: written with torch.serialization.set_crc32_options(False)
            raise OssIntegrityError(
                f"{self._stored.where}: the tensor's bytes have CRC-32 {crc:08x}, they were written with {stated:08x}"
            )
        return True

    def _copy(self) -> None:
        """Copy the tensor's bytes, all of which are staged, into the target."""
        assert self._stored.dtype is not None
        if self._slice is None:
            start = self._data.start - self._whole.start
            octets = self._staged[self._whole.start][start : start + self._stored.tensor_bytes]
        else:
            octets = self._staged[self._data.start + self._slice.start * self._element_bytes]
        target = self._resolved()
        if (self._slice is None or self._slice.is_block) and self._can_be_filled():
            fill(target, octets)
        else:
            strides = contiguous(self._stored.shape)
            copy_into(target, strided(octets, self._stored.dtype, tuple(self._request.lengths), strides))

    def _whole_so_far(self) -> memoryview | None:
        """Return all bytes of the item, if all have come: those in the target too."""
        if self._direct is None:
            staged = self._staged.get(self._whole.start)
            return staged if staged is not None and len(staged) == self._stored.length else None
        if self._slice is not None:
            return None
        data, view = self._direct
        tail = self._staged.get(data.stop, memoryview(b""))
        return memoryview(bytearray().join((self._staged[self._whole.start], view, tail)))

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

    def _can_be_filled(self) -> bool:
        """True if the target's memory takes the bytes as they are stored."""
        target = self._resolved()
        return target.is_cpu and target.dtype == self._stored.dtype and is_plain(target) and target.is_contiguous()

    @property
    def _element_bytes(self) -> int:
        assert self._stored.dtype is not None
        return self._stored.dtype.itemsize

    def _commit(self) -> None:
        self._context.planner.commit_tensor(self._request, self._resolved())
