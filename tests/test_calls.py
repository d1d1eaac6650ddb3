"""An object, or a member of a tar, costs few calls, of Python and of C functions.

An interpreter is full long before a network is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import SIZES
from scripts import run_python

SCRIPT = Path(__file__).with_name("calls.py")
# Python 3.10 to 3.13 count the same below `Operations.get`, but for what each second costs. On the whole way threads
# wake each other more or less often, so the least of a few runs counts.
MOST = {"below get": (27, 34), "whole": (40, 45), "member": (16, 20)}
RUNS = {"below get": 1, "whole": 10, "member": 5}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", MOST)
def test_an_object_costs_few_calls(way: str, size: str) -> None:
    most_python, most_c = MOST[way]
    for _ in range(RUNS[way]):
        output, _ = run_python(SCRIPT, "--one", way, size, seconds=280)
        (python, c), named = json.loads(output)
        if python <= most_python and c <= most_c:
            return
    pytest.fail(f"{python} Python calls and {c} C calls for each object\n" + "\n".join(named))
