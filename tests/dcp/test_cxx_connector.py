"""A checkpoint that the C++ connector wrote (`cxx_connector/recipe.py`) is loaded like one of our own."""

from __future__ import annotations

import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import upload
from dcp.cxx_connector.recipe import FOLDER, state
from dcp.states import blank, differences

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket


def test_what_the_cpp_connector_saved_is_loaded(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri, target = upload(oss_bucket, "cxx/", FOLDER), blank(state())
    dcp.load(target, storage_reader=fs.reader(uri))
    assert differences(state(), target) == []


def test_part_of_what_the_cpp_connector_saved_is_loaded(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri, target = upload(oss_bucket, "cxx/", FOLDER), {"transposed": torch.zeros(10, 6)}
    dcp.load(target, storage_reader=fs.reader(uri))
    assert torch.equal(target["transposed"], state()["transposed"])
