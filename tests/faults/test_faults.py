"""Each fault once, and that the matrix leaves out no request of anybody; `make chaos` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.faults import FAULTS
from faults.matrix import CALAMITIES, Cell, cells, one_cell_per_fault, run
from faults.users import USERS, Site, User, furnish

from osstorchconnector.testing import OssBucket


@pytest.fixture
def site(oss_bucket: OssBucket, tmp_path: Path) -> Site:
    return furnish(oss_bucket, tmp_path)


@pytest.mark.parametrize("cell", one_cell_per_fault(), ids=str)
def test_a_fault_ends_as_it_must(site: Site, cell: Cell) -> None:
    run(cell, site)


@pytest.mark.parametrize(("calamity", "number"), [(name, number) for number, name in enumerate(CALAMITIES)])
def test_a_calamity_ends_as_it_must(site: Site, calamity: str, number: int) -> None:
    CALAMITIES[calamity](USERS[3 * number % len(USERS)], site)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_the_matrix_knows_every_request_of_a_user(site: Site, user: User) -> None:
    site.bucket.server.reset_counters()
    assert user.work(site)
    sent = set(site.bucket.server.counters(with_log=False).requests)
    if user.name == "DCP save":
        sent -= {"GetObject"}  # it looks at what it saved
    assert sent - {"InitiateMultipartUpload"} == set(user.operations) - {"InitiateMultipartUpload"}


def test_every_fault_strikes_somewhere() -> None:
    assert {cell.fault.name for cell in cells()} == {fault.name for fault in FAULTS}
