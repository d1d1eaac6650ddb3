"""The checkpoints of one training run: saved by step, found again, and the old ones removed."""

from __future__ import annotations

import datetime
import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.planner import LoadPlanner, SavePlan, SavePlanner

from ..client.client import OssClient
from ..errors import OssConfigError, OssError, OssObjectChangedError
from ..tensors.isolation import outside_contexts, uncompiled
from .cleaning import DEFAULT_AGE, clean
from .reader import OssStorageReader, ReaderOptions
from .run import RunFolder
from .storage import Access, HasClient, open_folder
from .torch_dcp import Stateful, dcp_load, dcp_save
from .writer import OssStorageWriter, WriterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


_logger = logging.getLogger(__name__)


class SaveOptions(TypedDict, total=False):
    """Options of `torch.distributed.checkpoint.save` that a manager does not set itself."""

    planner: SavePlanner | None
    no_dist: bool
    use_collectives: bool


class LoadOptions(TypedDict, total=False):
    """Options of `torch.distributed.checkpoint.load` that a manager does not set itself."""

    planner: LoadPlanner | None
    no_dist: bool


class _Slot:
    """What a save in flight needs to itself: a writer with its buffers, and a process group."""

    def __init__(self, writer: _StepWriter, group: dist.ProcessGroup | None) -> None:
        self.writer, self.group = writer, group
        self.future: Future[Any] | None = None
        self.step = 0
        self.later: set[int] = set()  # steps whose saves began while this one was in flight


class _StepWriter(OssStorageWriter):
    """A writer that makes a note on the coordinator before it publishes, there where an error of it reaches all ranks.

    `begin_note` begins that as the save begins, and returns what ends it while data is on its way.
    """

    begin_note: Callable[[], Callable[[], object]] = staticmethod(lambda: lambda: None)
    _note: Callable[[], object] | None = None

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        self._note = self.begin_note() if self._is_coordinator else None
        return super().prepare_local_plan(plan)

    def _while_data_is_sent(self) -> None:
        if self._note is not None:
            self._note()


