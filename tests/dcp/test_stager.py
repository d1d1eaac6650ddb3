from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.states import blank, differences, many_kinds
from torch.distributed.checkpoint.staging import AsyncStager

from osstorchconnector.dcp import OssDCPFileSystem, OssStager
from osstorchconnector.testing import OssBucket


def test_a_staged_state_is_the_same_and_shares_nothing() -> None:
    state = many_kinds()
    staged = OssStager().stage(state)
    assert differences(state, staged) == []
    for value in state.values():
        if isinstance(value, torch.Tensor) and value.numel():
            value.detach().zero_()
    state["nested"]["list"][1]["deep"].fill_(7)
    assert differences(many_kinds(), staged) == []


def test_containers_keep_their_kind_and_objects_are_copied() -> None:
    state: dict[str, Any] = {"ordered": OrderedDict(a=[1]), "default": defaultdict(list, b=[2]), "tuple": (1, [2])}
    staged = OssStager().stage(state)
    assert staged == state
    assert {key: type(value) for key, value in staged.items()} == {key: type(value) for key, value in state.items()}
    state["default"]["b"].append(3)
    state["tuple"][1].append(3)
    assert staged["default"]["b"] == [2]
    assert staged["tuple"] == (1, [2])


def test_what_stands_twice_in_a_state_is_copied_once() -> None:
    tensor = torch.ones(3)
    staged = OssStager().stage({"a": tensor, "b": [tensor]})
    assert staged["a"] is staged["b"][0]


def test_buffers_are_used_again_when_nobody_has_them_any_more() -> None:
    stager, state = OssStager(), {"weight": torch.ones(1000)}
    place = stager.stage(state)["weight"].data_ptr()
    assert stager.stage(state)["weight"].data_ptr() == place


@pytest.mark.parametrize("holder", [lambda t: t, lambda t: t[5:], lambda t: t.numpy()], ids=["all", "part", "numpy"])
def test_buffers_that_somebody_still_has_are_left_alone(holder: Any) -> None:
    stager, state = OssStager(), {"weight": torch.ones(1000)}
    held = holder(stager.stage(state)["weight"])
    state["weight"].fill_(2)
    assert stager.stage(state)["weight"].unique().tolist() == [2]
    assert set(held.tolist()) == {1}


def test_tensors_that_changed_their_size_get_new_buffers() -> None:
    stager = OssStager()
    stager.stage({"weight": torch.ones(3)})
    assert stager.stage({"weight": torch.ones(5)})["weight"].shape == (5,)
    stager.close()


def test_a_writer_stages_for_async_save(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    writer = fs.writer(oss_bucket.uri + "ckpt")
    assert isinstance(writer, AsyncStager)
    state, target = {"weight": torch.arange(1000.0)}, {"weight": torch.zeros(1000)}
    future = dcp.async_save(state, storage_writer=writer)
    state["weight"].zero_()
    future.result()
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert torch.equal(target["weight"], torch.arange(1000.0))
    writer.close()


def test_a_stager_of_its_own_can_be_given(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = many_kinds()
    target = blank(state)
    writer = fs.writer(oss_bucket.uri + "ckpt")
    dcp.async_save(state, storage_writer=writer, async_stager=OssStager()).result()
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []
