from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from dcp.states import blank, differences, many_kinds
from torch.distributed.device_mesh import DeviceMesh

from osstorchconnector.dcp import OssDCPFileSystem, OssStager
from osstorchconnector.dcp.stager import HostMemory
from osstorchconnector.dcp.torch_dcp import AsyncStager, DTensor, Shard
from osstorchconnector.testing import OssBucket

KIB = 1 << 10


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


def test_many_small_tensors_are_copied_by_several_threads_and_need_no_gradients() -> None:
    state = {
        "small": [torch.nn.Parameter(torch.full((8 * KIB,), float(number))) for number in range(1200)],  # 37 MiB
        "large": torch.arange(100 * KIB),
    }
    staged = OssStager().stage(state)
    assert differences(state, staged) == []
    assert not any(tensor.requires_grad for tensor in staged["small"])


def test_what_stands_twice_in_a_state_is_copied_once() -> None:
    tensor = torch.ones(3)
    staged = OssStager().stage({"a": tensor, "b": [tensor]})
    assert staged["a"] is staged["b"][0]


def test_buffers_are_used_again_when_nobody_has_them_any_more() -> None:
    stager, state = OssStager(), {"weight": torch.ones(1000)}
    place = stager.stage(state)["weight"].data_ptr()
    assert stager.stage(state)["weight"].data_ptr() == place


HOLDERS = {
    "all": lambda tensor: tensor,
    "part": lambda tensor: tensor[5:],
    "numpy": lambda tensor: tensor.numpy(),
    "memory": lambda tensor: tensor.numpy().data,
    "storage": lambda tensor: tensor.untyped_storage(),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_buffers_that_somebody_still_has_are_left_alone(holder: Any) -> None:
    stager, state = OssStager(), {"weight": torch.ones(1000)}
    held = holder(stager.stage(state)["weight"])
    before = held.tolist()
    state["weight"].fill_(2)
    assert stager.stage(state)["weight"].unique().tolist() == [2]
    assert held.tolist() == before


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


class ScriptedDevice(HostMemory):
    """A device whose memory is the processor's; it notes what is asked of it, and pins as much as it is told to."""

    def __init__(self, pinned_buffers: int) -> None:
        super().__init__()
        self.left, self.asked = pinned_buffers, list[str]()

    def is_elsewhere(self, tensor: torch.Tensor) -> bool:
        return tensor.dtype == torch.float32

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.asked.append("pinned")
        if not self.left:
            raise RuntimeError("out of pinned memory")
        self.left -= 1
        return torch.empty(shape, dtype=dtype)

    def ordinary(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.asked.append("ordinary")
        return super().ordinary(shape, dtype)

    def wait(self, devices: Iterable[torch.device]) -> None:
        self.asked.append(f"wait for {len(set(devices))}")


ON_A_DEVICE = {"a": torch.ones(3), "b": torch.ones(4), "c": torch.ones(5), "here": torch.ones(2, dtype=torch.int64)}


def test_tensors_of_a_device_come_to_pinned_buffers_and_are_waited_for_once() -> None:
    device = ScriptedDevice(pinned_buffers=3)
    stager = OssStager(device)
    assert differences(ON_A_DEVICE, stager.stage(ON_A_DEVICE)) == []
    assert device.asked == ["pinned", "pinned", "pinned", "ordinary", "wait for 1"]
    assert differences(ON_A_DEVICE, stager.stage(ON_A_DEVICE)) == []
    assert device.asked[5:] == ["wait for 1"]  # the buffers of the first time do again


def test_where_no_more_memory_can_be_pinned_ordinary_buffers_do_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = ScriptedDevice(pinned_buffers=1)
    assert differences(ON_A_DEVICE, OssStager(device).stage(ON_A_DEVICE)) == []
    assert device.asked == ["pinned", "pinned", "ordinary", "ordinary", "ordinary", "wait for 1"]
    (message,) = (record.message for record in caplog.records)
    assert "out of pinned memory" in message


def test_without_a_device_nothing_is_pinned_or_waited_for() -> None:
    device = ScriptedDevice(pinned_buffers=0)
    OssStager(device).stage({"here": torch.ones(3, dtype=torch.int64)})
    assert device.asked == ["ordinary", "wait for 0"]


def test_a_tensor_spread_over_devices_is_staged_here_and_not_sent_back(tmp_path: Any) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        here, on_devices = (DeviceMesh(kind, [0], _init_backend=False) for kind in ("cpu", "meta"))
        spread = DTensor.from_local(torch.arange(6.0), here, [Shard(0)])
        spec = dataclasses.replace(spread._spec, mesh=on_devices)
        elsewhere = DTensor(spread.to_local(), spec, requires_grad=False)
        staged = OssStager().stage({"weight": elsewhere})["weight"]
        assert staged.to_local().device.type == "cpu"
        assert staged.to_local().tolist() == [0, 1, 2, 3, 4, 5]
        assert staged.placements == elsewhere.placements and staged.device_mesh == on_devices
    finally:
        dist.destroy_process_group()
