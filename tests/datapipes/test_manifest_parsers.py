from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.datapipes.manifest import MAX_LINE_BYTES, imagenet_manifest_parser, jsonl_manifest_parser
from osstorchconnector.errors import OssManifestError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LABELS = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=4,
)


class DripFeed(io.RawIOBase):
    """Gives a few bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file, self._step = io.BytesIO(data), step

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._step)


@given(st.lists(st.tuples(ANY_TEXT.filter(bool), LABELS), max_size=6), st.booleans(), st.integers(1, 40))
def test_jsonl_gives_back_every_key_and_label(entries: list[tuple[str, object]], plain: bool, step: int) -> None:
    lines = [json.dumps({"key": key, "label": label}, ensure_ascii=plain) for key, label in entries]
    assert list(jsonl_manifest_parser(DripFeed("\n".join(lines).encode(), step))) == entries


def test_jsonl_without_a_label_gives_an_empty_one() -> None:
    assert list(jsonl_manifest_parser(io.BytesIO(b'\n{"key": "a"}\r\n  \n{"key": "b", "more": 1}'))) == [
        ("a", ""),
        ("b", ""),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not of the form"),
        ('"key"', "not of the form"),
        ("{}", "not of the form"),
        ('{"key": 3}', "not of the form"),
        ('{"key": ""}', "not of the form"),
    ],
)
def test_a_wrong_jsonl_line_is_named_by_file_and_number(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"key": "a"}\n\n' + line + "\n")
    with path.open("rb") as file, pytest.raises(OssManifestError, match=f"{path}, line 3: {reason}"):
        list(jsonl_manifest_parser(file))


KEY = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=10)


@given(st.lists(st.tuples(KEY, st.just("") | KEY), max_size=6), st.integers(1, 40), st.sampled_from(["\n", "\r\n"]))
def test_imagenet_lines_are_key_tab_label(entries: list[tuple[str, str]], step: int, end: str) -> None:
    lines = [f"{key}\t{label}" if label else key for key, label in entries]
    assert list(imagenet_manifest_parser(DripFeed(end.join(lines).encode(), step))) == entries


def test_imagenet_lines_pass_over_empty_lines_further_columns_and_a_byte_order_mark() -> None:
    text = "\ufeffa b.png\tone\tmore\n\n   \nc.png \n d.png\ttwo \n"
    assert list(imagenet_manifest_parser(io.BytesIO(text.encode()))) == [
        ("a b.png", "one"),
        ("c.png", ""),
        ("d.png", "two"),
    ]


def test_a_line_without_a_key_is_named_by_number() -> None:
    with pytest.raises(OssManifestError, match="manifest, line 2: there is no key before the tab"):
        list(imagenet_manifest_parser(io.BytesIO(b"a\tone\n\ttwo\n")))


@pytest.mark.parametrize("parser", [imagenet_manifest_parser, jsonl_manifest_parser])
def test_a_line_that_is_not_utf8_is_named_by_number(parser: object) -> None:
    assert callable(parser)
    with pytest.raises(OssManifestError, match="line 2: not UTF-8"):
        list(parser(io.BytesIO(b'{"key": "a"}\n{"key": "\xff"}\n')))


def test_a_long_wrong_line_is_shortened_in_the_text() -> None:
    with pytest.raises(OssManifestError) as caught:
        list(jsonl_manifest_parser(io.BytesIO(b"x" * 10_000)))
    assert len(str(caught.value)) < 300


def test_a_line_nested_too_deeply_is_an_error_that_names_it() -> None:
    with pytest.raises(OssManifestError, match="not JSON"):
        list(jsonl_manifest_parser(io.BytesIO(b"[" * 100_000)))


class Endless(io.RawIOBase):
    """A file that never ends, and counts how much of it was taken."""

    name = "endless"

    def __init__(self, begin: bytes = b"") -> None:
        self._begin, self.taken = begin, 0

    def read(self, size: int = -1) -> bytes:
        begin, self._begin = self._begin, b""
        self.taken += size
        return begin + b"x" * (size - len(begin))


@pytest.mark.parametrize("parser", [imagenet_manifest_parser, jsonl_manifest_parser])
def test_a_line_without_end_is_an_error_and_takes_little_memory(parser: Any) -> None:
    file = Endless()
    with pytest.raises(OssManifestError, match=r"^endless, line 1: longer than 4 MiB: 'x{79}\.\.\.$"):
        list(parser(file))
    assert file.taken <= MAX_LINE_BYTES + (2 << 20)
    with pytest.raises(OssManifestError, match="endless, line 3: longer"):
        list(imagenet_manifest_parser(Endless(b"a\nb\n")))


def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    label = "x" * (MAX_LINE_BYTES - 2)
    assert list(imagenet_manifest_parser(io.BytesIO(f"k\t{label}\nk\n".encode()))) == [("k", label), ("k", "")]
    with pytest.raises(OssManifestError, match="line 2: longer than 4 MiB"):
        list(imagenet_manifest_parser(io.BytesIO(f"k\nk\tx{label}\n".encode())))
