"""What the module for Ray does without Ray. What it does with it is in tests/ecosystem/test_ray.py."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scripts import run_python

from osstorchconnector.index.layout import UNKNOWN_SIZE
from osstorchconnector.integrations.ray import REQUEST_BYTES, even_bounds

SIZES = st.lists(st.integers(0, 1 << 30) | st.just(UNKNOWN_SIZE), max_size=60)


@given(SIZES, st.integers(1, 20))
def test_each_row_is_in_one_part_and_no_part_is_empty(sizes: list[int], count: int) -> None:
    bounds = even_bounds(np.array(sizes, "q"), count)
    assert bounds[0] == 0 and bounds[-1] == len(sizes)
    assert all(start < stop for start, stop in pairwise(bounds))
    assert len(bounds) - 1 <= count


@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=60), st.integers(1, 20))
def test_no_part_is_heavier_than_its_share_and_one_row(sizes: list[int], count: int) -> None:
    weights = [size + REQUEST_BYTES for size in sizes]
    for start, stop in pairwise(even_bounds(np.array(sizes, "q"), count)):
        assert sum(weights[start:stop]) <= sum(weights) / count + max(weights) + 1


def test_rows_of_unknown_size_count_as_average_ones() -> None:
    assert even_bounds(np.full(100, UNKNOWN_SIZE), 4) == [0, 25, 50, 75, 100]
    assert even_bounds(np.array([1 << 20] * 50 + [UNKNOWN_SIZE] * 50), 4) == [0, 25, 50, 75, 100]


def test_without_ray_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import sys

sys.modules["ray"] = None
from osstorchconnector import OssConfigError
from osstorchconnector.integrations import ray

for use in (lambda: ray.read_objects("oss://bucket/", ""), lambda: ray.write_objects(None, "oss://bucket/", "")):
    try:
        use()
    except OssConfigError as error:
        print(str(error).partition(" (import")[0])
""")
    printed, _ = run_python(program)
    assert printed.splitlines() == [
        f"osstorchconnector.integrations.ray.{name} needs ray[data]>=2.50: pip install 'ray[data]>=2.50'"
        for name in ("read_objects", "write_objects")
    ]
