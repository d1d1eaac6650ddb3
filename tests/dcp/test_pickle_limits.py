"""Pickles that would take all memory are refused; honest ones, of every protocol, are not."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import Metadata

from osstorchconnector.dcp.decoding import read_tensor_pickle
from osstorchconnector.dcp.metadata import dump_metadata, load_metadata
from osstorchconnector.dcp.pickle_limits import check_opcodes
from osstorchconnector.errors import OssIntegrityError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=40,
)


@given(values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_what_python_pickles_is_let_through(value: Any, protocol: int) -> None:
    check_opcodes(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_long_texts_classes_and_many_objects_are_let_through(protocol: int) -> None:
    value = [
        b"x" * 70_000,
        "y" * 70_000,
        1 << 3000,
        collections.OrderedDict(a=torch.float32),
        [str(n) for n in range(5000)],
    ]
    check_opcodes(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", [4, 5])
def test_many_frames_and_texts_between_them_are_let_through(protocol: int) -> None:
    value = [[str(n) for n in range(30_000)], b"x" * 100_000, bytearray(70_000), [n / 3 for n in range(9000)]]
    data = pickle.dumps(value, protocol)
    assert data.count(b"\x95") > 3
    check_opcodes(data)


def test_what_torch_pickles_is_let_through() -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    check_opcodes(buffer.getvalue())


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"N" + b"p2147483647\n.",
        b"Np" + b"9" * 5000 + b"\n.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"\x80\x02X\xff\xff\xff\xffx.",
        b"N" * 100,
        b"p0P",  # a number without an end
        b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x95\x01\0\0\0\0\0\0\0NN.",  # a frame in a frame
        b"\x80\x04\x95\x02\0\0\0\0\0\0\0\x8c\x03abc.",  # a frame that ends within a text
        b"\x80\x04\x95\x03\0\0\0\0\0\0\0KKKKN.",
        b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.",
        b"\xff.",
        b"",
    ],
)
def test_bombs_and_pieces_are_refused(bomb: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        check_opcodes(bomb)
    with pytest.raises(OssIntegrityError):
        load_metadata(bomb, "here")
    assert read_tensor_pickle(bomb) is None


@given(st.binary(max_size=200))
def test_anything_is_either_refused_or_let_through(data: bytes) -> None:
    try:
        check_opcodes(data)
    except pickle.UnpicklingError:
        return
    assert b"." in data


def test_the_metadata_of_a_checkpoint_is_let_through() -> None:
    metadata = Metadata({}, storage_data={})
    assert load_metadata(dump_metadata(metadata), "here") == metadata
