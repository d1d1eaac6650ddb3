"""A small object costs few calls, of Python and of C functions: an interpreter is full long before a network is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import SIZES
from scripts import run_python

SCRIPT = Path(__file__).with_name("calls.py")
# The exact counts are those of Python 3.11, with what each thousandth object costs besides (a clock that ticks, a new
# second). Other versions differ by a few: 3.10 calls more C functions in generators, 3.12 inlines comprehensions.
MOST = {"below get": (27, 32), "whole": (40, 45)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", MOST)
def test_a_small_object_costs_few_calls(way: str, size: str) -> None:
    output, _ = run_python(SCRIPT, "--one", way, size, seconds=250)
    (python, c), named = json.loads(output)
    most_python, most_c = MOST[way]
    assert python <= most_python, "\n".join(named)
    assert c <= most_c, "\n".join(named)
