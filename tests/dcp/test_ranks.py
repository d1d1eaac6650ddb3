"""Several ranks, each a process: starting them takes longer than what they do, so each test does much."""

from __future__ import annotations

from pathlib import Path

import pytest
from dcp.conftest import names
from dcp.ranks import Place, every_way_to_spread, run_ranks, save_from_another_process, trouble

from osstorchconnector.testing import OssBucket


@pytest.fixture
def place(oss_bucket: OssBucket) -> Place:
    return Place(oss_bucket.uri, oss_bucket.options)


@pytest.mark.timeout(150)
def test_what_4_ranks_save_loads_on_4_3_2_and_1_however_it_is_spread(
    place: Place, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    run_ranks(4, every_way_to_spread, place, tmp_path)
    assert len(names(oss_bucket, ".metadata")) == 5
    assert {key.split("/")[1] for key in names(oss_bucket, ".distcp") if key.startswith("rows/")} == {"a", "b"}
    replicated = 4 * 1000
    assert sum(len(oss_bucket.get(key)) for key in names(oss_bucket) if key.startswith("sharded/")) < 4 * replicated


@pytest.mark.timeout(150)
def test_the_failure_of_one_rank_is_the_failure_of_all(place: Place, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", prefix="failing/__2_")
    run_ranks(4, trouble, place, tmp_path)
    assert [key for key in names(oss_bucket, ".metadata") if key.startswith("alone/")] == [
        f"alone/__{rank}.metadata" for rank in range(4)
    ]


@pytest.mark.timeout(150)
def test_a_process_of_its_own_can_do_the_saving(place: Place, tmp_path: Path) -> None:
    run_ranks(1, save_from_another_process, place, tmp_path)
