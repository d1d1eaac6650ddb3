"""What type checkers say of programs that use the package."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import ROOT, run_python

from osstorchconnector import OssClient, OssIterableDataset, OssMapDataset
from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem

PROGRAM = """
from typing import IO

from osstorchconnector import DataObject, OssCheckpoint, OssIterableDataset
from osstorchconnector.testing import OssBucket


def use(bucket: OssBucket) -> list[IO[bytes]]:
    OssIterableDataset.from_prefix(bucket.uri, transform=opened, **bucket.options)
    checkpoint = OssCheckpoint(**bucket.options)
    with checkpoint.writer(bucket.uri + "key") as writer, checkpoint.reader(bucket.uri + "key") as reader:
        return [writer, reader]


def opened(data: DataObject) -> IO[bytes]:
    return data
"""


MISTYPED = """
from osstorchconnector import OssIterableDataset, OssMapDataset
from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem

URI, ENDPOINT = "oss://bucket/key", "https://oss-cn-beijing.aliyuncs.com"
fs = OssDCPFileSystem(ENDPOINT)
manager = OssCheckpointManager(fs, URI, writer_options={"thread_count": 2}, reader_options={"memory_bytes": 5})
OssIterableDataset.from_prefix(URI, ENDPOINT, shuffle=True, seed=7, transform=str)
OssMapDataset.from_objects([URI], ENDPOINT, on_error="skip", share_listing=True)
OssMapDataset.from_tar("a.tar", None, ENDPOINT, labels="folders", filter=".jpg", group_by="basename", region="cn-test")

OssIterableDataset.from_prefix(URI, ENDPOINT, shufle=True)
OssIterableDataset.from_prefix(URI, ENDPOINT, seed="seven")
OssMapDataset.from_objects([URI], ENDPOINT, on_eror="skip")
OssMapDataset.from_objects([URI], ENDPOINT, on_error="skipp")
OssIterableDataset.from_manifest_file("manifest", lambda file: [], URI, ENDPOINT, in_ordr=True)
OssMapDataset.from_index("index", ENDPOINT, on_eror="skip")
OssMapDataset.from_prefix(URI, ENDPOINT, shuffle=True)
OssMapDataset.from_prefix(URI, ENDPOINT, labels="names")
OssMapDataset.from_objects([URI], ENDPOINT, seed=7)
OssMapDataset.from_manifest_file("manifest", lambda file: [], URI, ENDPOINT, shard_ranks=True)
OssMapDataset.from_index("index", ENDPOINT, even="drop")
OssMapDataset.from_tar("a.tar", None, ENDPOINT, relist="epoch")
OssIterableDataset.from_prefix(URI, ENDPOINT, share_listing=True)
fs.writer(URI, thread_cont=2)
fs.reader(URI, weights_olny=True)
OssCheckpointManager(fs, URI, writer_options={"thread_cont": 2})
OssCheckpointManager(fs, URI, reader_options={"weights_olny": True})
manager.save(1, {}, no_dst=True)
manager.async_save(1, {}, no_dst=True)
manager.load({}, no_dst=True)
"""


def test_a_mistyped_option_is_told_by_type_checkers(tmp_path: Path) -> None:
    program = tmp_path / "mistyped.py"
    program.write_text(MISTYPED)
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    wrong = {int(number) for number in re.findall(r"mistyped\.py:(\d+): error: ", told)}
    lines = MISTYPED.splitlines()
    first = lines.index("OssIterableDataset.from_prefix(URI, ENDPOINT, shufle=True)")
    assert wrong == set(range(first + 1, len(lines) + 1)), told


URI, CLIENT = "oss://bucket/key", OssClient("http://127.0.0.1:9", region="cn-test")
FS = OssDCPFileSystem(CLIENT)


@pytest.mark.parametrize(
    ("mistyped", "call"),
    [
        ("shufle", lambda: OssIterableDataset.from_prefix(URI, CLIENT, shufle=True)),
        ("shuffle", lambda: OssMapDataset.from_prefix(URI, CLIENT, shuffle=True)),
        ("on_eror", lambda: OssMapDataset.from_objects([URI], CLIENT, on_eror="skip")),
        ("in_ordr", lambda: OssIterableDataset.from_manifest_file("manifest", iter, URI, CLIENT, in_ordr=True)),
        ("sed", lambda: OssIterableDataset.from_index("index", CLIENT, sed=7)),
        ("thread_cont", lambda: FS.writer(URI, thread_cont=2)),
        ("weights_olny", lambda: FS.reader(URI, weights_olny=True)),
        ("thread_cont", lambda: OssCheckpointManager(FS, URI, writer_options={"thread_cont": 2})),
        ("weights_olny", lambda: OssCheckpointManager(FS, URI, reader_options={"weights_olny": True})),
        ("no_dst", lambda: OssCheckpointManager(FS, URI).async_save(1, {}, no_dst=True)),
    ],
)
def test_a_mistyped_option_is_a_type_error_that_names_it(mistyped: str, call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=f"'{mistyped}'"):
        call()


def test_our_files_are_what_torch_and_pillow_ask_for_and_options_may_be_spread(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    told, complaints = run_python("-W", "default", "-m", "mypy", "--strict", program, folder=ROOT)
    assert told == "Success: no issues found in 1 source file\n"
    assert complaints == ""
