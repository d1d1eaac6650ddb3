"""The API reference has every public name."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import resolve_name

import pytest
from scripts import ROOT

import osstorchconnector
from osstorchconnector import errors

PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "reference").glob("*.md")))
SHOWN = re.findall(r"^::: osstorchconnector\.([\w.]+)$", PAGES, re.MULTILINE)
SUBMODULES = ["credentials", "datapipes", "dcp", "emulator", "filesystem", "safetensors", "testing"]


def test_nothing_is_shown_twice() -> None:
    assert sorted(SHOWN) == sorted(set(SHOWN))


def test_every_public_name_is_shown() -> None:
    """A module that is shown shows all its names."""
    assert "errors" in SHOWN
    assert set(osstorchconnector.__all__) - {*SHOWN, *vars(errors)} == {"__version__"}
    assert "`osstorchconnector.__version__`" in PAGES


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_name_of_a_submodule_is_shown(name: str) -> None:
    module = import_module(f"osstorchconnector.{name}")
    public = set() if name in SHOWN else set(module.__all__)
    own = {shown.rpartition(".")[2] for shown in SHOWN if shown.startswith(f"{name}.")}
    assert public - own - set(osstorchconnector.__all__) == set()


@pytest.mark.parametrize("shown", [name for name in SHOWN if not name.startswith("integrations.")])  # need frameworks
def test_what_is_shown_exists(shown: str) -> None:
    assert resolve_name(f"osstorchconnector.{shown}")
