"""However an epoch ends, the next one is whole, and nothing of it is left: no thread, process, socket or file."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from scripts import NO_LOGS
from torch.utils.data import DataLoader

from osstorchconnector.datasets import OssIterableDataset, OssMapDataset
from osstorchconnector.errors import OssTransformError
from osstorchconnector.files.data_object import DataObject
from osstorchconnector.testing import OssBucket

KEYS = [f"a/{number:02}" for number in range(40)]
NAME = attrgetter("name")
CONNECTIONS = 2


class Held(NamedTuple):
    """What this process has got of the system."""

    threads: int
    processes: int
    sockets: int
    files: int  # that are open
    tables: int


def held(tables: Path) -> Held:
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":  # of a queue of multiprocessing: it ends in its own time
            thread.join(100)
    targets = []
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            targets.append(str(number.readlink()))
    sockets = sum(target.startswith("socket:") for target in targets)
    return Held(
        threads=threading.active_count(),
        processes=len(multiprocessing.active_children()),
        sockets=sockets,
        files=len(targets) - sockets,
        tables=len(list(tables.iterdir())),
    )


class Ends:
    """A transform with which an epoch ends at its sixth object, in one of several ways, as long as a file says so."""

    def __init__(self, way: str, flag: Path) -> None:
        self.way, self.flag, self.pid = way, flag, os.getpid()

    def __call__(self, data: DataObject) -> str:
        if data.name == KEYS[5] and self.flag.exists():
            if self.way == "transform":
                raise LookupError("no such class")
            if self.way == "ctrl-c":
                os.kill(self.pid, signal.SIGINT)
            if self.way == "dead worker":
                os.kill(os.getpid(), signal.SIGKILL)
        return data.name


def end_an_epoch(loader: Any, way: str) -> None:
    """Begin an epoch and let it end in its way."""
    items = iter(loader)
    try:
        for number, _ in enumerate(items):
            if number == 9 and way in ("break", "garbage"):
                break
    except (OssTransformError, KeyboardInterrupt, RuntimeError) as error:
        error.__context__ = error.__cause__ = None
        error.with_traceback(None)
        return
    assert way in ("break", "garbage")
    if way == "garbage":
        cycle = [items]
        cycle.append(cycle)  # type: ignore[arg-type]


# How often an epoch ends in each way. Workers of torch that are garbage in a cycle end after five seconds each, and so
# may those beside one that was killed.
WAYS = {
    0: {"break": 6, "transform": 6, "ctrl-c": 6, "garbage": 6},
    2: {"break": 5, "transform": 5, "ctrl-c": 2, "dead worker": 2},
}


@pytest.fixture
def make(oss_bucket: OssBucket, tmp_path: Path) -> Callable[[type[Any], Any], Any]:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    (tmp_path / "tables").mkdir()
    config = tmp_path / "config.json"
    preload = {"prefetchConcurrency": CONNECTIONS, "prefetchWorker": 1}
    config.write_text(json.dumps({**NO_LOGS, "indexDir": str(tmp_path / "tables"), "datasetConfig": preload}))
    options = {**oss_bucket.options, "config_path": str(config)}
    return lambda kind, transform: kind.from_prefix(oss_bucket.uri, **options, transform=transform)


@pytest.mark.parametrize(("workers", "way"), [(workers, way) for workers in WAYS for way in WAYS[workers]])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_nothing_is_left_of_epochs_that_end_early(
    make: Callable[[type[Any], Any], Any], tmp_path: Path, kind: type[Any], workers: int, way: str
) -> None:
    flag = tmp_path / "flag"
    dataset = make(kind, Ends(way, flag))
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert sorted(loader) == KEYS
    gc.collect()
    before = held(tmp_path / "tables")
    for _ in range(WAYS[workers][way]):
        flag.touch()
        end_an_epoch(loader, way)
        flag.unlink()
        gc.collect()
    assert sorted(loader) == KEYS  # which also gives the loop time to close what was abandoned
    gc.collect()
    after = held(tmp_path / "tables")
    more = Held(*(now - then for now, then in zip(after, before, strict=True)))
    assert more.sockets <= CONNECTIONS
    assert max(more._replace(sockets=0)) <= 0, more
    assert not [thread.name for thread in threading.enumerate() if thread.name == "oss-index"]
    del dataset, loader
    gc.collect()
    assert list((tmp_path / "tables").iterdir()) == []
