"""Saving: torch's `StorageWriter` on OSS."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint._extension import StreamTransformExtension
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from ..client.client import OssClient
from ..errors import OssConflictError, OssError, OssIntegrityError, OssNotFoundError, OssUsageError
from ..uri import OssUri
from .items import item_bytes, split_into_files
from .layout import (
    PrefixStrategy,
    SaveTicket,
    checkpoint_uri,
    is_checkpoint_id,
    is_rank_metadata,
    make_ticket,
    member,
    metadata_name,
    new_token,
    token_of,
)
from .metadata import dump_metadata, load_metadata
from .place import HasClient, open_place
from .progress import Progress, ProgressCallback, summary
from .saving import RankSave, remove_quietly
from .stager import OssStager

_logger = logging.getLogger(__name__)

# Tokens that this process has written with. A planner that caches its plans brings old ones back.
_spent_tokens: set[str] = set()


class OssStorageWriter(StorageWriter):
    """Write distributed checkpoints below `oss://bucket/prefix`.

        dcp.save(state, storage_writer=OssStorageWriter("oss://bucket/ckpt/step-100", endpoint=..., region=...))

    Every rank: [reset,] set_up_storage_writer, prepare_local_plan, write_data; the coordinator also
    prepare_global_plan before the last and finish after it.

    A checkpoint exists when `.metadata` does, which is one PutObject at the end. A save under an id that exists writes
    new objects, then replaces `.metadata`, then removes the old objects: at every moment one of the two loads.
    `overwrite=False` refuses an id that exists; so does a save with `use_collectives=False`, always.

    It is a stager, too: `dcp.async_save` copies the state into buffers that the writer keeps. One save at a time; for
    two in flight use a writer and a process group each. It pickles without its buffers, so it crosses processes.

    `thread_count` is the number of files per rank (with `single_file_per_rank=False` each item is a file), for
    `prefix_strategy` see `RoundRobinPrefixes`. `progress` is True for a tqdm bar, or called with bytes done and in all.
    `sync_files`, `per_thread_copy_ahead` and `cache_staged_state_dict` are torch's and have nothing to say here.
    """

    _synchronize_after_execute = False

    def __init__(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        endpoint: str | OssClient = "",
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
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
        self.client, checkpoint_id = open_place(
            fs,
            path,
            endpoint=endpoint,
            cred_path=cred_path,
            cred_provider=cred_provider,
            config_path=config_path,
            region=region,
        )
        self._checkpoint = checkpoint_uri(checkpoint_id)
        self._id = checkpoint_id
        self._files_per_rank = thread_count if single_file_per_rank else 0
        self._overwrite = overwrite
        self._serialization = serialization_format
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
        self._at_work: threading.Thread | None = None
        self._unconfirmed: tuple[OssUri, list[str]] | None = None
        self._begun, self._retries_before = time.perf_counter(), self.client.retries
        self._stager = OssStager()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("client", "_checkpoint", "_id", "_files_per_rank", "_overwrite", "_serialization", "_extensions")
        return {name: vars(self)[name] for name in (*kept, "_prefix_strategy", "_progress")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin_anew()

    def __repr__(self) -> str:
        return f"OssStorageWriter({self._id!r})"

    @property
    def checkpoint_id(self) -> str:
        """The checkpoint that is, or will be, written, as it was given."""
        return self._id

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return is_checkpoint_id(checkpoint_id)

    def storage_meta(self) -> StorageMeta:
        return StorageMeta(checkpoint_id=self._id, save_id=self._save_id)

    # the order of calls

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Prepare for another save, under another id if one is given; `OssUsageError` while one is in flight."""
        self._check_idle()
        self._remove_what_was_not_published()
        if checkpoint_id:
            self._checkpoint, self._id = checkpoint_uri(checkpoint_id), os.fspath(checkpoint_id)
        self._save_id = str(uuid.uuid4())

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self._check_idle()
        self._remove_what_was_not_published()
        self._begun, self._retries_before = time.perf_counter(), self.client.retries
        self._is_coordinator = is_coordinator
        self._rank = kwargs.get("rank") or 0
        self._uses_collectives = kwargs.get("use_collectives", True)
        self._token = new_token(time.time_ns() // 1_000_000)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        if self._is_coordinator or not self._uses_collectives:
            self._refuse_if_it_exists()
        self._at_work = threading.current_thread()
        if self._uses_collectives:
            return plan
        return dataclasses.replace(plan, storage_data=self._ticket(self._rank))

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [
            plan if plan.storage_data is not None else dataclasses.replace(plan, storage_data=self._ticket(rank))
            for rank, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        self._check_idle()
        self._at_work = threading.current_thread()
        try:
            results = self._write(plan, planner)
        finally:
            self._at_work = None
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish: put `.metadata`, then remove what it has replaced."""
        metadata.version = getattr(dcp_filesystem, "CURRENT_DCP_VERSION", None)
        metadata.storage_data = {result.index: result.storage_data for ofrank in results for result in ofrank}
        metadata.storage_meta = self.storage_meta()
        if self._uses_collectives:
            old = self._old_names()
            self._put_metadata(metadata, metadata_name(), forbid_overwrite=not self._overwrite)
            new = {info.relative_path for info in metadata.storage_data.values()}
            remove_quietly(lambda: self._remove(name for name in old if name not in new))
        else:
            self._put_metadata(metadata, metadata_name(self._rank), forbid_overwrite=True)
        self._unconfirmed = None
        size = sum(result.size_in_bytes for ofrank in results for result in ofrank)
        seconds, retries = time.perf_counter() - self._begun, self.client.retries - self._retries_before
        _logger.info("saved %s: %s", self._id, summary(size, seconds, retries))

    # being a stager

    @property
    def should_synchronize_after_execute(self) -> bool:
        return self._synchronize_after_execute

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the state in buffers of the writer's; see `OssStager`."""
        return self._stager.stage(state_dict)

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` returns when the copy is made."""

    def close(self) -> None:
        """Let the buffers go."""
        self._stager.close()

    # the steps

    def _check_idle(self) -> None:
        at_work = self._at_work
        if at_work is not None and at_work is not threading.current_thread() and at_work.is_alive():
            raise OssUsageError(
                f"{self!r} is still saving: wait for that save, or use a writer (and a process group) of its own"
            )

    def _ticket(self, rank: int) -> SaveTicket:
        return make_ticket(rank, self._token, self._prefix_strategy)

    def _write(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        ticket = self._unspent(plan.storage_data)
        total = sum(map(item_bytes, plan.items))
        progress = Progress(self._progress, f"save {self._id}", total)
        save = RankSave(
            self.client,
            self._checkpoint,
            ticket,
            planner,
            serialization=self._serialization,
            extensions=self._extensions,
            progress=progress,
        )
        retries = self.client.retries
        save.write(split_into_files(plan.items, self._files_per_rank or len(plan.items)))
        if self.client.retries != retries:
            remove_quietly(lambda: self._abort_what_nobody_answers_for(ticket))
        progress.end()
        self._unconfirmed = (self._checkpoint, save.names)
        return save.results

    def _abort_what_nobody_answers_for(self, ticket: SaveTicket) -> None:
        """Abort uploads of this rank's files that are still open when all files are stored.

        OSS began them, and its answer was lost. Nobody else writes objects with this save's token.
        """
        start = len(self._checkpoint.key)
        for upload in self.client.list_uploads(member(self._checkpoint, ticket.prefix)):
            if token_of(upload.key[start:]) == ticket.token:
                self.client.abort_upload(OssUri(self._checkpoint.bucket, upload.key), upload.upload_id)

    def _unspent(self, ticket: object) -> SaveTicket:
        """Return the ticket; one that was used before, out of a planner's cache, with a token of our own."""
        if not isinstance(ticket, SaveTicket):
            raise OssUsageError(f"the plan does not come from this writer's prepare_global_plan: {ticket!r}")
        if ticket.token in _spent_tokens:
            ticket = dataclasses.replace(ticket, token=new_token(time.time_ns() // 1_000_000))
        _spent_tokens.add(ticket.token)
        return ticket

    def _refuse_if_it_exists(self) -> None:
        if self._uses_collectives and self._overwrite:
            return
        existing = self._metadata_names()
        if not self._uses_collectives:  # the other ranks' may be of this very save
            existing = [name for name in existing if name in (metadata_name(), metadata_name(self._rank))]
        if existing:
            why = "overwrite=False" if self._uses_collectives else "a save without collectives can't replace one"
            raise OssConflictError(f"{self._id}: a checkpoint exists there ({existing[0]}), and {why}: use another id")

    def _metadata_names(self) -> list[str]:
        start = len(self._checkpoint.key)
        names = [found.key[start:] for found in self.client.list(self._checkpoint, delimiter="/")]
        return [name for name in names if name == metadata_name() or is_rank_metadata(name)]

    def _old_names(self) -> list[str]:
        """Return the objects that the checkpoint has now, and that its replacement makes superfluous."""
        names: list[str] = []
        try:
            uri = member(self._checkpoint, metadata_name())
            old = load_metadata(self.client.get(uri).body, str(uri))
            names += {info.relative_path for info in old.storage_data.values()}
        except OssNotFoundError:
            pass
        except OssIntegrityError as error:
            _logger.warning("what stood there before can't be read, so its data is not removed: %s", error)
        return names + [name for name in self._metadata_names() if name != metadata_name()]

    def _put_metadata(self, metadata: Metadata, name: str, *, forbid_overwrite: bool) -> None:
        self.client.put(member(self._checkpoint, name), dump_metadata(metadata), forbid_overwrite=forbid_overwrite)

    def _remove(self, names: Any) -> None:
        keys = [member(self._checkpoint, name).key for name in names]
        if keys:
            self.client.delete_many(self._checkpoint.bucket, keys)

    def _remove_what_was_not_published(self) -> None:
        """Remove the files of this rank's last save if that failed elsewhere: `.metadata` is missing, or older."""
        self._at_work = None
        if self._unconfirmed is None:
            return
        (checkpoint, names), self._unconfirmed = self._unconfirmed, None
        try:
            if not self._is_published(checkpoint, names):
                self.client.delete_many(checkpoint.bucket, [member(checkpoint, name).key for name in names])
        except OssNotFoundError:
            pass  # removed already: the checkpoint was replaced
        except OssError as error:
            _logger.warning("objects of an unfinished save may be left below %s: %s", checkpoint, error)

    def _is_published(self, checkpoint: OssUri, names: list[str]) -> bool:
        if not names:
            return True
        written = self.client.head(member(checkpoint, names[-1])).last_modified
        for metadata in (metadata_name(), metadata_name(self._rank)):
            try:
                published = self.client.head(member(checkpoint, metadata)).last_modified
            except OssNotFoundError:
                continue
            if written is None or published is None or published >= written:
                return True
        return False
