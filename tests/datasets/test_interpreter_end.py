"""Whatever is still there when the interpreter ends goes in silence: by then the globals of modules may be gone.

They are, for one, in a program that calls `gc.freeze()`, as servers do before they fork: modules then stay, and are
cleared one after the other.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loaders import needs_torch
from scripts import run_python

from osstorchconnector.testing import OssBucket

PROGRAM = """
import builtins, gc, io, itertools, json, sys

import torch
from torch.utils.data import DataLoader

from osstorchconnector import OssCheckpoint, OssIterableDataset, OssMapDataset
from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.dcp import OssCheckpointManager, OssStorageReader, OssStorageWriter

uri, options = sys.argv[1], json.loads(sys.argv[2])
client = OssClient(**options)
checkpoint = OssCheckpoint(client)


def begun(items):
    items = iter(items)
    return items, next(items)


def reader():
    found = checkpoint.reader(uri + "large")
    for size in (100_000, 1_000_000):  # so that it fetches ahead
        found.read(size)
    return found


def writer(size, **options):
    found = checkpoint.writer(uri + "new", **options)
    found.write(bytes(size))
    return found


def numbered():
    found = OssMapDataset.from_prefix(uri, client)
    return found, found[[0, 1]], found[-1]


def lister(**options):
    return OssObjectLister(uri, client)


KINDS = {
    "map dataset": numbered,
    "joined datasets": lambda: (numbered()[0] + numbered()[0]).__getitems__([0, 2]),
    "iterator": lambda: begun(OssIterableDataset.from_prefix(uri, client)),
    "iterator that skips": lambda: begun(OssIterableDataset.from_prefix(uri, client, on_error="skip")),
    "iterator of a map": lambda: begun(OssMapDataset.from_prefix(uri, client)),
    "graph": lambda: begun(lister().shard_oss_objects().fetch_oss_objects(client).to_dataset()),
    "streams": lambda: begun(lister().fetch_oss_objects(client).as_named_streams()),
    "saving pipe": lambda: begun(
        lister().map(lambda info: ("copy/" + info.uri.key, b"x")).save_oss_objects(client, oss_base_uri=uri)
    ),
    "rows": lambda: begun(lister()),
    "fast listing": lambda: begun(OssObjectLister(uri, OssClient(**options, config_path=sys.argv[3]))),
    "pages": lambda: begun(client.list_pages(uri)),
    "loader": lambda: begun(
        DataLoader(
            OssIterableDataset.from_prefix(uri, client), batch_size=None, num_workers=1, multiprocessing_context="fork"
        )
    ),
    "reader": reader,
    "text reader": lambda: begun(io.TextIOWrapper(reader())),
    "writer": lambda: writer(100),
    "multipart writer": lambda: writer(40 << 20),
    "writer that can seek": lambda: writer(100, seekable=True),
    "spooled writer": lambda: writer(80 << 20, seekable=True),
    "checkpoints": lambda: (
        OssStorageReader(client, uri + "dcp"),
        OssStorageWriter(client, uri + "dcp"),
        OssCheckpointManager(client, uri + "run"),
    ),
}
kept = {name: make() for name, make in KINDS.items()}
if sys.argv[4] == "in a module that stays":
    builtins.kept = kept
    del kept
if sys.argv[4] == "in a cycle":
    kept["itself"] = kept
    del kept
    gc.disable()
else:
    gc.freeze()
print("kept")
"""


@needs_torch(2, 7)  # before, torch leaves a folder behind, and a warning
@pytest.mark.parametrize("place", ["in the program", "in a module that stays", "in a cycle"])
def test_what_is_still_there_goes_in_silence(oss_bucket: OssBucket, tmp_path: Path, place: str) -> None:
    for number in range(30):
        oss_bucket.put(f"a/{number:02}", b"x" * 1000)
    oss_bucket.put("large", b"x\n" * (9 << 20))
    program, config = tmp_path / "program.py", tmp_path / "config.json"
    program.write_text(PROGRAM)
    config.write_text(json.dumps({"logPath": "", "auditPath": "", "datasetConfig": {"enableFastList": True}}))
    printed, complaints = run_python(
        program, oss_bucket.uri, json.dumps(oss_bucket.options), config, place, seconds=200
    )
    # The one thing to be told: writers that were never closed stored nothing.
    others = [line for line in complaints.splitlines() if "was never closed, so nothing was stored" not in line]
    assert (printed, others) == ("kept\n", [])
    assert not {"new"} & set(oss_bucket.keys())
