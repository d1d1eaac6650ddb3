"""Every cell of the matrix of faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.matrix import CALAMITIES, Cell, cells, run
from faults.users import USERS, Site, User, furnish

from osstorchconnector.testing import OssBucket


@pytest.fixture
def site(oss_bucket: OssBucket, tmp_path: Path) -> Site:
    return furnish(oss_bucket, tmp_path)


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_a_fault_ends_as_it_must(site: Site, cell: Cell, results) -> None:
    results(cell.fault.name, cell.user.name, cell.operation, cell.stays, run(cell, site))


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
@pytest.mark.parametrize("calamity", CALAMITIES)
def test_a_calamity_ends_as_it_must(site: Site, calamity: str, user: User, results) -> None:
    results(calamity, user.name, "all", True, CALAMITIES[calamity](user, site))
