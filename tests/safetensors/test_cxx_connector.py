"""A file that the C++ connector wrote (`cxx_connector/recipe.py`) is read like one of our own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch

from osstorchconnector import OssSafetensor
from osstorchconnector.testing import OssBucket


def load_recipe() -> ModuleType:
    path = Path(__file__).parent / "cxx_connector" / "recipe.py"  # `safetensors.` would be the library
    spec = importlib.util.spec_from_file_location("cxx_safetensors_recipe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


def test_what_the_cpp_connector_saved_is_loaded(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    uri, expected = oss_bucket.uri + "cxx", recipe.tensors()
    oss_bucket.put("cxx", recipe.FILE.read_bytes())
    found = files.load_file(uri)
    with files.safe_open(uri) as file:
        assert file.keys() == list(expected) == list(found)
        assert file.metadata() == recipe.METADATA
        parts = {name: file.get_slice(name)[...] for name in expected}
    for name, tensor in expected.items():
        for here in (found[name], parts[name]):
            assert (here.dtype, here.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(here.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_it_saved_the_same_tensors_in_another_order(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    files.save_file(recipe.tensors(), oss_bucket.uri + "ours", recipe.METADATA)
    ours, theirs = safetensors.torch.load(oss_bucket.get("ours")), safetensors.torch.load(recipe.FILE.read_bytes())
    assert ours.keys() == theirs.keys()
    assert oss_bucket.get("ours") != recipe.FILE.read_bytes()
