"""One item of a load plan: where its bytes are, which of them are needed, and how they become the target."""

from __future__ import annotations

import io
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

# From here on a tensor's bytes land in the target, below that they are copied: to receive a few by themselves costs
# more than their copy.
DIRECT_BYTES = 64 * 1024
# What stands around a tensor is less.
MAX_KEPT_BYTES = 64 * 1024


class Saved(NamedTuple):
    """What the metadata says of an item: its place in a file and, of a tensor, what it should be."""

    fqn: str
    uri: OssUri
    start: int
    length: int
    descriptors: tuple[str, ...]
    dtype: torch.dtype | None
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
        """Return the archive that it should be; None if it can't be the usual one."""
        if self.dtype is None or self.dtype in QUANTISED_DTYPES or self.descriptors:
            return None
        if self.is_raw or not self.tensor_bytes:
            return None
        archive = tensor_archive(self.dtype, self.shape)
        return archive if archive.size == self.length else None


class Settings(NamedTuple):
    """How items are read, the same for all of a load."""

    planner: LoadPlanner
    registry: ExtensionRegistry
    allowed: AllowList | None  # None allows anything


class Wanted:
    """An item that is to be read.

    `spans` are the parts of the file that it needs in memory of the loader's, `direct` the part that lands in the
    target's own (or None). When all have come, `finish` makes the target of them. It may still turn out that the item
    is not laid out as was assumed; then `finish` returns False, and `finish_whole` wants all of its bytes.
    """

    __slots__ = (
        "_archive", "_is_usual", "_settings", "_slice", "_target", "crcs", "data", "direct", "outstanding", "pieces",
        "request", "saved", "spans", "whole",
    )  # fmt: skip

    def __init__(self, request: ReadItem, saved: Saved, settings: Settings) -> None:
        self.request, self.saved, self._settings = request, saved, settings
        self.pieces: dict[int, memoryview] = {}
        self.crcs: list[tuple[int, int, int]] = []  # start, size and CRC-32 of what has come of the data
        self.outstanding = 0
        self._target: torch.Tensor | None = None
        self._archive = saved.archive()
        self._slice: Slice | None = None
        self.direct: tuple[ByteSpan, memoryview] | None = None
        self.whole = ByteSpan(saved.start, saved.start + saved.length)
        # Where the tensor's bytes stand in the file, if the item is as usual.
        start = saved.start + (len(self._archive.head) if self._archive is not None else 0)
        self.data = ByteSpan(start, start + saved.tensor_bytes)
        self._is_usual = request.type != LoadItemType.BYTE_IO and (self._archive is not None or saved.is_raw)
        self.spans = self._plan() if self._is_usual else [self.whole]

    def segments(self, number: int) -> list[Segment]:
        """Return the parts of the file that are to be fetched for it, as those of `number`."""
        found = [Segment(start, stop, number) for start, stop in self.spans]
        if self.direct is not None:
            found.append(Segment(*self.direct[0], number, lands=True))
        return found

    def landing(self, segment: Segment) -> memoryview:
        """Return the target's memory for a segment of the part that lands there."""
        assert self.direct is not None
        (first, _), view = self.direct
        return view[segment.start - first : segment.stop - first]

    def has_let_go(self) -> bool:
        """Say whether it refers to none of the loader's memory: if it waits for more, it copies the little it has."""
        if self.outstanding:
            if sum(map(len, self.pieces.values())) > MAX_KEPT_BYTES:
                return False
            self.pieces = {start: memoryview(bytes(piece)) for start, piece in self.pieces.items()}
        return True

    @property
    def size_bytes(self) -> int:
        """How many bytes are to be fetched for it."""
        size = self.direct[0].size if self.direct is not None else 0
        for start, stop in self.spans:
            size += stop - start
        return size

    @property
    def summed(self) -> ByteSpan | None:
        """The bytes whose CRC-32 is to be held against the item's; None if there is nothing to hold it against."""
        return self.data if self._archive is not None and self._slice is None else None

    @property
    def _is_partial(self) -> bool:
        return tuple(self.request.lengths) != self.saved.shape

    def _plan(self) -> list[ByteSpan]:
        data, whole = self.data, self.whole
        wanted = data
        if 0 in self.request.lengths:
            return []
        if self._is_partial:
            strides = contiguous(self.saved.shape)
            self._slice = slice_of(strides, self.request.storage_offsets, self.request.lengths)
            width = self._element_bytes
            wanted = ByteSpan(data.start + self._slice.start * width, data.start + self._slice.stop * width)
        if wanted.size >= DIRECT_BYTES and (self._slice is None or self._slice.is_block) and self._can_land():
            assert self._target is not None
            self.direct = (wanted, writable_memory(self._target))
            around = [ByteSpan(whole.start, data.start)]
            if self._slice is None:
                around.append(ByteSpan(data.stop, whole.stop))
            return [span for span in around if span.size]
        if self._slice is None:
            return [whole]
        return [span for span in (ByteSpan(whole.start, data.start), wanted) if span.size]

    @property
    def _element_bytes(self) -> int:
        assert self.saved.dtype is not None
        return self.saved.dtype.itemsize

    def target(self) -> torch.Tensor:
        """Return the tensor to fill; raises if it has another size than what is to come."""
        if self._target is None:
            target = self._settings.planner.resolve_tensor(self.request)
            self._target = target.detach() if target.requires_grad else target
            if self._target.shape != tuple(self.request.lengths):
                raise OssIntegrityError(
                    f"{self.saved.where}: {tuple(self.request.lengths)} elements are to go into a tensor of "
                    f"{tuple(self._target.shape)}"
                )
        return self._target

    def _can_land(self) -> bool:
        target = self.target()
        return target.is_cpu and target.dtype == self.saved.dtype and is_plain(target) and target.is_contiguous()

    # when the bytes are here

    def finish(self) -> bool:
        """Fill the target; False if the item is laid out in another way than was assumed."""
        if not self._is_usual:
            self.finish_whole(self.pieces[self.saved.start])
            return True
        if 0 in self.request.lengths:
            self._commit()
            return True
        if self._archive is not None and not self._check_archive(self._archive):
            return False
        if self.direct is None:
            self._copy_usual()
        self._commit()
        return True

    def whole_so_far(self) -> memoryview | None:
        """Return all bytes of the item, if all have come: those that landed in the target too."""
        if self.direct is None:
            piece = self.pieces.get(self.saved.start)
            return piece if piece is not None and len(piece) == self.saved.length else None
        if self._slice is not None:
            return None
        data, view = self.direct
        tail = self.pieces.get(data.stop, memoryview(b""))
        return memoryview(bytearray().join((self.pieces[self.saved.start], view, tail)))

    def finish_whole(self, data: memoryview) -> None:
        """Fill the target from all bytes of the item, whatever its layout."""
        where = self.saved.where
        data = restored(data, self.saved.descriptors, self._settings.registry)
        if self.request.type == LoadItemType.BYTE_IO:
            check_records(data, where)
            file = io.BytesIO(data)
            if self._settings.allowed is not None:
                vet_object(file, where, self._settings.allowed)
            self._settings.planner.load_bytes(self.request, file)
            return
        tensor = decode_tensor(data, where, self._settings.allowed)
        if tuple(tensor.shape) != self.saved.shape:
            raise OssIntegrityError(f"{where}: a tensor of {tuple(tensor.shape)}, not of {self.saved.shape}")
        part = narrow_tensor_by_index(tensor, self.request.storage_offsets, self.request.lengths)
        copy_into(self.target(), part)
        self._commit()

    def _check_archive(self, archive: Archive) -> bool:
        """Hold what stands around the data against what should; raises if the data's CRC-32 is wrong."""
        # As bytes: views are compared byte by byte.
        if bytes(self.pieces[self.saved.start][: len(archive.head)]) != archive.head:
            return False
        if self._slice is not None:
            return True
        tail_start = self.saved.length - len(archive.tail_template)
        tail = self.pieces[self.saved.start][tail_start:] if self.direct is None else self.pieces[self.data.stop]
        stated = stated_crc(tail)
        if stated is None:
            return False
        crc = 0
        for _, size, piece_crc in sorted(self.crcs):
            crc = combine_crc32(crc, piece_crc, size)
        if stated and stated != crc:  # 0: written with torch.serialization.set_crc32_options(False)
            raise OssIntegrityError(
                f"{self.saved.where}: the tensor's bytes have CRC-32 {crc:08x}, they were written with {stated:08x}"
            )
        return True

    def _copy_usual(self) -> None:
        assert self.saved.dtype is not None
        if self._slice is None:
            start = self.data.start - self.saved.start
            octets = self.pieces[self.saved.start][start : start + self.saved.tensor_bytes]
        else:
            start = self.data.start + self._slice.start * self._element_bytes
            octets = self.pieces[start]
        target = self.target()
        if (self._slice is None or self._slice.is_block) and self._can_land():
            fill(target, octets)
        else:
            strides = contiguous(self.saved.shape)
            copy_into(target, strided(octets, self.saved.dtype, tuple(self.request.lengths), strides))

    def _commit(self) -> None:
        self._settings.planner.commit_tensor(self.request, self.target())
