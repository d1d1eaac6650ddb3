from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from dcp.conftest import as_torch_tells, names
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem
from osstorchconnector.errors import OssConfigError, OssProtocolError, OssUsageError
from osstorchconnector.testing import OssBucket


def state(number: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((50, 50), float(number))}


def loaded(manager: OssCheckpointManager, step: int | None = None) -> tuple[int | None, float]:
    target = state(-1)
    found = manager.load(target, step)
    return found, target["weight"][0, 0].item()


@pytest.fixture
def manager(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> OssCheckpointManager:
    return OssCheckpointManager(fs, oss_bucket.uri + "run", keep=2)


def test_the_newest_step_is_loaded_unless_one_is_named(manager: OssCheckpointManager) -> None:
    manager.save(100, state(1))
    manager.save(200, state(2))
    assert manager.latest() == 200
    assert loaded(manager) == (200, 2)
    assert loaded(manager, 100) == (100, 1)


def test_where_nothing_was_saved_nothing_is_loaded(manager: OssCheckpointManager) -> None:
    assert manager.latest() is None
    assert loaded(manager) == (None, -1)
    with pytest.raises(CheckpointException, match=as_torch_tells("no checkpoint at")):
        loaded(manager, 5)


@pytest.mark.parametrize("step", [-1, 1.5, "7", None])
def test_what_is_no_step_is_refused_before_anything_is_stored(
    manager: OssCheckpointManager, oss_bucket: OssBucket, step: Any
) -> None:
    for save in (manager.save, manager.async_save):
        with pytest.raises(OssUsageError, match="a step is a whole number, 0 or more"):
            save(step, state(1))
    assert names(oss_bucket) == []
    manager.save(0, state(2))
    assert loaded(manager) == (0, 2)


def test_only_the_newest_are_kept(manager: OssCheckpointManager, oss_bucket: OssBucket) -> None:
    for step in (1, 2, 10, 11):
        manager.save(step, state(step))
    assert manager.steps() == [10, 11]
    assert {key.split("/")[1] for key in names(oss_bucket)} == {"step-0000000010", "step-0000000011"}


def test_half_written_neighbours_do_not_count(manager: OssCheckpointManager, oss_bucket: OssBucket) -> None:
    manager.save(1, state(1))
    for step in ("step-0000000007", "step-0000000008", "step-9", "else"):
        oss_bucket.put(f"run/{step}/__0_0.18c2f0a1b2c-5f3a9c01.distcp", b"half")
    manager.save(2, state(2))
    assert manager.steps() == [1, 2]
    assert loaded(manager) == (2, 2)
    assert len(manager.clean(older_than=0.0)) == 4
    assert manager.steps() == [1, 2]


def test_a_listing_with_foreign_names_deletes_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    """A server, or a cache before it, lists the whole bucket in the name of the checkpoints' prefix."""
    manager = OssCheckpointManager(fs, oss_bucket.uri + "run", keep=1)
    oss_bucket.put("else/step-0000000001/.metadata", b"somebody else's")
    manager.save(1, state(1))
    before = set(oss_bucket.keys())
    for operation in ("ListObjectsV2", "ListMultipartUploads"):
        oss_bucket.server.fail(operation, "foreign_keys", bucket=oss_bucket.name)
    with contextlib.suppress(CheckpointException, OssProtocolError):
        manager.save(2, state(2))
    for clean in (lambda: manager.clean(older_than=0.0), lambda: fs.clean(oss_bucket.uri + "run", older_than=0.0)):
        with pytest.raises(OssProtocolError, match="outside it"):
            clean()
    oss_bucket.server.clear_faults()
    assert before <= set(oss_bucket.keys())
    assert loaded(manager, 1) == (1, 1)


def test_without_keep_all_stay(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = OssCheckpointManager(fs, oss_bucket.uri + "run")
    for step in range(4):
        manager.save(step, state(step))
    assert manager.steps() == [0, 1, 2, 3]


def test_asynchronous_saves_see_the_state_as_it_was(manager: OssCheckpointManager) -> None:
    weights = state(0)
    for step in range(5):
        weights["weight"].fill_(step)
        manager.async_save(step, weights)
    manager.close()
    assert manager.steps() == [3, 4]
    assert loaded(manager, 3) == (3, 3)
    assert loaded(manager) == (4, 4)


class Counter:
    """Has a state of its own, as optimizers and loaders do."""

    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.count = state_dict["count"]


def test_what_has_a_state_of_its_own_is_saved_as_it_was(manager: OssCheckpointManager) -> None:
    counter = Counter(3)
    saving = manager.async_save(1, {"counter": counter, **state(1)})
    counter.count = 4
    saving.result()
    found = Counter(0)
    manager.load({"counter": found})
    assert found.count == 3


def test_an_option_that_saving_does_not_have_is_refused_at_once(manager: OssCheckpointManager) -> None:
    with pytest.raises(TypeError, match="async_stager"):
        manager.async_save(1, state(1), async_stager=None)
    manager.wait()
    assert manager.steps() == []


def test_several_saves_may_be_in_flight(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = OssCheckpointManager(fs, oss_bucket.uri + "run", in_flight=3)
    weights = state(0)
    for step in range(7):
        weights["weight"].fill_(step)
        manager.async_save(step, weights)
    manager.wait()
    assert [loaded(manager, step)[1] for step in manager.steps()] == list(range(7))


def test_the_error_of_an_asynchronous_save_is_in_its_future_and_raised_by_wait(
    manager: OssCheckpointManager, oss_bucket: OssBucket
) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", key="run/step-0000000001/.metadata")
    future = manager.async_save(1, state(1))
    with pytest.raises(CheckpointException, match=r"step-0000000001/\.metadata.*AccessDenied"):
        future.result()
    with pytest.raises(CheckpointException, match="AccessDenied"):
        manager.wait()
    manager.wait()
    manager.async_save(2, state(2)).result()
    assert manager.steps() == [2]


def test_wait_raises_the_first_error_also_when_later_saves_went_well(
    manager: OssCheckpointManager, oss_bucket: OssBucket
) -> None:
    for step in (1, 2):
        oss_bucket.server.fail("PutObject", "AccessDenied", key=f"run/step-000000000{step}/.metadata")
    for step in range(4):
        manager.async_save(step, state(step))
    with pytest.raises(CheckpointException, match="step-0000000001"):
        manager.wait()
    manager.wait()
    assert manager.steps() == [0, 3]


def test_old_ones_that_cant_be_removed_fail_no_save(manager: OssCheckpointManager, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("DeleteObject", "AccessDenied")
    for step in range(3):
        manager.async_save(step, state(step))
    manager.wait()
    assert manager.latest() == 2


@pytest.mark.parametrize("options", [{"keep": 0}, {"in_flight": 0}], ids=str)
def test_settings_that_make_no_sense_are_refused(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, options: dict[str, int]
) -> None:
    with pytest.raises(OssConfigError, match="at least 1"):
        OssCheckpointManager(fs, oss_bucket.uri + "run", **options)
