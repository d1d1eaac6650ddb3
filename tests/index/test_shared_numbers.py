from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from osstorchconnector.errors import OssConfigError
from osstorchconnector.index.shared import SharedNumbers

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    path.mkdir()
    return path


def in_child(work: object, *arguments: object) -> None:
    child = FORK.Process(target=work, args=arguments)  # type: ignore[arg-type]
    child.start()
    child.join()
    assert child.exitcode == 0


def add(numbers: SharedNumbers, times: int) -> None:
    for _ in range(times):
        numbers.add(1, 1)


def test_they_are_nought_and_take_no_file_until_one_is_written(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder))
    assert (numbers.get(0), numbers.get(99)) == (0, 0)
    assert list(folder.iterdir()) == []
    numbers.set(3, -7)
    assert [numbers.get(place) for place in range(5)] == [0, 0, 0, -7, 0]


def test_they_may_begin_with_others_and_be_set_to_nought(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder), initial={0: 3, 2: 5})
    assert [numbers.get(place) for place in range(4)] == [3, 0, 5, 0]
    assert list(folder.iterdir()) == []
    copy = pickle.loads(pickle.dumps(numbers))
    assert [copy.get(place) for place in range(4)] == [3, 0, 5, 0]
    numbers.set(3, 1)
    assert [copy.get(place) for place in range(4)] == [3, 0, 5, 1]
    copy.set(0, 0)
    assert numbers.add(2, 1) == 6
    assert [numbers.get(place) for place in range(4)] == [0, 0, 6, 1]


def test_copies_and_children_have_the_same_numbers(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder))
    copies = [copy.deepcopy(numbers), pickle.loads(pickle.dumps(numbers))]
    in_child(numbers.set, 0, 5)
    assert [same.get(0) for same in [numbers, *copies]] == [5, 5, 5]
    in_child(copies[0].set, 0, 6)
    assert numbers.get(0) == 6


def test_what_is_added_at_the_same_time_is_not_lost(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder))
    children = [FORK.Process(target=add, args=(numbers, 200)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert numbers.get(1) == 600


def test_a_copy_that_outlives_its_maker_begins_with_the_numbers_it_was_pickled_with(folder: Path) -> None:
    kept = folder.with_name("kept")

    def make() -> None:
        numbers = SharedNumbers(folder=str(folder))
        numbers.set(0, 4)
        kept.write_bytes(pickle.dumps(numbers))
        os._exit(0)

    in_child(make)
    numbers = pickle.loads(kept.read_bytes())
    assert numbers.get(0) == 4
    numbers.set(1, 5)
    assert (numbers.get(0), numbers.get(1)) == (4, 5)


def test_the_file_goes_with_the_last_copy(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder))
    numbers.set(0, 1)
    same = pickle.loads(pickle.dumps(numbers))
    del numbers
    assert same.get(0) == 1
    del same
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match="indexDir"):
        SharedNumbers(folder=str(tmp_path / "absent"))
