"""A slice of the soak: a small job in bad weather, a worker of which is killed, and then all of it in a save."""

from __future__ import annotations

from pathlib import Path

import pytest
from loaders import needs_stateful_loader

from chaos.soak import (
    Scale,
    Soak,
    check_checkpoints,
    check_each_object_once,
    check_nothing_is_left,
    foreign_connections,
)
from chaos.weather import bad_weather, configured
from osstorchconnector.testing import OssBucket

SEED = 3


@needs_stateful_loader
@pytest.mark.timeout(600)
def test_a_job_that_is_killed_twice_loses_and_doubles_nothing(oss_bucket: OssBucket, tmp_path: Path) -> None:
    options = configured(oss_bucket, tmp_path)
    connections = foreign_connections(oss_bucket)
    bad_weather(oss_bucket, SEED, whole_objects="samples/")
    soak = Soak(oss_bucket, tmp_path, options, seed=SEED, epochs=1, scale=Scale(600, 10, 2, 100))
    soak.run(["worker", "save"])
    check_each_object_once(tmp_path, epochs=1, objects=600)
    loaded = check_checkpoints(oss_bucket, options)
    assert set(soak.rounds[0].saved) <= set(loaded)
    assert len(soak.rounds[0].killed) == 2
    assert oss_bucket.server.counters(with_log=False).faults.total() > 0
    check_nothing_is_left(oss_bucket, tmp_path, options, connections)
