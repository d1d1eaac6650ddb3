"""Slices take the indices that tensors take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.safetensors.header import StoredTensor
from osstorchconnector.safetensors.slices import Axis
from osstorchconnector.safetensors.tensor_slice import TensorSlice

WHOLE = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


def slice_of(whole: torch.Tensor, loaded: list[Sequence[Axis]] | None = None) -> TensorSlice:
    """Return a slice of a tensor that is here; `loaded` notes what is fetched."""

    def load(axes: Sequence[Axis]) -> torch.Tensor:
        if loaded is not None:
            loaded.append(axes)
        found = whole
        for dimension, axis in enumerate(axes):
            found = found.index_select(dimension, torch.tensor(list(axis), dtype=torch.int64))
        return found

    shape = tuple(whole.shape)
    return TensorSlice(StoredTensor("I64", shape, 0, whole.nbytes), shape, load)


@st.composite
def items(draw: st.DrawFn, size: int) -> Any:
    places = st.none() | st.integers(-size - 2, size + 2)
    return draw(
        st.one_of(
            st.integers(-size, size - 1),
            st.integers(-size, size - 1).map(np.int64),
            st.integers(-size, size - 1).map(torch.tensor),
            st.builds(slice, places, places, st.none() | st.integers(1, 3)),
            st.lists(st.integers(-size, size - 1), min_size=2, max_size=2),
            st.lists(st.integers(-size, size - 1), min_size=4, max_size=4).map(lambda n: torch.tensor(n).view(2, 2)),
        )
    )


@st.composite
def indices(draw: st.DrawFn) -> Any:
    count = draw(st.integers(0, 4))
    found = [draw(items(size)) for size in WHOLE.shape[:count]]
    if draw(st.booleans()) and len(found) <= 4:
        behind = draw(st.integers(0, len(found)))
        found = [*found[:behind], ..., *[draw(items(size)) for size in WHOLE.shape[behind + 4 - len(found) :]]]
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), None)
    return tuple(found) if draw(st.booleans()) or len(found) != 1 else found[0]


@given(indices())
def test_an_index_gives_what_it_gives_of_the_tensor(index: Any) -> None:
    try:
        expected = WHOLE[index]
    except IndexError:  # lists of shapes that don't go together
        with pytest.raises(IndexError):
            slice_of(WHOLE)[index]
        return
    found = slice_of(WHOLE)[index]
    assert found.shape == expected.shape and torch.equal(found, expected)


@pytest.mark.parametrize(
    "index",
    [
        WHOLE > 7,
        WHOLE[:, :, 0, 0] > 7,
        (0, WHOLE[0, :, 0, 0] > 7),
        [True, False],
        (slice(None), np.array([True, False, True])),
        [],
        True,
        (False, 0),
        torch.tensor(True),
        (torch.tensor([0, 1]), torch.tensor([[0], [2]], dtype=torch.int32)),
        (),
    ],
)
def test_masks_and_such(index: Any) -> None:
    expected, found = WHOLE[index], slice_of(WHOLE)[index]
    assert found.shape == expected.shape and torch.equal(found, expected)


@pytest.mark.parametrize(
    ("index", "kind", "words"),
    [
        (2, IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
        ((0, -4), IndexError, "index -4 is out of bounds for dimension 1 with size 3"),
        ([0, 2], IndexError, "out of bounds for dimension 0"),
        ((0, 0, 0, 0, 0), IndexError, "too many indices for a tensor of 4 dimensions: 5"),
        ((..., ...), IndexError, "single ellipsis"),
        (slice(None, None, -1), ValueError, "step must be greater than zero"),
        (1.5, IndexError, "must be of integers or bool, not torch.float32"),
        (torch.ones(2, dtype=torch.uint8), IndexError, "must be of integers or bool"),
        ("a", TypeError, "can't be a str"),
        ([True, False, True], IndexError, r"a mask of shape \[3\] does not fit dimensions of shape \[2\]"),
    ],
    ids=str,
)
def test_what_a_tensor_refuses_is_refused_before_anything_is_fetched(
    index: Any, kind: type[Exception], words: str
) -> None:
    loaded: list[Sequence[Axis]] = []
    with pytest.raises(kind, match=words):
        slice_of(WHOLE, loaded)[index]
    assert loaded == []


def test_only_what_is_wanted_is_fetched_and_that_once() -> None:
    loaded: list[Sequence[Axis]] = []
    slice_of(WHOLE, loaded)[1, [2, 0, 2], 1:3]
    assert loaded == [[range(1, 2), (0, 2), range(1, 3), range(5)]]
