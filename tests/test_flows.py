"""The pages "How a key flows" and "How a tensor flows" of CONTRIBUTING.md name the modules that are really entered."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from loaders import needs_torch
from scripts import ROOT, run_python

pytestmark = needs_torch(2, 3)

# Modules on the way. A new one is fine where it stands for an idea of its own: raise the number then.
MOST = {"key": 61, "save": 67, "load": 57}


@cache
def entered() -> dict[str, list[str]]:
    lines = run_python(Path(__file__).with_name("flows.py"), "--names", seconds=280)[0].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith(" "):
            modules = found.setdefault(line.partition(":")[0], [])
        else:
            modules.append(line.strip())
    return found


@cache
def named() -> dict[str, list[str]]:
    """Return the modules that CONTRIBUTING names on each way. (Threads may enter some of them in another order.)"""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tensor = text.partition("## How a tensor flows\n")[2].partition("\n## ")[0]
    key = text.partition("## How a key flows\n")[2].partition("\n## ")[0]
    save, _, load = tensor.partition("`dcp.load` enters")
    return {name: _modules(page) for name, page in (("key", key), ("save", save), ("load", load))}


def _modules(page: str) -> list[str]:
    files = re.findall(r"^[0-9]+\. `([a-z0-9_/]+)\.py`: ", page, re.MULTILINE)
    return [file.replace("/", ".").removesuffix(".__init__") for file in files]


@pytest.mark.parametrize("name", MOST)
def test_the_page_names_the_modules_that_are_entered_and_no_others(name: str) -> None:
    assert sorted(named()[name]) == sorted(entered()[name])


@pytest.mark.parametrize("name", MOST)
def test_not_too_many_modules_are_on_the_way(name: str) -> None:
    assert len(entered()[name]) <= MOST[name]
