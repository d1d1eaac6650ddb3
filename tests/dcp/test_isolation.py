"""Saves and loads in whatever context of torch the user's code has switched on, and garbage collection meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import download
from dcp.states import blank, differences, many_kinds
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.checkpoint import FileSystemReader
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem, OssStager
from osstorchconnector.dcp import reader as dcp_reader
from osstorchconnector.dcp.tensors import tensor_archive
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.tensors.isolation import (
    CollectionPause,
    garbage_collection_paused,
    outside_contexts,
    plain_torch,
)
from osstorchconnector.tensors.memory import uninitialised
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import parse_uri

Action = Callable[[], Any]


class Intercepting(TorchFunctionMode):
    """Lets nobody call torch's functions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was called in the user's mode")


class Dispatching(TorchDispatchMode):
    """Lets nobody call torch's operators."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was called in the user's mode")


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def within(make: Callable[[], Any]) -> Callable[[Action], None]:
    def run(action: Action) -> None:
        with make():
            action()

    return run


def vmapped(action: Action) -> None:
    torch.vmap(lambda number: (action(), number)[1])(torch.ones(2))


def in_a_gradient(action: Action) -> None:
    torch.func.grad(lambda number: (action(), number * 2)[1])(torch.tensor(1.0))


def functionalised(action: Action) -> None:
    torch.func.functionalize(lambda number: (action(), number * 2)[1])(torch.tensor(1.0))


CONTEXTS: dict[str, Callable[[Action], None]] = {
    "meta device": within(lambda: torch.device("meta")),
    "default device": within(lambda: torch.device("meta")),
    "default dtype": within(lambda: default_dtype(torch.float64)),
    "deterministic": within(deterministic),
    "inference": within(torch.inference_mode),
    "no grad": within(torch.no_grad),
    "autocast": within(lambda: torch.autocast("cpu")),
    "vmap": vmapped,
    "grad": in_a_gradient,
    "functionalize": functionalised,
    "function mode": within(Intercepting),
    "dispatch mode": within(Dispatching),
    "fake tensors": within(FakeTensorMode),
}
# In the others torch fails itself when it plans a save: `dcp.save` asks the tensors before it asks the writer.
TORCH_PLANS_IN = [name for name in CONTEXTS if name not in ("function mode", "dispatch mode", "fake tensors")]
every_context = pytest.mark.parametrize("name", CONTEXTS)


@pytest.fixture(autouse=True)
def _archives_are_made_anew() -> None:
    tensor_archive.cache_clear()


def as_torch_reads(bucket: OssBucket, prefix: str, folder: Path) -> dict[str, Any]:
    target = blank(many_kinds())
    dcp.load(target, storage_reader=FileSystemReader(download(bucket, prefix, folder)))
    return target


@pytest.mark.parametrize("name", TORCH_PLANS_IN)
def test_a_save_stores_what_torch_reads_and_spoils_no_later_one(
    name: str, fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    state = many_kinds()
    CONTEXTS[name](lambda: dcp.save(dict(state), storage_writer=fs.writer(oss_bucket.uri + "in")))
    dcp.save(dict(state), storage_writer=fs.writer(oss_bucket.uri + "after"))
    for prefix in ("in/", "after/"):
        assert differences(state, as_torch_reads(oss_bucket, prefix, tmp_path / prefix)) == []


@pytest.mark.parametrize("name", TORCH_PLANS_IN)
def test_a_load_fills_its_targets(name: str, fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state, target = many_kinds(), blank(many_kinds())
    dcp.save(dict(state), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    CONTEXTS[name](lambda: dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt")))
    assert differences(state, target) == []


@every_context
def test_the_manager_saves_and_loads(name: str, oss_bucket: OssBucket) -> None:
    manager = OssCheckpointManager(oss_bucket.uri + "run", **oss_bucket.options)
    state = many_kinds()
    CONTEXTS[name](lambda: manager.save(1, dict(state)))
    CONTEXTS[name](lambda: manager.async_save(2, dict(state)))
    manager.wait()
    for step in (1, 2):
        target = blank(state)
        CONTEXTS[name](lambda target=target, step=step: manager.load(target, step))
        assert differences(state, target) == []
    manager.close()


@every_context
def test_what_is_staged_can_be_staged_to_again_elsewhere(name: str) -> None:
    stager, state, kept = OssStager(), many_kinds(), []
    CONTEXTS[name](lambda: kept.append(stager.stage(state)))
    assert differences(state, kept[0]) == []
    kept.clear()
    assert differences(state, stager.stage(state)) == []


@every_context
def test_outside_of_contexts_calls_mean_what_they_say_and_inside_the_users_mean_what_they_did(name: str) -> None:
    def check() -> None:
        before = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        with plain_torch():
            tensor = torch.ones(3)
            assert tensor.is_cpu
            assert type(tensor) is torch.Tensor
            assert not tensor.is_inference()
            assert bytes(tensor.to(torch.float32).numpy().data) == b"\0\0\x80?" * 3
        assert (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == before
        assert torch.overrides._len_torch_function_stack() == modes

    modes = 0
    if name in ("meta device", "default device", "function mode"):
        modes = 1
    CONTEXTS[name](check)


def test_tensors_of_inference_mode_are_saved_and_filled(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    with torch.inference_mode():
        state = {"small": torch.arange(10.0), "large": torch.arange(1e5), "other dtype": torch.arange(10.0)}
        target = {name: torch.zeros_like(value) for name, value in state.items()}
        target["other dtype"] = target["other dtype"].double()
    dcp.save(dict(state), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert all(torch.equal(target[name].float(), value) for name, value in state.items())


# Both are of what `dcp.save` itself calls. The second: `isinstance` of a protocol calls `inspect` on newer Pythons.
@pytest.mark.filterwarnings("ignore:Dynamo does not know", "ignore:Dynamo detected a call to a .functools.lru_cache")
def test_a_compiled_region_does_not_compile_saves_and_loads(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state, target = many_kinds(), blank(many_kinds())
    writer, reader = fs.writer(oss_bucket.uri + "ckpt"), fs.reader(oss_bucket.uri + "ckpt")
    graphs: list[str] = []

    def compiler(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.extend(str(node.stack_trace) for node in graph.graph.nodes)
        return graph.forward

    def step(number: torch.Tensor) -> torch.Tensor:
        number = number + 1
        dcp.save(dict(state), storage_writer=writer)
        dcp.load(target, storage_reader=reader)
        return number * 2

    assert torch.compile(step, backend=compiler)(torch.ones(1)).item() == 4
    assert differences(state, target) == []
    assert graphs
    assert not any("osstorchconnector" in trace for trace in graphs)


def test_what_a_function_gives_and_raises_comes_through() -> None:
    @outside_contexts
    def divide(number: int, *, by: int) -> float:
        return number / by

    with torch.device("meta"):
        assert divide(3, by=2) == 1.5
        with pytest.raises(ZeroDivisionError):
            divide(3, by=0)
        assert torch.ones(1).is_meta


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.parametrize("make", [uninitialised, tensor_archive])
def test_deterministic_algorithms_fill_no_memory_that_nobody_reads(make: Callable[..., Any]) -> None:
    arguments = ((1 << 28,), torch.float32) if make is uninitialised else (torch.float32, (1 << 28,))
    with deterministic():
        before = resident_bytes()
        made = make(*arguments)
        assert resident_bytes() - before < 1 << 28
    del made


class Watching:
    """Has a state, and notes on which device a tensor is made by default when torch asks for it."""

    def __init__(self) -> None:
        self.weight = torch.arange(3.0)
        self.seen: list[tuple[str, bool]] = []

    def note(self) -> None:
        self.seen.append((torch.ones(1).device.type, torch.is_grad_enabled()))

    def state_dict(self) -> dict[str, Any]:
        self.note()
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.note()
        self.weight = state["weight"]


def test_the_users_own_states_are_asked_and_given_in_the_users_contexts(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    manager, watching = OssCheckpointManager(fs, oss_bucket.uri + "run"), Watching()
    with torch.device("meta"):
        manager.save(1, {"own": watching, "step": 1})
        manager.async_save(2, {"own": watching, "step": 2}).result()
        watching.weight.zero_()
        state = {"own": watching, "step": 0}
        assert manager.load(state) == 2
    manager.close()
    assert watching.seen == [("meta", True)] * 4
    assert torch.equal(watching.weight, torch.arange(3.0))
    assert state == {"own": watching, "step": 2}


@pytest.fixture
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
def test_collection_is_off_until_the_last_one_ends() -> None:
    with garbage_collection_paused():
        with garbage_collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_collection_goes_on_after_an_error() -> None:
    with contextlib.suppress(ZeroDivisionError), garbage_collection_paused():
        _ = 1 / 0
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    with garbage_collection_paused():
        pass
    assert not gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_threads_that_overlap_do_not_turn_it_on_for_each_other() -> None:
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first() -> None:
        with garbage_collection_paused():
            first_is_in.set()
            second_is_in.wait()

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait()
    with garbage_collection_paused():
        second_is_in.set()
        thread.join()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_a_child_that_is_forked_meanwhile_collects() -> None:
    with garbage_collection_paused():
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 1)
        assert not gc.isenabled()
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.mark.usefixtures("collecting")
def test_collection_is_off_from_the_metadata_to_the_end_of_the_load(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcp_reader, "end_soon", lambda pause: None)
    dcp.save({"w": torch.ones(3)}, storage_writer=fs.writer(oss_bucket.uri))
    planned = []

    class Planner(dcp.DefaultLoadPlanner):
        def create_local_plan(self) -> Any:
            planned.append(gc.isenabled())
            return super().create_local_plan()

    for _ in range(2):
        dcp.load({"w": torch.zeros(3)}, storage_reader=fs.reader(oss_bucket.uri), planner=Planner())
        assert gc.isenabled()
    assert planned == [False, False]


@pytest.mark.usefixtures("collecting")
def test_collection_goes_on_though_the_plan_fails(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcp_reader, "MOST_PLANNING_SECONDS", 0.0)
    dcp.save({"w": torch.ones(3)}, storage_writer=fs.writer(oss_bucket.uri))
    with pytest.raises(dcp.api.CheckpointException, match="other"):
        dcp.load({"other": torch.zeros(3)}, storage_reader=fs.reader(oss_bucket.uri))
    while not gc.isenabled():  # without it the limit of the test ends this
        fs.client.head(parse_uri(f"{oss_bucket.uri}.metadata"))


@pytest.mark.usefixtures("collecting")
def test_collection_goes_on_where_there_is_no_checkpoint(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    reader = fs.reader(oss_bucket.uri)
    with pytest.raises(OssNotFoundError):
        reader.read_metadata()
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_a_pause_ends_once() -> None:
    pause = CollectionPause()
    with garbage_collection_paused():
        pause.end()
        pause.end()
        assert not gc.isenabled()
    assert gc.isenabled()
