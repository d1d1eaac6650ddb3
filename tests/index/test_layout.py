from __future__ import annotations

import enum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.layout import (
    HEAD_BYTES,
    UNKNOWN_SIZE,
    Batch,
    RowBlock,
    Table,
    TableProgress,
    TableState,
    pack_block,
    pack_failure,
    pack_progress,
    unpack_failure,
    unpack_progress,
)
from osstorchconnector.uri import OssUri

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SIZES = st.one_of(st.just(UNKNOWN_SIZE), st.integers(0, 1 << 50))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
LABELS = st.just("") | PLAIN | st.tuples(st.integers(), st.text(max_size=3)) | st.binary(max_size=4)


class Row(NamedTuple):
    bucket: str
    key: str
    size: int
    label: Any


ROWS = st.lists(st.builds(Row, st.sampled_from(["aaa", "bbb"]), KEYS, SIZES, LABELS), max_size=12)


def batch_of(rows: list[Row], cursor: bytes = b"") -> Batch:
    names = [f"{row.bucket}/{row.key}" for row in rows]
    return Batch("", names, [row.size for row in rows], [row.label for row in rows], cursor)


def expected(row: Row) -> ObjectInfo:
    return ObjectInfo(OssUri(row.bucket, row.key), None if row.size == UNKNOWN_SIZE else row.size, row.label)


def block_of(batch: Batch) -> RowBlock:
    return RowBlock(memoryview(pack_block(batch)), 0)


def table_of(*batches: Batch) -> Table:
    data = b"".join(map(pack_block, batches))
    table = Table()
    table.extend(memoryview(data), 0, len(data))
    return table


@given(ROWS, st.integers(1, 5), st.integers(0, 4))
def test_a_block_gives_back_every_row_in_any_stride(rows: list[Row], step: int, first: int) -> None:
    block = block_of(batch_of(rows, b"cursor"))
    assert block.rows == len(rows)
    assert block.cursor == b"cursor"
    assert block.infos(first, step) == [expected(row) for row in rows[first::step]]
    assert [block.info(number) for number in range(len(rows))] == [expected(row) for row in rows]


@given(ROWS)
def test_labels_keep_their_types(rows: list[Row]) -> None:
    labels = [info.label for info in block_of(batch_of(rows)).infos()]
    assert list(map(repr, labels)) == [repr(row.label) for row in rows]


@given(ROWS)
def test_a_blocks_length_is_a_multiple_of_eight(rows: list[Row]) -> None:
    assert len(pack_block(batch_of(rows))) % 8 == 0


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("label", [Colour.RED, {1: "a"}, [(1, 2)], {"a": Colour.RED}, float("inf"), "\udc80"])
def test_a_label_that_json_would_change_comes_back_as_it_was(label: object) -> None:
    (info,) = block_of(Batch("b/", ["k"], [1], [label])).infos()
    assert info.label == label
    assert repr(info.label) == repr(label)


def test_what_all_names_begin_with_is_stored_once() -> None:
    base = "bucket/a/rather/long/common/prefix/"
    tails = [f"{number:08}" for number in range(1000)]
    assert len(pack_block(Batch(base, tails, [1] * 1000))) < 1000 * (8 + 8 + 4) + 200


def test_a_key_of_sixty_bytes_costs_less_than_eighty() -> None:
    tails = [f"{number * 7919 % 1000:03}".ljust(60, "x") for number in range(1000)]
    assert len(pack_block(Batch("bucket/", tails, [110_000] * 1000))) / 1000 < 80


def test_names_in_several_buckets_stand_in_one_block() -> None:
    batch = Batch("", ["one/a/b", "two/a", "one/c"], [1, 2, 3])
    assert [info.uri for info in block_of(batch).infos()] == [
        OssUri("one", "a/b"),
        OssUri("two", "a"),
        OssUri("one", "c"),
    ]


def test_a_block_without_rows_still_has_a_cursor() -> None:
    block = block_of(Batch("b/", [], [], None, b"page 2", skipped=3))
    assert (block.rows, block.cursor, block.infos()) == (0, b"page 2", [])


@given(st.lists(ROWS, max_size=5), st.integers(0, 9), st.integers(1, 9))
def test_a_table_is_its_blocks_one_after_the_other(blocks: list[list[Row]], first: int, step: int) -> None:
    table = table_of(*map(batch_of, blocks))
    rows = [expected(row) for block in blocks for row in block]
    assert table.rows == len(rows)
    assert [table.info(number) for number in range(len(rows))] == rows
    found, position = [], first
    while part := table.infos_from(position, step):
        found += part
        position += len(part) * step
    assert found == rows[first::step]


@given(st.lists(ROWS, min_size=2, max_size=4))
def test_a_table_grows_as_blocks_are_appended(blocks: list[list[Row]]) -> None:
    table, data = Table(), b""
    for number, rows in enumerate(blocks, 1):
        start = len(data)
        data += pack_block(batch_of(rows))
        table.extend(memoryview(data), start, len(data))
        assert table.rows == sum(map(len, blocks[:number]))
    assert table.infos_from(table.rows) == []


@pytest.mark.parametrize("damage", [b"", b"\0" * 64, b"XXXX"])
def test_bytes_that_are_no_block_are_an_error(damage: bytes) -> None:
    with pytest.raises(OssError, match="damaged"):
        RowBlock(memoryview(damage), 0)


def test_a_block_that_is_cut_off_is_an_error() -> None:
    data = pack_block(Batch("b/", ["k"], [1]))
    with pytest.raises(OssError, match="damaged"):
        Table().extend(memoryview(data[:-1]), 0, len(data) - 1)


def head_with(*records: tuple[int, bytes]) -> memoryview:
    head = bytearray(HEAD_BYTES)
    for offset, record in records:
        head[offset : offset + len(record)] = record
    return memoryview(head)


def test_an_empty_head_is_that_of_an_empty_table() -> None:
    assert unpack_progress(head_with()) == TableProgress()


@given(st.lists(st.sampled_from(TableState), min_size=1, max_size=5))
def test_the_latest_progress_counts(states: list[TableState]) -> None:
    steps = [TableProgress(number, number * 10, 8, 4096 + number, 0, state) for number, state in enumerate(states, 1)]
    assert unpack_progress(head_with(*map(pack_progress, steps))) == steps[-1]


@given(st.integers(0, 47))
def test_a_progress_that_was_half_written_leaves_the_one_before(cut: int) -> None:
    before, after = (
        TableProgress(7, 70, 8, 5000),
        TableProgress(8, 1 << 60, 1 << 60, 1 << 60, 1 << 60, TableState.FAILED),
    )
    older = pack_progress(TableProgress(6, 60, 8, 4500))
    offset, record = pack_progress(after)
    assert unpack_progress(head_with(older, pack_progress(before), (offset, record[:cut]))) == before


@given(st.text(max_size=100), st.integers(0, 200))
def test_a_failures_text_arrives_as_far_as_there_is_room(text: str, times: int) -> None:
    kind, found = unpack_failure(head_with(pack_failure("OssTimeoutError", text * times)))
    whole = (text * times).encode("utf-8", "backslashreplace").decode()
    assert kind == "OssTimeoutError"
    assert whole.startswith(found.removesuffix("\ufffd"))
    assert found == whole or len(found.encode()) > 3000
