"""The library without packages that only parts of it need, and with ones that are broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loaders import needs_torch
from scripts import run_python

from osstorchconnector.testing import OssBucket

PROGRAM = """
import json, sys, warnings

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("oss2", "torchdata", "safetensors", "crcmod"):
            raise {error}("a CANARY of " + name)

sys.meta_path.insert(0, Blocked())
with open(sys.argv[1]) as file:
    uri, options = json.load(file)

import torch
import torch.distributed.checkpoint as dcp
import osstorchconnector
from osstorchconnector import *  # every public name
from osstorchconnector import datapipes, emulator, testing

data = OssIterableDataset.from_prefix(uri, transform=lambda data: data.read(), shuffle=True, **options)
loader = torch.utils.data.DataLoader(data, batch_size=None)
assert list(loader) == [b"bytes"], list(loader)
assert OssMapDataset.from_prefix(uri, **options)[0].read() == b"bytes"

checkpoint = OssCheckpoint(**options)
with checkpoint.writer(uri + "model.pt") as writer:
    torch.save(torch.ones(3), writer)
with checkpoint.reader(uri + "model.pt") as reader:
    assert torch.load(reader).tolist() == [1, 1, 1]

warnings.filterwarnings("ignore", "torch.distributed is (disabled|unavailable)")
fs, state = OssDCPFileSystem(**options), {{"a": torch.ones(3)}}
dcp.save(state, storage_writer=fs.writer(uri + "dcp"))
state["a"].zero_()
dcp.load(state, storage_reader=fs.reader(uri + "dcp"))
assert state["a"].tolist() == [1, 1, 1]

from osstorchconnector import dataloader2, nodes  # importing them is no mistake yet
for use in (lambda: nodes.OssLister(uri, **options), dataloader2.OssReadingService):
    try:
        use()
    except OssConfigError as error:
        print(error)
"""


@needs_torch(2, 7)  # before, torch leaves a folder behind, and a warning
@pytest.mark.parametrize("error", ["ImportError", "RuntimeError"])
def test_each_part_works_without_packages_that_others_need(error: str, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("key", b"bytes")
    program, place = tmp_path / "program.py", tmp_path / "place.json"
    program.write_text(PROGRAM.format(error=error))
    place.write_text(json.dumps([oss_bucket.uri, oss_bucket.options]))
    printed, _ = run_python(program, place)
    problem = f"(import here: {error}: a CANARY of torchdata)"
    assert printed.splitlines() == [
        f"osstorchconnector.nodes needs torchdata>=0.10: pip install 'torchdata>=0.10' {problem}",
        f"osstorchconnector.dataloader2 needs torchdata>=0.8,<0.10: pip install 'torchdata>=0.8,<0.10' {problem}",
    ]
