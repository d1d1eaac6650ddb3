from __future__ import annotations

from pathlib import Path

from faults.table import table

DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_matrix_in_the_documentation_is_the_one_that_is_tested() -> None:
    assert table() in DOCS.read_text()
