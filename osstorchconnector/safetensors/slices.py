"""Which bytes of a tensor a part of it takes. No I/O, and no torch.

What is wanted is chosen for each axis by itself: indices in ascending order, each once. A `SlicePlan` has blocks, each
a run of bytes. A block is whole if all its bytes are wanted. Otherwise there are unwanted bytes between the wanted
ones, so few at a time that a request for each piece would cost more than these bytes do.

    axes      0 ... split - 1      split             split + 1 ...
    blocks    one for each index   some indices, as  all that is wanted
                                   they are near
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..protocol.values import ByteSpan

Axis = range | tuple[int, ...]  # the indices that are wanted, ascending, each once


class SliceBlock(NamedTuple):
    """Bytes of a tensor: `span` counts from its first byte.

    In the result they are at `outer` of the first axes and from `first` to `last` of the next one.
    """

    span: ByteSpan
    outer: tuple[int, ...]
    first: int
    last: int
    is_whole: bool


class SlicePlan:
    """The blocks that bring a part of a tensor.

    `shape` is that of the tensor, of elements of `item_bytes`. Up to `max_gap_bytes` that nobody wants are fetched
    between two pieces. A block that is not whole has at most `max_block_bytes`, if one index of its axis has no more.
    """

    def __init__(
        self, shape: Sequence[int], axes: Sequence[Axis], item_bytes: int, *, max_gap_bytes: int, max_block_bytes: int
    ) -> None:
        # An axis of one index before all others: blocks are made of its indices where all other axes are folded.
        self.axes: tuple[Axis, ...] = (range(1), *axes)
        self.strides = _strides((1, *shape), item_bytes)
        self.shape = tuple(map(len, self.axes))
        self._item_bytes, self._max_gap_bytes, self._max_block_bytes = item_bytes, max_gap_bytes, max_block_bytes
        self.is_empty = 0 in self.shape
        self.split = len(axes)
        if not self.is_empty:
            while self.split and self._is_one_block(self.split):
                self.split -= 1

    def blocks(self) -> Iterator[SliceBlock]:
        """Yield the blocks in the order of their bytes."""
        if self.is_empty:
            return
        split = self.split
        axis, stride = self.axes[split], self.strides[split]
        inner_start = self._first_bytes(split + 1)
        groups = list(self._groups(split))
        for outer in itertools.product(*map(range, self.shape[:split])):
            start = inner_start + sum(self.axes[number][at] * self.strides[number] for number, at in enumerate(outer))
            for first, last in groups:
                span_bytes = self._hull_bytes(split, first, last)
                begin = start + axis[first] * stride
                is_whole = span_bytes == self.wanted_bytes(last - first)
                yield SliceBlock(ByteSpan(begin, begin + span_bytes), outer, first, last, is_whole)

    def target_start_bytes(self, block: SliceBlock) -> int:
        """Return where the bytes of a block that is whole belong in the result."""
        number = 0
        for size, at in zip(self.shape, (*block.outer, block.first), strict=False):
            number = number * size + at
        return self.wanted_bytes(number)

    def wanted_bytes(self, count: int) -> int:
        """Return the bytes that are wanted of `count` indices of the axis that blocks are made of."""
        return count * math.prod(self.shape[self.split + 1 :]) * self._item_bytes

    def _is_one_block(self, number: int) -> bool:
        """Say whether all that is wanted of one index of the axis before `number` comes as one block."""
        return sum(1 for _ in itertools.islice(self._groups(number), 2)) == 1

    def _groups(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield which indices of an axis come together: the places of the first one, and behind the last one."""
        axis = self.axes[number]
        one_bytes = self._hull_bytes(number, 0, 1)
        is_inner_whole = one_bytes == math.prod(self.shape[number + 1 :]) * self._item_bytes
        if isinstance(axis, range):
            yield from self._even_groups(number, one_bytes, is_inner_whole)
            return
        first, is_whole = 0, is_inner_whole
        for place in range(1, len(axis)):
            gap_bytes = (axis[place] - axis[place - 1]) * self.strides[number] - one_bytes
            grown_bytes = self._hull_bytes(number, first, place + 1)
            stays_whole = is_whole and not gap_bytes
            if gap_bytes > self._max_gap_bytes or not (stays_whole or grown_bytes <= self._max_block_bytes):
                yield first, place
                first, is_whole = place, is_inner_whole
            else:
                is_whole = stays_whole
        yield first, len(axis)

    def _even_groups(self, number: int, one_bytes: int, is_inner_whole: bool) -> Iterator[tuple[int, int]]:
        axis = self.axes[number]
        assert isinstance(axis, range)
        step_bytes = axis.step * self.strides[number]
        gap_bytes = step_bytes - one_bytes
        if len(axis) == 1 or gap_bytes > self._max_gap_bytes:
            count = 1
        elif is_inner_whole and not gap_bytes:
            count = len(axis)
        else:
            count = max((self._max_block_bytes - one_bytes) // step_bytes + 1, 1)
        for first in range(0, len(axis), count):
            yield first, min(first + count, len(axis))

    def _hull_bytes(self, number: int, first: int, last: int) -> int:
        """Return how many bytes there are from the first wanted one to the last one, of these indices of an axis."""
        axis = self.axes[number]
        inner_bytes = sum(
            (axis[-1] - axis[0]) * stride
            for axis, stride in zip(self.axes[number + 1 :], self.strides[number + 1 :], strict=True)
        )
        return (axis[last - 1] - axis[first]) * self.strides[number] + inner_bytes + self._item_bytes

    def _first_bytes(self, number: int) -> int:
        """Return where the first wanted byte is, counted from the axes that are `number` and behind."""
        pairs = zip(self.axes[number:], self.strides[number:], strict=True)
        return sum(axis[0] * stride for axis, stride in pairs)


def _strides(shape: Sequence[int], item_bytes: int) -> tuple[int, ...]:
    """Return how many bytes apart the indices of each axis are."""
    strides = [item_bytes]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides))