class OssCheckpointManager:
    """The checkpoints of one training run, one per step: step 100 is at `uri/step-0000000100`.

        manager = OssCheckpointManager("oss://bucket/run-7", keep=3, endpoint=ENDPOINT, region=REGION)
        manager.load(state)                       # the newest, if there is one
        manager.async_save(step, state)           # training goes on when the state has been copied
        manager.close()                           # waits for the saves, and raises the first error

    With `torch.distributed` every rank makes one and calls the same methods in the same order. Saves that did not
    finish do not count and do no harm: `clean` removes them.

    The newest checkpoint is the highest step, unless you went back: saving a step leaves those above it on an older
    branch, and `latest`, `load` and `keep` treat them as older than all of the new branch. `uri/.branches.json`
    records this.

    Arguments:
        fs, path: an `OssDCPFileSystem` (or `OssClient`) and the run's folder; or the folder alone, with `endpoint`.
        keep: how many whole checkpoints stay after a save, the one just saved always among them; None keeps all.
        in_flight: how many asynchronous saves may run at once, each with a writer, buffers and a gloo group of its own;
            one more waits for the oldest.
        process_group: of the ranks that save and load together; None for all.
        writer_options, reader_options: keyword arguments of `OssStorageWriter` and `OssStorageReader`.
        endpoint: OSS's endpoint, or an `OssClient`; with a client do not give the next four. With "", local files.
        cred_path, cred_provider, anonymous, config_path, region: credentials and settings, as for `OssClient`.

    Raises `OssConfigError` for wrong settings, `OssUsageError` for a step that is no whole number from 0 on,
    `TypeError` for an unknown option. Errors of a save or load come in torch's `CheckpointException`, as from
    `dcp.save` and `dcp.load`.
    """

    def __init__(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        keep: int | None = None,
        in_flight: int = 1,
        process_group: dist.ProcessGroup | None = None,
        writer_options: WriterOptions | None = None,
        reader_options: ReaderOptions | None = None,
        endpoint: str | OssClient | None = None,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
    ) -> None:
        if (keep is not None and keep < 1) or in_flight < 1:
            raise OssConfigError(f"keep={keep}, in_flight={in_flight}: at least 1 each")
        folder = open_folder(fs, path, Access(endpoint, cred_path, cred_provider, config_path, region, anonymous))
        self.client, self._root = folder.client, folder.uri
        self._run = RunFolder(self.client, self._root)
        self._keep, self._in_flight = keep, in_flight
        self._group = process_group
        self._writer_options: WriterOptions = {**(writer_options or {})}
        self._reader_options: ReaderOptions = {**(reader_options or {})}
        for kind, given in ((OssStorageWriter, self._writer_options), (OssStorageReader, self._reader_options)):
            inspect.signature(kind).bind_partial(**given)  # a mistyped one is told now, not at the first save
        self._slots: list[_Slot] = []
        self._turn = 0
        self._errors: list[BaseException] = []  # of asynchronous saves, since `wait` was called last

    def __repr__(self) -> str:
        saving = [slot.step for slot in self._slots if slot.future is not None and not slot.future.done()]
        kept = "" if self._keep is None else f", keep={self._keep}"
        busy = f", saving step {', '.join(map(str, saving))}" if saving else ""
        return f"OssCheckpointManager({str(self._root)!r}{kept}{busy})"

    # what is there

    def uri(self, step: int) -> str:
        """Return where the checkpoint of a step is, or would be."""
        return self._run.uri(step)

    def steps(self) -> list[int]:
        """Return the steps of which there is a whole checkpoint, in ascending order, whatever branch they are on."""
        return self._run.steps()

    def latest(self) -> int | None:
        """Return the newest step of which there is a whole checkpoint; None if there is none."""
        return self._run.latest()

    # saving and loading

    @uncompiled
    def save(self, step: int, state: dict[str, Any], **options: Unpack[SaveOptions]) -> None:
        """Save the state of a step, and remove checkpoints that are too many. `options` go to `dcp.save`."""
        uri = self.uri(step)
        slot = self._free_slot(step, makes_group=False)
        where: dict[str, Any] = {"checkpoint_id": uri, "storage_writer": slot.writer}
        _save(_plain_state(state), process_group=self._group, **where, **options)
        self._tidy(step)

    @uncompiled
    def async_save(self, step: int, state: dict[str, Any], **options: Unpack[SaveOptions]) -> Future[Any]:
        """Copy the state, begin to save it on a thread, and return a future that ends with the save.

        Waits first if `in_flight` saves are under way. `options` go to `dcp.save`. (What `dcp.async_save` does before
        it copies takes twice as long as the copy of 5,000 small tensors.)
        """
        inspect.signature(dcp_save).bind(state, **options)  # an error of the caller's belongs to the caller
        uri = self.uri(step)
        slot = self._free_slot(step, makes_group=True)
        staged = slot.writer.stage(_plain_state(state))
        where: dict[str, Any] = {"checkpoint_id": uri, "storage_writer": slot.writer}
        executor = ThreadPoolExecutor(1, "osstorchconnector-save")
        slot.future = executor.submit(self._save_staged, step, staged, process_group=slot.group, **where, **options)
        executor.shutdown(wait=False)  # its thread ends with the save
        return slot.future

    @uncompiled
    def load(self, state: dict[str, Any], step: int | None = None, **options: Unpack[LoadOptions]) -> int | None:
        """Load a step, the newest if none is named, into `state`; return the step, None if there is none to load.

        A step that was named and is not there is an error. `options` go to `dcp.load`.
        """
        may_repeat = True
        while True:
            found = step if step is not None else self._agreed_latest()
            if found is None:
                _logger.info("there is no checkpoint below %s: nothing was loaded", self._root.shown)
                return None
            reader = OssStorageReader(self.client, self.uri(found), **self._reader_options)
            plain = _plain_state(state)
            try:
                _load(plain, storage_reader=reader, process_group=self._group, **options)
            except CheckpointException as error:
                if not may_repeat or not self._has_gone(found, error, is_named=step is not None):
                    raise
                _logger.info("step %d was replaced or removed while it was loaded: trying again", found)
                may_repeat = False
            else:
                _take_over(state, plain)
                return found

    def wait(self) -> None:
        """Wait for all asynchronous saves; raise the error of the first that failed since the last call."""
        self._end_all()
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Wait for all asynchronous saves, as `wait` does, and free their buffers. Raises the error of `wait`."""
        try:
            self.wait()
        finally:
            for slot in self._slots:
                slot.writer.close()

    def clean(self, older_than: datetime.timedelta | float = DEFAULT_AGE) -> list[str]:
        """Remove the objects and unfinished uploads of saves that did not finish; return their URIs.

        `older_than` is a timedelta or seconds. A save that has stored anything within that time, by OSS's clock, may
        be alive and is not touched; with 0 none counts as alive. No checkpoint is touched. Call this on one rank only.
        """
        return clean(self.client, str(self._root), older_than=older_than)

    # the steps

    def _free_slot(self, step: int, *, makes_group: bool) -> _Slot:
        """Return the slot whose turn it is, for a step, when its save is over; the same on all ranks."""
        if any(slot.future is not None and slot.step > step for slot in self._slots):  # going back: from what, is known
            self._end_all()
        number = self._turn % self._in_flight
        if number == len(self._slots):
            self._slots.append(_Slot(_StepWriter(self.client, str(self._root), **self._writer_options), None))
        slot = self._slots[number]
        if makes_group:
            self._turn += 1
            if slot.group is None and _is_distributed():
                slot.group = _gloo_group_like(self._group)
        self._end(slot)
        slot.step, slot.later = step, set()
        slot.writer.begin_note = functools.partial(self._run.begin_note, step, slot.later)
        for other in self._slots:
            if other is not slot:
                other.later.add(step)
        return slot

    def _end_all(self) -> None:
        for turn in range(len(self._slots)):  # the oldest first
            self._end(self._slots[(self._turn + turn) % len(self._slots)])

    def _end(self, slot: _Slot) -> None:
        """Wait until a slot's save is over; its error is for `wait` to raise, and for who has the future."""
        future, slot.future = slot.future, None
        error = future.exception() if future is not None else None
        if error is not None:
            self._errors.append(error)

    def _save_staged(self, step: int, staged: dict[str, Any], **options: Any) -> Any:
        """Save what was copied, then remove what is too much now."""
        try:
            metadata = dcp_save(staged, **options)
        except BaseException as error:
            _logger.error("step %d was not saved: %s", step, error)
            raise
        self._tidy(step)
        return metadata

    def _tidy(self, saved_step: int) -> None:
        if not _is_distributed() or dist.get_rank(self._group) == 0:
            self._run.tidy(saved_step, self._keep)

    def _has_gone(self, step: int, error: CheckpointException, *, is_named: bool) -> bool:
        """Say whether a load failed since its checkpoint was replaced, or, as the newest, is that no longer.

        All ranks say the same: each knows the errors of all.
        """
        if any(isinstance(cause, OssObjectChangedError) for cause, _ in error.failures.values()):
            return True
        try:
            return not is_named and self._agreed_latest() != step
        except OssError:
            return False

    @outside_contexts
    def _agreed_latest(self) -> int | None:
        """Return what the first rank finds, or raise its error: the others might look at another moment."""
        if not _is_distributed():
            return self.latest()
        answer: list[int | OssError | None] = [None]
        if dist.get_rank(self._group) == 0:
            try:
                answer = [self.latest()]
            except OssError as error:
                answer = [error]
        source = dist.get_global_rank(self._group, 0) if self._group is not None else 0
        dist.broadcast_object_list(answer, src=source, group=self._group)
        if isinstance(answer[0], OssError):
            raise answer[0]
        return answer[0]


# torch's part of a save or load. The user's `state_dict` and `load_state_dict` are called in the user's contexts.
_save, _load = outside_contexts(dcp_save), outside_contexts(dcp_load)


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be saved or filled: of objects that have a state of their own, that state as it is now.

    They are asked in one order on all ranks.
    """
    return {key: state[key].state_dict() if _is_stateful(state[key]) else state[key] for key in sorted(state, key=str)}


def _take_over(state: dict[str, Any], loaded: dict[str, Any]) -> None:
    """Give the objects in `state` what was loaded for them."""
    for key, value in loaded.items():
        if _is_stateful(state[key]):
            state[key].load_state_dict(value)
        else:
            state[key] = value


def _is_stateful(value: object) -> bool:
    # Torch's protocol looks through all attributes of a class, and states have thousands of tensors.
    return type(value) not in (torch.Tensor, torch.nn.Parameter) and isinstance(value, Stateful)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _gloo_group_like(group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    if group is None:
        made = dist.new_group(backend="gloo")
    else:
        made = dist.new_group(dist.get_process_group_ranks(group), backend="gloo", use_local_synchronization=True)
    assert isinstance(made, dist.ProcessGroup)
    return made
