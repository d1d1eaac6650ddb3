"""Several ranks, each a process: starting them takes longer than what they do, so each test does much."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.models import every_parallelism, save_for_ever
from dcp.ranks import Place, every_way_to_spread, run_ranks, save_from_another_process, start_ranks, trouble

from osstorchconnector.testing import OssBucket


@pytest.fixture
def place(oss_bucket: OssBucket) -> Place:
    return Place(oss_bucket.uri, oss_bucket.options)


@pytest.mark.timeout(600)
def test_what_4_or_2_ranks_or_1_save_loads_on_4_3_2_and_1_however_it_is_spread(
    place: Place, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    run_ranks(4, every_way_to_spread, place, tmp_path)
    assert len(names(oss_bucket, ".metadata")) == 6
    assert {key.split("/")[1] for key in names(oss_bucket, ".distcp") if key.startswith("rows/")} == {"a", "b"}
    replicated = 4 * 1000
    assert sum(len(oss_bucket.get(key)) for key in names(oss_bucket) if key.startswith("sharded/")) < 4 * replicated


@pytest.mark.timeout(600)
def test_the_failure_of_one_rank_is_the_failure_of_all(place: Place, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", prefix="failing/__2_")
    run_ranks(4, trouble, place, tmp_path)
    assert [key for key in names(oss_bucket, ".metadata") if key.startswith("alone/")] == [
        f"alone/__{rank}.metadata" for rank in range(4)
    ]


@pytest.mark.timeout(600)
def test_a_process_of_its_own_can_do_the_saving(place: Place, tmp_path: Path) -> None:
    run_ranks(1, save_from_another_process, place, tmp_path)


@pytest.mark.timeout(600)
def test_a_model_goes_on_however_it_and_the_saved_one_are_spread(place: Place, tmp_path: Path) -> None:
    run_ranks(4, every_parallelism, place, tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_ranks_killed_at_a_random_moment_leave_a_whole_checkpoint(
    place: Place, oss_bucket: OssBucket, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    moment, victims = random.randint(40, 80), random.sample(range(3), random.randint(1, 3))
    context = start_ranks(3, save_for_ever, place, tmp_path)
    while requests_so_far(oss_bucket) < moment:
        assert all(process.is_alive() for process in context.processes)
    for rank in victims:
        context.processes[rank].kill()
    for rank in victims:
        context.processes[rank].join()
    for process in context.processes:  # the others wait for the dead
        process.kill()
        process.join()
    number = load_numbers(place)
    place.fs.clean(place.uri, older_than=0)
    assert load_numbers(place) == number
    assert len(names(oss_bucket)) == 4
    assert oss_bucket.server.uploads(oss_bucket.name) == []


def requests_so_far(bucket: OssBucket) -> int:
    return sum(bucket.server.counters(with_log=False).requests.values())


def load_numbers(place: Place) -> int:
    """Load what `save_for_ever` saved on 3 ranks; return the number that all of it is."""
    own = {f"of rank {rank}": torch.zeros(3) for rank in range(3)}
    state = {"spread": torch.zeros(3000, 7), "number": 0, **own}
    dcp.load(state, storage_reader=place.fs.reader(place.uri + "ckpt"))
    number = state.pop("number")
    assert [tensor.unique().tolist() for tensor in state.values()] == [[number]] * 4
    return int(number)
