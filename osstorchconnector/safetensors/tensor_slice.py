"""A tensor of which parts are fetched: an index, as torch and numpy take it, becomes what is wanted of each axis."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any

import torch

from ..tensors.isolation import outside_contexts
from ..tensors.memory import Shape
from .header import StoredTensor
from .loading import as_integers
from .slices import Axis

# What an item of an index is once it was looked at; a bool adds an axis, a tensor of numbers takes one.
_Item = int | slice | EllipsisType | bool | torch.Tensor | None


class TensorSlice:
    """A tensor of a file, not fetched yet: `slice[index]` fetches what the index takes, and little more.

    The index is what tensors take: numbers, slices, `...`, `None`, lists and tensors of numbers, masks, and tuples of
    these. Rows that are near each other are fetched with one request, and several requests run at a time.
    """

    def __init__(self, stored: StoredTensor, shape: Shape, load: Callable[[Sequence[Axis]], torch.Tensor]) -> None:
        self._stored, self._shape, self._load = stored, shape, load

    def get_shape(self) -> list[int]:
        """Return the shape that the file states. An F4 tensor has half as many elements in torch: two in each byte."""
        return list(self._stored.shape)

    def get_dtype(self) -> str:
        """Return the dtype as the file states it, such as `"BF16"`."""
        return self._stored.dtype

    @outside_contexts
    def __getitem__(self, index: Any, /) -> torch.Tensor:
        """Return what a tensor would return for this index.

        Raises `IndexError`, `TypeError` and `ValueError` as a tensor does (a slice's step must be positive), and the
        errors of `OssReader`.
        """
        axes, rest = wanted(index, self._shape)
        part = self._load(axes)
        if all(isinstance(item, slice) for item in rest):
            return part
        return as_integers(part)[rest].view(part.dtype)


def wanted(index: Any, shape: Shape) -> tuple[list[Axis], tuple[Any, ...]]:
    """Return which indices of each axis an index takes, and the index to take of what they bring.

    Of `tensor`, an array of that shape, `tensor[index]` is `tensor[numpy.ix_(*axes)][rest]`.
    """
    items = _items(index if isinstance(index, tuple) else (index,))
    missing = len(shape) - sum(map(_taken_axes, items))
    if missing < 0:
        raise IndexError(f"too many indices for a tensor of {len(shape)} dimensions: {len(shape) - missing}")
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    axes: list[Axis] = []
    rest: list[Any] = []
    for item in items:
        if item is Ellipsis:
            axes += [range(size) for size in shape[len(axes) : len(axes) + missing]]
            rest += [slice(None)] * missing
        elif not _taken_axes(item):
            rest.append(item)
        elif isinstance(item, torch.Tensor) and item.dtype == torch.bool:
            _check_mask(item, shape[len(axes) : len(axes) + item.ndim])
            for numbers in item.nonzero(as_tuple=True):
                _add(numbers, shape[len(axes)], axes, rest)
        else:
            _add(item, shape[len(axes)], axes, rest)
    return axes, tuple(rest)


def _add(item: Any, size: int, axes: list[Axis], rest: list[Any]) -> None:
    """Add what an item takes of the next axis, which has `size` indices."""
    if isinstance(item, slice):
        if item.step is not None and operator.index(item.step) <= 0:
            raise ValueError("step must be greater than zero")
        axes.append(range(*item.indices(size)))
        rest.append(slice(None))
    elif isinstance(item, int):
        if not -size <= item < size:
            raise IndexError(f"index {item} is out of bounds for dimension {len(axes)} with size {size}")
        axes.append(range(item % size, item % size + 1))
        rest.append(0)
    else:
        if item.numel() and not (-size <= int(item.min()) and int(item.max()) < size):
            raise IndexError(f"an index is out of bounds for dimension {len(axes)} with size {size}")
        positive = torch.where(item < 0, item + size, item)
        found, places = torch.unique(positive, return_inverse=True)
        axes.append(tuple(found.tolist()))
        rest.append(places)


def _items(index: tuple[Any, ...]) -> list[_Item]:
    found = [_item(item) for item in index]
    if sum(1 for item in found if item is Ellipsis) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    return found


def _item(item: Any) -> _Item:
    if item is None or item is Ellipsis or isinstance(item, (bool, int, slice)):
        return item
    if hasattr(item, "__index__") and not getattr(item, "ndim", 0) and getattr(item, "dtype", None) != torch.bool:
        return operator.index(item)
    if isinstance(item, (str, bytes)):
        raise TypeError(f"a tensor's index can't be a {type(item).__name__}: {item!r:.100}")
    numbers = torch.as_tensor(item, device="cpu")
    if not numbers.numel() and not isinstance(item, torch.Tensor):
        numbers = numbers.long()  # torch takes an empty list for one of floats
    if numbers.dtype == torch.bool:
        return numbers if numbers.ndim else bool(numbers)
    if numbers.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8):
        raise IndexError(f"tensors used as indices must be of integers or bool, not {numbers.dtype}")
    return numbers.long()


def _taken_axes(item: _Item) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if isinstance(item, torch.Tensor) and item.dtype == torch.bool else 1


def _check_mask(mask: torch.Tensor, shape: Shape) -> None:
    if tuple(mask.shape) != shape:
        raise IndexError(f"a mask of shape {list(mask.shape)} does not fit dimensions of shape {list(shape)}")
