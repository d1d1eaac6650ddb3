"""A whole training job with faults all the time: workers and the job killed, checkpoints saved and loaded.

`OSS_CHAOS_SEED` repeats a run, `OSS_CHAOS_ROUNDS` is the number of epochs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from faults.killing import kill_when

from chaos.checkpoints import Checkpoints, is_same, weights
from chaos.held import Held
from chaos.job import SAVES_PER_DCP_SAVE
from chaos.soak import (
    VICTIMS,
    Moment,
    Scale,
    Soak,
    check_checkpoints,
    check_each_object_once,
    check_nothing_is_left,
    foreign_connections,
)
from chaos.weather import IN_FLIGHT, SHARE_OF_FAULTS, bad_weather, configured
from osstorchconnector.testing import OssBucket

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SEED = int(os.environ["OSS_CHAOS_SEED"])
ROUNDS = int(os.environ.get("OSS_CHAOS_ROUNDS") or 3)
MOST_SOCKETS = 2 * IN_FLIGHT
Summary = Callable[[str], None]


def test_a_job_loses_and_doubles_nothing_whatever_fails_and_is_killed(
    oss_bucket: OssBucket, tmp_path: Path, summary: Summary
) -> None:
    options = configured(oss_bucket, tmp_path)
    connections = foreign_connections(oss_bucket)
    bad_weather(oss_bucket, SEED, whole_objects="samples/")
    soak = Soak(oss_bucket, tmp_path, options, seed=SEED, epochs=ROUNDS)
    try:
        soak.run()
        check_each_object_once(tmp_path, epochs=ROUNDS, objects=Scale().objects)
        loaded = check_checkpoints(oss_bucket, options)
    finally:
        tell(soak, summary)
    assert all(len(this.killed) == len(VICTIMS) for this in soak.rounds)
    assert {uri for this in soak.rounds for uri in this.saved} <= set(loaded), f"seed {SEED}: a checkpoint has gone"
    summary(f"{len(loaded)} checkpoints exist and load bit-identical; {existing(soak, loaded)}")
    summary(holds_no_more(soak))
    check_nothing_is_left(oss_bucket, tmp_path, options, connections)


def existing(soak: Soak, loaded: list[str]) -> str:
    names = [f"/dcp/{death.epoch}-{death.done:06}" for death in soak.doomed]
    count = sum(uri.endswith(tuple(names)) for uri in loaded)
    return (
        f"{len(names)} DCP saves were killed after {[death.requests for death in soak.doomed]} requests, {count} exist"
    )


def holds_no_more(soak: Soak) -> str:
    """Compare the resources of each of the job's processes early and late in its life; return the largest difference.

    The number of sockets varies with the requests in flight, so it has a bound instead.
    """
    most = Held(0, 0, 0, 0)
    for moments in soak.held:
        for first, last in lives(moments):
            grown = Held(*(after - before for before, after in zip(first, last, strict=True)))
            most = Held(*map(max, most, grown._replace(sockets=last.sockets)))
    assert most.files <= 2, f"seed {SEED}: {most}"
    assert most.sockets <= MOST_SOCKETS, f"seed {SEED}: {most}"
    assert most.threads <= 2, f"seed {SEED}: {most}"
    assert most.mebibytes <= 32, f"seed {SEED}: {most}"
    return (
        f"{len(soak.held)} jobs with their workers: at most {most.files} more files, {most.threads} more threads, "
        f"{most.mebibytes} MiB more; at most {most.sockets} sockets in the end"
    )


def lives(moments: Sequence[Moment]) -> Iterator[tuple[Held, Held]]:
    """Yield what each process of a job held early and late in its life.

    The job lives through all epochs, its workers through one. So workers are compared within an epoch: they inherit the
    files that the job has open when it forks them. Left out are moments at which a process had ended, and those before
    the first DCP save: it opens event loops of its own, which stay.
    """
    settled = [this for this in moments[SAVES_PER_DCP_SAVE:] if len(this.held) == 1 + Scale().workers]
    if settled:
        yield settled[0].held[0], settled[-1].held[0]
    for epoch in {this.epoch for this in settled}:
        held = [this.held for this in settled if this.epoch == epoch]
        yield from zip(held[0][1:], held[-1][1:], strict=True)


def tell(soak: Soak, summary: Summary) -> None:
    share, seconds = f"{SHARE_OF_FAULTS:.0%} of requests fail", sum(this.seconds for this in soak.rounds)
    summary(f"soak, seed {SEED}: {ROUNDS} epochs of {Scale().objects} objects, {share}, {seconds:.0f} s")
    summary("epoch  seconds  requests  struck  checkpoints saved  killed")
    for epoch, this in enumerate(soak.rounds):
        numbers = f"{this.seconds:7.0f}  {this.requests:8}  {this.faults:6}  {len(this.saved):17}"
        summary(f"{epoch:5}  {numbers}  {', '.join(this.killed)}")


def test_every_dcp_save_that_is_killed_exists_whole_or_not_at_all(
    oss_bucket: OssBucket, tmp_path: Path, summary: Summary
) -> None:
    dice = random.Random(SEED)
    checkpoints = Checkpoints(oss_bucket.uri, configured(oss_bucket, tmp_path))
    bad_weather(oss_bucket, SEED)
    existing = 0
    for number in range(ROUNDS * 5):
        moment = dice.randrange(24)
        seen = oss_bucket.server.counters(with_log=False).requests.total()

        def save() -> None:
            checkpoints.save_dcp(0, number)  # noqa: B023

        kill_when(save, lambda: oss_bucket.server.counters(with_log=False).requests.total() >= seen + moment)  # noqa: B023
        if f"dcp/0-{number:06}/.metadata" in oss_bucket.keys():  # noqa: SIM118
            existing += 1
            found = checkpoints.load_dcp(f"{oss_bucket.uri}dcp/0-{number:06}")
            assert is_same(found, weights(0, number)), f"seed {SEED}"
    summary(f"{ROUNDS * 5} more DCP saves killed at random, {existing} exist and load bit-identical")
