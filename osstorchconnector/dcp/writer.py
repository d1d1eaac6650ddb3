"""Saving: torch's `StorageWriter` on OSS."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from ..client.client import OssClient
from ..errors import OssConflictError, OssUsageError
from ..tensors.isolation import outside_contexts
from .data_files import item_bytes, split_into_files
from .folder import CheckpointFolder, PrefixStrategy, SaveTicket, make_ticket, metadata_name, new_token, quietly
from .publishing import Publisher
from .saving import RankSave
from .stager import OssStager
from .storage import Access, HasClient, HasFolder, Progress, ProgressCallback, summary
from .torch_dcp import SerializationFormat, StorageMeta, StreamTransformExtension, check_extensions, storage_meta

_logger = logging.getLogger(__name__)

# Used tickets, as long as anything refers to them: a planner that caches its plans returns old tickets.
_spent_tickets: weakref.WeakSet[SaveTicket] = weakref.WeakSet()

GIVING_WAY_SECONDS = 0.002
# Grace period for a thread that has finished its work.
ENDING_SECONDS = 0.5


class WriterOptions(TypedDict, total=False):
    """Options of `OssStorageWriter`, without its location and credentials."""

    thread_count: int
    single_file_per_rank: bool
    overwrite: bool
    serialization_format: SerializationFormat
    extensions: Sequence[StreamTransformExtension]
    prefix_strategy: PrefixStrategy | None
    progress: ProgressCallback | bool | None
    sync_files: bool
    per_thread_copy_ahead: int
    cache_staged_state_dict: bool


class OssStorageWriter(HasFolder, StorageWriter):
    """Writes distributed checkpoints to `oss://bucket/prefix`.

        writer = OssStorageWriter("oss://bucket/ckpt/step-100", endpoint=ENDPOINT, region=REGION)
        dcp.save(state, storage_writer=writer)

    A checkpoint exists when its `.metadata` exists. The writer puts `.metadata` in one request at the end, after it has
    checked that all data is stored. A save under an id that exists writes new objects, then replaces `.metadata`, then
    removes the old objects: at every moment the old or the new checkpoint can be loaded. A save that fails publishes
    nothing, and tries to remove the objects that it has stored.

    Arguments:
        fs, path: an `OssDCPFileSystem` (or `OssClient`) and the checkpoint; or the checkpoint alone, with `endpoint`.
        endpoint: OSS's endpoint, or an `OssClient`; with a client do not give the next four. With "", local files.
        cred_path, cred_provider, anonymous, config_path, region: credentials and settings, as for `OssClient`.
        thread_count: the largest number of files per rank.
        single_file_per_rank: False stores each item in a file of its own.
        overwrite: False refuses an id that exists. A save with `use_collectives=False` always refuses it.
        serialization_format: torch's format, or safetensors.
        extensions: torch's stream transforms, applied to each item; not with safetensors.
        prefix_strategy: a callable that returns the folder for a rank's files: `RoundRobinPrefixes`, `HashedPrefixes`.
        progress: True for a tqdm bar, or a callable that gets the number of bytes done and the total.
        sync_files, per_thread_copy_ahead, cache_staged_state_dict: options of torch's writer, without effect here.

    Errors, raised here or by `dcp.save` (which wraps them in a `CheckpointException`):
        OssConfigError: no checkpoint or no endpoint was named, or extensions were given with safetensors.
        OssConflictError: the id exists and may not be replaced.
        OssUsageError: the writer is still saving, or a planner gave something that can't be saved.
        OssIntegrityError: data that was just stored is missing or changed.
        Other `OssError`s: a request failed after all retries.

    The writer is also a stager: `dcp.async_save` copies the state into buffers that the writer keeps. A writer does one
    save at a time: two concurrent saves need a writer and a process group each. A writer can be pickled and sent to
    another process; its buffers are not part of the pickle.

    You do not call most of these methods; torch does, in this order. On every rank: [reset,] set_up_storage_writer,
    prepare_local_plan, write_data. On the coordinator also prepare_global_plan before write_data, and finish after it.
    """

    _synchronize_after_execute = False

    def __init__(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        endpoint: str | OssClient | None = None,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        thread_count: int = 1,
        single_file_per_rank: bool = True,
        overwrite: bool = True,
        serialization_format: SerializationFormat = SerializationFormat.TORCH_SAVE,
        extensions: Sequence[StreamTransformExtension] = (),
        prefix_strategy: PrefixStrategy | None = None,
        progress: ProgressCallback | bool | None = None,
        sync_files: bool = False,
        per_thread_copy_ahead: int = 0,
        cache_staged_state_dict: bool = True,
    ) -> None:
        super().__init__()
        self._open(fs, path, Access(endpoint, cred_path, cred_provider, config_path, region, anonymous))
        self._files_per_rank = thread_count if single_file_per_rank else 0
        self._overwrite = overwrite
        self._serialization = serialization_format
        check_extensions(extensions)
        self._extensions = tuple(extensions)
        self._prefix_strategy = prefix_strategy
        self._progress = progress
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._save_id = str(uuid.uuid4())
        self._token = ""
        self._rank = 0
        self._is_coordinator = False
        self._uses_collectives = True
        self._in_flight = OneSaveAtATime()
        self._unconfirmed: tuple[CheckpointFolder, list[str]] | None = None
        self._begun, self._retries_before = time.perf_counter(), self.client.retries
        self._stager = OssStager()
        self._staged_by: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("client", "_folder", "_files_per_rank", "_overwrite", "_serialization", "_extensions")
        return {name: vars(self)[name] for name in (*kept, "_prefix_strategy", "_progress")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin_anew()

    def storage_meta(self) -> StorageMeta | None:
        """Return what `.metadata` records of this save: the checkpoint id and the id of the save."""
        self._give_way()
        return storage_meta(self._folder.id, self._save_id)

    # the order of calls

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Prepare for another save, of `checkpoint_id` if given. Raises `OssUsageError` while a save is running."""
        self._give_way()
        self._make_ready()
        self._move(checkpoint_id)
        self._save_id = str(uuid.uuid4())

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a save; torch calls this on every rank. `is_coordinator` is True on the rank that will publish.

        Takes `rank=` and `use_collectives=` from torch. Raises `OssUsageError` while another save is running.
        """
        self._make_ready()
        self._in_flight.begin(self)
        self._begun, self._retries_before = time.perf_counter(), self.client.retries
        self._is_coordinator = is_coordinator
        self._rank = kwargs.get("rank") or 0
        self._uses_collectives = kwargs.get("use_collectives", True)
        self._token = new_token(time.time_ns() // 1_000_000)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return this rank's plan, unchanged except in a save without collectives, which names the rank's files.

        Raises `OssConflictError` if the checkpoint exists and may not be replaced.
        """
        if self._is_coordinator or not self._uses_collectives:
            self._refuse_if_it_exists()
        if self._uses_collectives:
            return plan
        return dataclasses.replace(plan, storage_data=self._ticket(self._rank))

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Return the plans of all ranks, each with the names that its rank's files will have; on the coordinator."""
        if not self._uses_collectives:
            return plans  # only this rank's, and it has its ticket already
        # A planner that caches returns plans with the ticket of an earlier save, perhaps of another writer: replace it.
        return [dataclasses.replace(plan, storage_data=self._ticket(rank)) for rank, plan in enumerate(plans)]

    @outside_contexts
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store the tensors and objects of this rank's plan. Returns a completed future with a result for each item.

        Nothing is published: `finish` does that. Raises `OssUsageError` while another save is running, and the
        `OssError` of a request that failed.
        """
        with self._in_flight.writing(self):
            results = self._write(plan, planner)
        if not self._is_coordinator and self._uses_collectives:
            self._in_flight.end()  # torch calls this rank no more, even if the save fails
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    @outside_contexts
    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish the checkpoint: put `.metadata`, then remove the objects of the one that it replaces.

        `results` are those of `write_data` of all ranks. Raises `OssIntegrityError` if stored data is missing or
        changed, and `OssConflictError` if the checkpoint exists and may not be replaced.
        """
        published = copy.copy(metadata)  # a planner that caches gives the same one to concurrent saves
        published.version = getattr(dcp_filesystem, "CURRENT_DCP_VERSION", None)
        published.storage_data = {result.index: result.storage_data for ofrank in results for result in ofrank}
        published.storage_meta = self.storage_meta()
        publisher = Publisher(self._folder)
        try:
            if self._uses_collectives:
                publisher.publish(published, self._save_id, overwrite=self._overwrite)
            else:
                publisher.publish_rank(published, self._rank)
            self._unconfirmed = None
        finally:
            self._in_flight.end()
        vars(metadata).update(vars(published))  # `dcp.save` returns it
        size = sum(result.size_in_bytes for ofrank in results for result in ofrank)
        seconds, retries = time.perf_counter() - self._begun, self.client.retries - self._retries_before
        _logger.info("saved %s: %s", self._folder.id, summary(size, seconds, retries))

    # staging

    @property
    def should_synchronize_after_execute(self) -> bool:
        """False: `stage` returns when the copy is complete, so torch need not wait for it."""
        return self._synchronize_after_execute

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of `state_dict`, in buffers that the writer keeps for the next save."""
        self._staged_by = threading.current_thread()
        return self._stager.stage(state_dict)

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` returns when the copy is complete."""

    def close(self) -> None:
        """Free the buffers that `stage` has made."""
        self._stager.close()

    # the steps

    def _make_ready(self) -> None:
        """Raise `OssUsageError` while a save is running. Remove files that the last save did not publish."""
        self._in_flight.check_over(self)
        if self._unconfirmed is None:
            return
        (folder, names), self._unconfirmed = self._unconfirmed, None
        if self._in_flight.may_go_on():
            return  # other ranks may still publish these; if they do not, `clean` removes them
        quietly(lambda: Publisher(folder).remove_unpublished(names, self._rank))

    def _give_way(self) -> None:
        """If another thread staged the state, give it time to return to training.

        Planning creates many objects and triggers a full garbage collection. It would delay the other thread, which is
        returning from `async_save`, by 0.1 s or more (measured).
        """
        staged_by, self._staged_by = self._staged_by, None
        if staged_by is not None and staged_by is not threading.current_thread():
            time.sleep(GIVING_WAY_SECONDS)

    def _ticket(self, rank: int) -> SaveTicket:
        return make_ticket(rank, self._token, self._prefix_strategy)

    def _write(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        folder, ticket = self._folder, self._unspent(plan.storage_data)
        progress = Progress(self._progress, f"save {folder.id}", sum(map(item_bytes, plan.items)))
        save = RankSave(
            folder,
            ticket,
            planner,
            serialization=self._serialization,
            extensions=self._extensions,
            progress=progress,
        )
        retries = self.client.retries
        files = split_into_files(plan.items, self._files_per_rank or len(plan.items))
        save.write(files, meanwhile=self._while_data_is_sent)
        if self.client.retries != retries:
            quietly(lambda: folder.abort_lost_uploads(ticket))
        progress.end()
        self._unconfirmed = (folder, save.names)
        return save.results

    def _while_data_is_sent(self) -> None:
        """Called when the last data is on its way. If it raises, the save fails, and leaves nothing."""

    def _unspent(self, ticket: object) -> SaveTicket:
        """Return the ticket, or a new one if a planner that caches returned the plan of an earlier save.

        That save may be another writer's. If it is torch's own writer, the plan has no ticket.
        """
        if isinstance(ticket, SaveTicket) and ticket not in _spent_tickets:
            _spent_tickets.add(ticket)
            return ticket
        return make_ticket(self._rank, new_token(time.time_ns() // 1_000_000), self._prefix_strategy)

    def _refuse_if_it_exists(self) -> None:
        if self._uses_collectives and self._overwrite:
            return
        existing = self._folder.metadata_names()
        if not self._uses_collectives:  # the other ranks' may belong to this save
            existing = [name for name in existing if name in (metadata_name(), metadata_name(self._rank))]
        if existing:
            why = "overwrite=False" if self._uses_collectives else "a save without collectives can't replace one"
            raise OssConflictError(
                f"{self._folder.id}: Checkpoint already exists ({existing[0]}), and {why}: use another id"
            )


class OneSaveAtATime:
    """Lets a writer do one save at a time. A second save raises `OssUsageError`, which names `who`.

    A save is over when its writing fails, when it was published or that failed, or when the writer gets no more calls.
    A failure of another rank is not visible here. Then the save is over when its thread ends or begins another save.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._is_writing, self._is_over = False, True

    def begin(self, who: object) -> None:
        """Begin a save on this thread."""
        self.check_over(who)
        self._thread, self._is_over = threading.current_thread(), False

    def end(self) -> None:
        """Mark the save as over."""
        self._is_over = True

    @contextmanager
    def writing(self, who: object) -> Iterator[None]:
        """Mark this thread as the one that writes the data. If that fails, the save is over."""
        self.begin(who)
        self._is_writing = True
        try:
            yield
        except BaseException:
            self._is_over = True
            raise
        finally:
            self._is_writing = False

    def check_over(self, who: object) -> None:
        """Raise `OssUsageError` if the save may still go on."""
        if not self._is_over and self.may_go_on():
            raise OssUsageError(
                f"{who!r} is still saving: wait for that save, or use a writer (and a process group) of its own"
            )

    def may_go_on(self) -> bool:
        """Return whether the save's thread is another one and still runs.

        A save that is over on this rank may still run on others.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        if not self._is_writing:
            thread.join(ENDING_SECONDS)
        return thread.is_alive()
