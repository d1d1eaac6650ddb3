"""In processes of their own: without the safetensors library, and with an eye on their memory."""

from __future__ import annotations

import json

import pytest
from scripts import run_python

from osstorchconnector.testing import OssBucket

MIB = 1 << 20

WITHOUT_THE_LIBRARY = """
import json, sys
sys.modules["safetensors"] = None
import torch
from osstorchconnector import OssSafetensor, OssSafetensorError

options, uri = json.loads(sys.argv[1])
files = OssSafetensor(**options)
files.save_file({"w": torch.ones(3)}, uri)
print(files.load_file(uri)["w"].tolist())
with files.safe_open(uri) as file:
    try:
        file.get_tensor("x")
    except KeyError as error:
        print(isinstance(error, OssSafetensorError))
"""

MEMORY = """
import json, sys
from pathlib import Path
import torch
from osstorchconnector import OssSafetensor

def resident(name):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024

def growth(action):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = action()
    return resident("VmHWM") - before, result

options, uri, size = json.loads(sys.argv[1])
files = OssSafetensor(**options)
tensors = {str(number): torch.full((size // 16 // 4,), 1.0) for number in range(16)}
files.save_file({"w": torch.ones(3)}, uri + ".small")
files.load_file(uri + ".small")
saving, _ = growth(lambda: files.save_file(tensors, uri))
del tensors
loading, loaded = growth(lambda: files.load_file(uri))
del loaded
staged, _ = growth(lambda: files.load_file(uri, "meta"))
print(json.dumps([saving, loading, staged]))
"""


def test_everything_works_without_the_safetensors_library(oss_bucket: OssBucket) -> None:
    printed, _ = run_python("-c", WITHOUT_THE_LIBRARY, json.dumps([oss_bucket.options, oss_bucket.uri + "a"]))
    assert printed == "[1.0, 1.0, 1.0]\nTrue\n"


@pytest.mark.parametrize("size", [256 * MIB])
def test_beside_the_tensors_a_save_and_a_load_take_64_mib_at_most(oss_bucket: OssBucket, size: int) -> None:
    printed, _ = run_python("-c", MEMORY, json.dumps([oss_bucket.options, oss_bucket.uri + "a", size]))
    saving, loading, staged = json.loads(printed)
    assert saving <= 64 * MIB
    assert loading <= size + 64 * MIB
    assert staged <= 64 * MIB
