from __future__ import annotations

from pathlib import Path

from faults.faults import FAULTS
from faults.matrix import CALAMITIES, cells
from faults.table import table
from faults.users import USERS
from loaders import needs_torch

DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"


@needs_torch(2, 3)
def test_the_matrix_in_the_documentation_is_the_one_that_is_tested() -> None:
    assert table() in DOCS.read_text()


@needs_torch(2, 3)
def test_the_documentation_counts_the_cells_that_there_are() -> None:
    count = len(cells())
    tests = count + len(CALAMITIES) * len(USERS)
    assert (len(FAULTS), len(USERS), len(CALAMITIES)) == (37, 27, 9), "the documentation has these in words"
    assert f"The other {count:,}, and nine calamities for each user, are the {tests:,} tests" in DOCS.read_text()
