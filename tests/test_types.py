"""What type checkers say of programs that use the package."""

from __future__ import annotations

from pathlib import Path

from scripts import ROOT, run_python

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


def test_our_files_are_what_torch_and_pillow_ask_for_and_options_may_be_spread(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    told, complaints = run_python("-W", "default", "-m", "mypy", "--strict", program, folder=ROOT)
    assert told == "Success: no issues found in 1 source file\n"
    assert complaints == ""
