"""What docs/emulator.md shows runs, and its table of faults is the catalogue. What CONTRIBUTING.md names exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from scripts import ROOT, run_pytest, run_python

from osstorchconnector.emulator.faults import CATALOGUE, make_effect
from osstorchconnector.emulator.network import PRESETS, Network

TEXT = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", CONTRIBUTING)))
TESTS, SCRIPTED, PROGRAM, DISTANT = re.findall(r"^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def fault_rows() -> list[tuple[list[str], set[str]]]:
    """Return names and options of each row of the table of faults."""
    table = TEXT.partition("| fault | options |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    return [(re.findall(r"`(\w+)`", names), set(re.findall(r"`(\w+)`", options))) for names, options in rows]


def test_the_table_of_faults_names_all_of_them_with_their_options() -> None:
    (short, short_options), *named = fault_rows()
    assert {names[0]: options for names, options in named} == {
        name: set(options) for name, (_, options) in CATALOGUE.items()
    }
    assert short_options == set(CATALOGUE["error"][1])
    for name in short:
        assert make_effect(name, {}).name == name


@pytest.mark.parametrize(("tests", "passed"), [(TESTS, "3 passed"), (SCRIPTED, "1 passed")])
def test_the_tests_that_the_page_shows_pass(tmp_path: Path, tests: str, passed: str) -> None:
    (tmp_path / "test_mine.py").write_text(tests, encoding="utf-8")
    assert passed in run_pytest(tmp_path)


@pytest.mark.parametrize("program", [PROGRAM, DISTANT])
def test_the_programs_that_the_page_shows_run(tmp_path: Path, program: str) -> None:
    assert run_python("-c", program, folder=tmp_path) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]


def names_in_table(heading: str) -> set[str]:
    """Return the names in the first two columns of a table."""
    table = TEXT.partition(heading)[2].partition("\n\n")[0]
    cells = [cell for line in table.splitlines()[2:] for cell in line.split("|")[1:3]]
    return {name for cell in cells for name in re.findall(r"`([\w.()-]+)`", cell)}


def test_the_page_names_all_networks_and_their_fields() -> None:
    assert names_in_table("| network | `--network` |") >= {
        *PRESETS,
        *(f"Network.{make.__name__}()" for make in PRESETS.values()),
    }
    assert names_in_table("| field | what it does |") == {field.name for field in fields(Network)}


def test_the_paths_that_contributing_names_exist() -> None:
    paths = [name for name in NAMED if re.fullmatch(r"[\w./-]+(/|\.py|\.md|\.txt|\.toml)", name)]
    folders = [ROOT, ROOT / "osstorchconnector", ROOT / "tests" / "protocol"]
    assert "client/retry.py" in paths
    assert [path for path in paths if not any((folder / path).exists() for folder in folders)] == []


def test_the_names_that_contributing_uses_are_those_of_the_code() -> None:
    names = [name for name in NAMED if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", name)]
    files = [*(ROOT / "osstorchconnector").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    assert "RetryDecision" in names
    assert [name for name in names if name.rpartition(".")[2] not in words] == []
