from __future__ import annotations

import gc
import itertools
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.index.fixed import FILED_FROM_BYTES, FixedIndex
from osstorchconnector.index.layout import Batch


def index_of(count: int, rows: int = 1000, folder: str = "") -> FixedIndex:
    keys = [f"{number}" for number in range(count)]
    cuts = [keys[start : start + rows] for start in range(0, count, rows)]
    return FixedIndex([Batch("b/", cut, [len(key) for key in cut]) for cut in cuts], folder=folder)


def numbers(infos: Any) -> list[int]:
    return [int(info.uri.key) for info in infos]


@given(st.integers(0, 60), st.integers(1, 9))
def test_shares_are_disjoint_and_together_all(count: int, step: int) -> None:
    index = index_of(count, 7)
    shares = [numbers(index.items(first, step)) for first in range(step)]
    assert sorted(itertools.chain(*shares)) == list(range(count))
    assert all(share == list(range(first, count, step)) for first, share in enumerate(shares))


def test_it_knows_everything_at_once() -> None:
    index = index_of(2)
    for same in (index, pickle.loads(pickle.dumps(index))):
        assert (same.count(), numbers(same.items()), same.info(1).size, same.skipped()) == (2, [0, 1], 1, 0)
        assert same.digest() == index.digest()


def test_an_empty_one_pickles() -> None:
    assert pickle.loads(pickle.dumps(FixedIndex([]))).count() == 0


def tell(index: FixedIndex, pipe: Any) -> None:
    """Tell how many rows there are, whether they lie in a file, and what a further copy has."""
    maps = Path("/proc/self/maps").read_text()
    pipe.send((index.count(), "osstorchconnector-index" in maps, pickle.loads(pickle.dumps(index)).count()))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("count", [10, 150_000])
def test_spawned_processes_map_one_file_of_many_rows(tmp_path: Path, method: Any, count: int) -> None:
    index = index_of(count, folder=str(tmp_path))
    is_large = len(index.blocks()) >= FILED_FROM_BYTES
    context = multiprocessing.get_context(method)
    for _ in range(2):
        here, there = context.Pipe()
        child = context.Process(target=tell, args=(index, there))
        child.start()
        assert here.recv() == (count, is_large, count)
        child.join()
        assert len(list(tmp_path.iterdir())) == is_large
    assert len(pickle.dumps(index)) >= len(index.blocks())  # what is kept, or goes to another machine, has them all
    del index
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def fail(index: FixedIndex) -> None:
    raise AssertionError("it was made after all")


def test_rows_that_are_gone_before_a_process_has_begun_are_an_error_that_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    index = index_of(150_000, folder=str(tmp_path))
    child = multiprocessing.get_context("spawn").Process(target=fail, args=(index,))
    child.start()
    del index
    gc.collect()
    child.join()
    assert child.exitcode == 1
    assert "OssUsageError: the names of objects are gone" in capfd.readouterr().err


def test_without_a_folder_for_it_each_process_gets_a_copy(tmp_path: Path) -> None:
    index = index_of(150_000, folder=str(tmp_path / "absent"))
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=tell, args=(index, there))
    child.start()
    assert here.recv() == (150_000, False, 150_000)
    child.join()


@given(st.integers(0, 60), st.lists(st.integers(0, 60), max_size=6))
def test_parts_have_neighbours_and_travel_by_themselves(count: int, cuts: list[int]) -> None:
    bounds = sorted({0, count, *(cut for cut in cuts if cut < count)})
    parts = pickle.loads(pickle.dumps(list(index_of(count, 7).parts(bounds))))
    assert [numbers(part.items()) for part in parts] == [
        list(range(start, stop)) for start, stop in itertools.pairwise(bounds)
    ]


def test_a_part_has_only_the_blocks_that_it_needs() -> None:
    index = index_of(150_000)
    first, *_ = index.parts([0, 100, 150_000])
    assert len(pickle.dumps(first)) < len(index.blocks()) / 100


def test_blocks_of_an_index_make_the_same_index() -> None:
    index = index_of(100, 7)
    same = FixedIndex.of_blocks(bytes(index.blocks()))
    assert list(same.items()) == list(index.items())
    assert [size for block in same.row_blocks() for size in block.sizes] == [len(str(number)) for number in range(100)]
    assert not any(block.is_labelled for block in same.row_blocks())
