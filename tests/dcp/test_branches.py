"""The newest checkpoint follows what the user did: against a model, and with the manager, killed at any moment."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from dcp.conftest import as_torch_tells, names
from dcp.states import differences
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import LoadPlan

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem
from osstorchconnector.dcp.run import BRANCHES, Branches
from osstorchconnector.errors import OssIntegrityError, OssPermissionError
from osstorchconnector.testing import OssBucket

# pure


@dataclass
class Run:
    """A run with its notes as the manager keeps them, and beside it, in `order`, what the user would say."""

    etags: dict[int, str] = field(default_factory=dict)
    notes: Branches = field(default_factory=Branches)
    current: set[int] = field(default_factory=set)  # the steps of the branch that the user is on
    left: list[list[int]] = field(default_factory=list)  # the branches that were left
    in_flight: dict[int, set[int]] = field(default_factory=dict)  # by step: what was published of saves begun later
    numbers: Any = field(default_factory=itertools.count)
    has_overlapped: bool = False  # of saves in flight together it depends on chance which has left what

    def begin(self, step: int) -> None:
        """Begin to save; who goes back waits first for what is in flight, as the manager does."""
        while any(other >= step for other in self.in_flight):
            self.end(0, "well")
        self.has_overlapped |= bool(self.in_flight)
        self.in_flight[step] = set()
        self._write(self.notes.saving(step, self.etags, set()))

    def end(self, number: int, how: str) -> None:
        """Let a save in flight end."""
        if not self.in_flight:
            return
        step = list(self.in_flight)[number % len(self.in_flight)]
        later = self.in_flight.pop(step)
        if how == "before it is published":
            return
        self.etags[step] = f"{next(self.numbers)}"
        for earlier in [other for other in self.in_flight if other < step]:  # who goes back waits, so they are lower
            self.in_flight[earlier].add(step)
        gone = [other for other in self.current if other > step and other not in later]
        self.left = [[other for other in branch if other != step] for branch in self.left]
        self.left.append(gone)
        self.current = (self.current - set(gone)) | {step}
        if how == "well":
            self._write(self.notes.settled(self.etags))

    def remove(self, step: int) -> None:
        """Remove a checkpoint as a manager does: what was gone back from is written down before."""
        self._write(self.notes.settled(self.etags))
        self.etags.pop(step, None)
        self.current.discard(step)
        self.left = [[other for other in branch if other != step] for branch in self.left]

    def _write(self, notes: Branches) -> None:
        self.notes = Branches.loaded(notes.dumped(), "notes")

    def order(self) -> list[int]:
        return [step for branch in self.left for step in sorted(branch)] + sorted(self.current)


STEPS = st.integers(0, 9)
HOW = st.sampled_from(["before it is published", "before it is written down", "well"])
ACTIONS = st.one_of(
    st.tuples(st.just("begin"), STEPS),
    st.tuples(st.just("remove"), STEPS),
    st.tuples(st.just("end"), st.integers(0, 3), HOW),
)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=40))
def test_the_order_is_that_of_what_the_user_did(actions: list[tuple[Any, ...]]) -> None:
    run = Run()
    for name, *arguments in actions:
        getattr(run, name)(*arguments)
        found, expected = run.notes.ordered(run.etags), run.order()
        assert found[len(found) - len(run.current) :] == sorted(run.current)
        assert sorted(found) == sorted(expected) if run.has_overlapped else found == expected


def test_without_notes_the_order_is_that_of_the_steps() -> None:
    assert Branches().ordered({300: "c", 100: "a", 200: "b"}) == [100, 200, 300]


def test_steps_whose_saves_began_later_are_not_gone_back_from() -> None:
    assert Branches().saving(100, {200: "b"}, {200}) == Branches()
    assert Branches().saving(100, {200: "b", 300: "c"}, {200}).ordered({100: "a", 200: "b", 300: "c"}) == [
        300,
        100,
        200,
    ]


def test_a_going_back_holds_when_its_save_is_published_and_not_before() -> None:
    etags = {100: "a", 300: "c"}
    noted = Branches().saving(100, etags, set())
    assert noted.ordered(etags) == [100, 300]
    assert noted.ordered(etags | {100: "new"}) == [300, 100]
    assert noted.ordered({300: "c"}) == [300]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"format": 2, "left": {}}',
        b'{"format": 1}',
        b'{"format": 1, "left": []}',
        b'{"format": 1, "left": {"x": ["a", 1]}}',
        b'{"format": 1, "left": {"1": ["a"]}}',
        b'{"format": 1, "left": {"1": [1, 1]}}',
        b'{"format": 1, "left": {"1": ["a", true]}}',
        b'{"format": 1, "left": {"1": ["a", "b"]}}',
        b'{"format": 1, "left": {}}',
        b'{"format": 1, "left": {}, "going_back": 5}',
        b'{"format": 1, "left": {}, "going_back": [5]}',
        b'{"format": 1, "left": {}, "going_back": [["5", "", {}]]}',
        b'{"format": 1, "left": {}, "going_back": [[5, "", {"x": "a"}]]}',
        b'{"format": 1, "left": {}, "going_back": [[5, "", []]]}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=lambda data: data[:40],
)
def test_notes_that_are_none_are_an_error_that_says_what_to_do(data: bytes) -> None:
    with pytest.raises(OssIntegrityError, match="oss://bucket/notes does not say .* remove it if"):
        Branches.loaded(data, "oss://bucket/notes")


# with the manager


def state(number: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((10,), float(number))}


def manager_of(fs: OssDCPFileSystem, bucket: OssBucket, folder: str = "run", **options: Any) -> OssCheckpointManager:
    return OssCheckpointManager(fs, bucket.uri + folder, **options)


def loaded(manager: OssCheckpointManager, step: int | None = None) -> int | None:
    """Load the newest, or a step, and see that it is what was saved under that number."""
    target = state(-1)
    found = manager.load(target, step)
    assert found is None or differences(state(found), target) == []
    return found


def test_who_goes_back_keeps_the_new_branch(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket, keep=3)
    for step in (100, 200, 300):
        manager.save(step, state(step))
    assert loaded(manager, 100) == 100
    for step, kept in [(110, [100, 110, 300]), (120, [100, 110, 120]), (130, [110, 120, 130])]:
        manager.save(step, state(step))
        restarted = manager_of(fs, oss_bucket, keep=3)
        assert loaded(restarted) == restarted.latest() == step
        assert restarted.steps() == kept


def test_a_step_that_is_saved_anew_belongs_to_the_new_branch(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket)
    for step in (100, 200, 300, 100):
        manager.save(step, state(step))
    assert loaded(manager) == 100
    manager.save(200, state(200))
    assert loaded(manager) == 200
    manager.save(250, state(250))
    assert manager.steps() == [100, 200, 250, 300]
    assert loaded(manager_of(fs, oss_bucket)) == 250


def test_going_back_twice(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket, keep=4)
    for step in (10, 20, 30, 15, 25, 12):
        manager.save(step, state(step))
        assert loaded(manager) == step
    assert manager.steps() == [10, 12, 15, 25]  # of the first branch nothing, of the second all


def test_a_run_that_begins_anew_in_the_same_folder(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket, keep=2)
    for step in (1000, 2000, 1, 2, 3):
        manager.save(step, state(step))
        assert loaded(manager) == step
    assert manager.steps() == [2, 3]


def test_saves_going_forward_write_no_notes(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket, keep=2, in_flight=3)
    for step in range(6):
        manager.async_save(step, state(step))
    manager.close()
    assert names(oss_bucket, BRANCHES) == []
    assert manager.latest() == 5


def test_asynchronous_saves_that_overtake_each_other_are_of_one_branch(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    manager = manager_of(fs, oss_bucket, in_flight=2)
    oss_bucket.server.fail(
        "ListObjectsV2", "503", query={"prefix": "run/"}, times=1
    )  # the first looks late what is there
    first = manager.async_save(1, state(1))
    while not oss_bucket.server.counters(with_log=False).faults["503"]:
        assert not first.done()
    manager.async_save(2, state(2)).result()
    first.result()
    manager.wait()
    assert loaded(manager) == 2


def test_a_second_save_in_flight_does_not_undo_that_the_first_goes_back(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    before = manager_of(fs, oss_bucket)
    for step in (100, 200, 300):
        before.save(step, state(step))
    manager = manager_of(fs, oss_bucket, in_flight=2)
    oss_bucket.server.fail("PutObject", "503", prefix="run/step-0000000110/")
    oss_bucket.server.fail("PutObject", "AccessDenied", prefix="run/step-0000000120/")
    first, second = (manager.async_save(step, state(step)) for step in (110, 120))
    assert isinstance(second.exception(), CheckpointException)
    oss_bucket.server.clear_faults()
    first.result()
    assert loaded(manager) == 110


def test_going_back_waits_for_what_is_in_flight(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket, in_flight=3)
    for step in (1, 2, 3, 2):
        manager.async_save(step, state(step))
    manager.wait()
    assert loaded(manager) == 2
    assert manager.steps() == [1, 2, 3]


@pytest.mark.parametrize("existing", [False, True], ids=["between two steps", "over a step that is there"])
def test_whatever_request_of_going_back_is_the_last_one_the_newest_is_the_old_one_or_the_new_one(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, existing: bool
) -> None:
    """As if the process were killed after one request, after two, and so on."""
    step, outcomes = 100 if existing else 110, []
    for count in itertools.count():
        run = f"run-{count}"
        before = manager_of(fs, oss_bucket, run, keep=3)
        for old in (100, 200, 300):
            before.save(old, state(old))
        oss_bucket.server.fail("", "AccessDenied", after=count)
        with contextlib.suppress(CheckpointException):
            manager_of(fs, oss_bucket, run, keep=3).save(step, state(step))
        struck = oss_bucket.server.counters(with_log=False).faults["AccessDenied"]
        oss_bucket.server.clear_faults()
        oss_bucket.server.reset_counters()
        restarted = manager_of(fs, oss_bucket, run, keep=3)
        newest = loaded(restarted)
        outcomes.append(newest)
        assert loaded(restarted, 100) == 100
        assert newest == step or {100, 200, 300} <= set(restarted.steps())  # nothing goes before the new one is safe
        if newest == step:  # the restarted job goes on from there
            restarted.save(step + 10, state(step + 10))
            assert loaded(restarted) == step + 10
            assert len(restarted.steps()) == 3
        if not struck:
            break
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {300, step}


def test_a_save_that_fails_goes_back_from_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket)
    for step in (1, 2):
        manager.save(step, state(step))
    oss_bucket.server.fail("PutObject", "AccessDenied", prefix="run/step-0000000000/")
    with pytest.raises(CheckpointException):
        manager.save(0, state(0))
    oss_bucket.server.clear_faults()
    assert loaded(manager) == 2
    manager.save(3, state(3))
    assert loaded(manager) == 3
    manager.save(0, state(0))
    assert loaded(manager) == 0


def test_the_order_survives_that_the_save_which_went_back_is_removed(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    manager = manager_of(fs, oss_bucket, keep=5)
    for step in (100, 300, 110, 120):
        manager.save(step, state(step))
    for key in names(oss_bucket):
        if key.startswith("run/step-0000000110/"):
            oss_bucket.delete(key)
    assert loaded(manager) == 120


@pytest.mark.parametrize(("fault", "kind"), [("AccessDenied", OssPermissionError), ("", OssIntegrityError)])
def test_notes_that_cant_be_read_are_an_error(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, fault: str, kind: type[Exception]
) -> None:
    manager = manager_of(fs, oss_bucket)
    for step in (100, 300, 110):
        manager.save(step, state(step))
    if fault:
        oss_bucket.server.fail("GetObject", fault, key=f"run/{BRANCHES}")
    else:
        oss_bucket.put(f"run/{BRANCHES}", b"damaged")
    with pytest.raises(kind, match=BRANCHES):
        manager.load(state(0))
    with pytest.raises(CheckpointException, match=BRANCHES):
        manager.save(105, state(105))
    assert manager.steps() == [100, 110, 300]


def test_copied_to_another_folder_a_run_has_the_same_order(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager = manager_of(fs, oss_bucket)
    for step in (100, 300, 110):
        manager.save(step, state(step))
    for key in reversed(names(oss_bucket)):
        fs.client.copy(oss_bucket.uri + key, oss_bucket.uri + "copy/" + key)
    assert loaded(manager_of(fs, oss_bucket, "copy/run")) == 110


def test_a_step_that_is_removed_while_the_newest_is_loaded_makes_room_for_a_newer_one(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    """Another job trains on, and keeps one."""
    training, loading = manager_of(fs, oss_bucket, keep=1), manager_of(fs, oss_bucket)
    training.save(1, state(1))
    latest = loading.latest

    def then_another() -> int | None:
        found = latest()
        if found == 1:
            training.save(2, state(2))
        return found

    loading.latest = then_another  # type: ignore[method-assign]
    assert loaded(loading) == 2


def test_the_error_of_a_load_is_not_lost_when_nobody_can_tell_what_is_there_now(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    manager = manager_of(fs, oss_bucket)
    manager.save(1, state(1))
    oss_bucket.server.fail("GetObject", "AccessDenied", key="run/step-0000000001/.metadata")
    oss_bucket.server.fail("ListObjectsV2", "AccessDenied", after=1)
    with pytest.raises(CheckpointException, match=as_torch_tells("GetObject .*AccessDenied")):
        manager.load(state(0))


def test_a_named_step_that_is_replaced_by_other_contents_while_it_is_loaded_is_loaded_again(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    manager, target = manager_of(fs, oss_bucket), state(0)
    manager.save(1, state(1) | {"other": torch.ones(3)})
    others = [lambda: manager_of(fs, oss_bucket).save(1, state(2))]

    class Planner(DefaultLoadPlanner):
        def create_local_plan(self) -> LoadPlan:
            if others:
                others.pop()()
            return super().create_local_plan()

    assert manager.load(target, 1, planner=Planner()) == 1
    assert differences(state(2), target) == []
