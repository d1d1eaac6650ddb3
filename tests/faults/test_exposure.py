"""Errors are shown with the variables of their frames, by debuggers and trackers: none of these holds a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.faults import FAULTS
from faults.matrix import Cell, cells, run
from faults.users import CLIENT, Site, furnish

from osstorchconnector.testing import OssBucket


def cells_of_the_client() -> list[Cell]:
    """Return a cell for each fault that ends in an error, on an operation of the client's own."""
    found: dict[str, Cell] = {}
    for cell in cells():
        # of those that end in different errors, the one that does not depend on the transport
        if cell.user in CLIENT and (cell.stays or cell.fault.is_final) and cell.ending is cell.fault.always:
            found.setdefault(cell.fault.name, cell)
    return list(found.values())


@pytest.fixture
def site(oss_bucket: OssBucket, tmp_path: Path) -> Site:
    return furnish(oss_bucket, tmp_path)


def test_nearly_every_fault_ends_in_an_error_of_the_client() -> None:
    assert len(cells_of_the_client()) >= len(FAULTS) - 2  # but for those that need a reader


@pytest.mark.parametrize("cell", cells_of_the_client(), ids=str)
@pytest.mark.parametrize("settings", [{"transport": "aiohttp"}, {"signatureVersion": "v1"}], ids=["aiohttp", "v1"])
def test_an_error_exposes_no_secret(site: Site, cell: Cell, settings: dict[str, str]) -> None:
    site.configure(**settings)
    run(cell, site)
