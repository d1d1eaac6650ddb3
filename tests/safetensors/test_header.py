"""Headers are made as the safetensors library makes them, and refused where it refuses them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from osstorchconnector.safetensors import OssSafetensorError
from osstorchconnector.safetensors.header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    Entry,
    Header,
    header_bytes,
    make_header,
    parse_header,
)


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def parsed(file: bytes) -> Header:
    length = header_bytes(file[:8], len(file), "here")
    return parse_header(file[8 : 8 + length], len(file), "here")


def is_accepted_by_the_library(file: bytes) -> bool:
    try:
        deserialize(file)
    except SafetensorError:
        return False
    return True


def is_accepted(file: bytes) -> bool:
    try:
        parsed(file)
    except OssSafetensorError:
        return False
    return True


def tensor(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__")
entries = st.dictionaries(
    names, st.tuples(st.sampled_from(list(DTYPE_BITS)), st.lists(st.integers(0, 3), max_size=3)), max_size=6
).map(
    lambda found: [
        Entry(name, dtype, (*shape, 8) if DTYPE_BITS[dtype] < 8 else tuple(shape))
        for name, (dtype, shape) in found.items()
    ]
)
metadata = st.none() | st.dictionaries(names, names, max_size=3)


@given(entries, metadata)
def test_what_is_made_is_read_again(made: list[Entry], texts: dict[str, str] | None) -> None:
    head, order = make_header(made, texts)
    size = len(head) + sum(entry.size_bytes for entry in made)
    header = parsed(head + bytes(size - len(head)))
    assert header.metadata == (texts or {})
    assert list(header.tensors) == [name for name, _ in header.in_file_order()] == order
    assert {name: (found.dtype, found.shape) for name, found in header.tensors.items()} == {
        name: (dtype, shape) for name, dtype, shape in made
    }
    assert header.data_start == len(head) and len(head) % 8 == 0


@st.composite
def odd_headers(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Return a header that is nearly right, and how many bytes are behind it."""
    content: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(st.sampled_from("abcdef"), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(["U8", "F32", "BF16", "BOOL", "F4", "X9", 7]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = math.prod(shape) * DTYPE_BITS.get(str(dtype), 8) // 8
        start = position + draw(st.sampled_from([0] * 12 + [-1, 1]))
        stop = start + size + draw(st.sampled_from([0] * 12 + [-1, 1]))
        content[name] = tensor(dtype, shape, [start, stop])
        position = max(stop, 0)
    if draw(st.booleans()):
        content["__metadata__"] = draw(st.sampled_from([None, {}, {"a": "b"}, {"a": 1}, [], "text"]))
    order = draw(st.permutations(list(content)))
    return {name: content[name] for name in order}, position + draw(st.sampled_from([0] * 8 + [1, -1]))


@given(odd_headers())
def test_files_are_refused_if_and_only_if_the_library_refuses_them(made: tuple[dict[str, Any], int]) -> None:
    header, data_bytes = made
    file = file_of(header, bytes(max(data_bytes, 0)))
    assert is_accepted(file) == is_accepted_by_the_library(file)


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 3))
def test_what_is_accepted_the_library_accepts(put: bytes, position: int, cut: int) -> None:
    text = json.dumps({"a": tensor(), "__metadata__": {"x": "y"}}).encode()
    file = file_of(text[:position] + put + text[position + cut :], b"xx")
    assert not is_accepted(file) or is_accepted_by_the_library(file)


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it has 0 bytes, too few"),
    "half a length": (b"1234567", "it has 7 bytes, too few"),
    "a lying length": (file_of({})[:9], "said to have 2 bytes, but the file has 9"),
    "an absurd length": ((1 << 63).to_bytes(8, "little"), f"more than {MAX_HEADER_BYTES}"),
    "no JSON": (file_of(b"{'a'}"), "not JSON"),
    "an empty header": (file_of(b""), "not JSON"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "not JSON"),
    "half a character": (file_of(b'{"\\ud800": 1}'), "no Unicode"),
    "half a character in the metadata": (file_of(b'{"__metadata__": {"a": "\\ud800"}}'), "no Unicode"),
    "NaN": (file_of(b'{"a": NaN}'), "NaN is no number"),
    "deep": (file_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not JSON"),
    "a list": (file_of([]), "not a JSON object"),
    "a name twice": (file_of(b'{"a": 1, "b": 1, "a": 1}'), "'a' stands twice"),
    "a field twice": (file_of(b'{"a": {"dtype": 1, "dtype": 1}}'), "'dtype' stands twice"),
    "numbers in the metadata": (file_of({"__metadata__": {"a": 1}}), "not an object of texts"),
    "a list for metadata": (file_of({"__metadata__": []}), "not an object of texts"),
    "a tensor that is a number": (file_of({"a": 1}), "tensor 'a' is not an object"),
    "no dtype": (file_of({"a": {"shape": [2], "data_offsets": [0, 2]}}, b"xx"), "unknown dtype None"),
    "another dtype": (file_of({"a": tensor("I4")}, b"xx"), "unknown dtype 'I4'"),
    "a shape of text": (file_of({"a": tensor(shape="2")}, b"xx"), "the shape of tensor 'a' is '2'"),
    "a negative size": (file_of({"a": tensor(shape=[-2])}, b"xx"), "the shape of tensor 'a'"),
    "half a row": (file_of({"a": tensor(shape=[2.0])}, b"xx"), "the shape of tensor 'a'"),
    "true rows": (file_of({"a": tensor(shape=[True, 2])}, b"xx"), "the shape of tensor 'a'"),
    "more rows than there are numbers": (file_of({"a": tensor(shape=[10**30])}, b"xx"), "the shape of tensor 'a'"),
    "too many elements": (file_of({"a": tensor(shape=[2**40, 2**40])}, b"xx"), "no tensor is so large"),
    "too many in a row": (file_of({"a": tensor(shape=[0, 2**40, 2**40], offsets=[0, 0])}), "no tensor is so large"),
    "three offsets": (file_of({"a": tensor(offsets=[0, 1, 2])}, b"xx"), "the data_offsets of tensor 'a'"),
    "backwards": (file_of({"a": tensor(shape=[0], offsets=[2, 0])}, b"xx"), "the data_offsets of tensor 'a'"),
    "too few bytes for the shape": (file_of({"a": tensor(shape=[3])}, b"xx"), "takes 3 bytes, not the 2"),
    "half a byte": (file_of({"a": tensor("F4", [3])}, b"xx"), "takes 1.5 bytes, not the 2"),
    "an overlap": (file_of({"a": tensor(), "b": tensor(offsets=[1, 3])}, b"xxx"), "'b' begins at 1 .* overlaps"),
    "a hole": (file_of({"a": tensor(), "b": tensor(offsets=[3, 5])}, b"xxxxx"), "'b' begins at 3 .* leaves a hole"),
    "a cut file": (file_of({"a": tensor()}, b"x"), "end at byte .* but the file has"),
    "more behind the tensors": (file_of({"a": tensor()}, b"xxx"), "end at byte .* but the file has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_file_is_refused_with_what_is_wrong(name: str) -> None:
    file, expected = REFUSED[name]
    with pytest.raises(OssSafetensorError, match=f"here is not a valid safetensors file: .*{expected}"):
        parsed(file)


def test_fields_that_nobody_knows_and_spaces_are_no_harm() -> None:
    text = b' {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2], "x": -1.5, "y": -7}}\n\t '
    assert list(parsed(file_of(text, b"xx")).tensors) == ["a"]


def test_what_foreign_text_does_to_terminals_is_not_shown() -> None:
    with pytest.raises(OssSafetensorError) as caught:
        parsed(file_of({"\x1b[31m" + "x" * 1000: 1}))
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 300
