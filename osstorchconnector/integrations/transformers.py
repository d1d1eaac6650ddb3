"""Checkpoints of transformers' Trainer: uploaded while training goes on, and found again after a kill.

    trainer = Trainer(..., callbacks=[OssCheckpointCallback("oss://bucket/run", ENDPOINT, cred_path=CRED_PATH)])
    newest = download_newest("oss://bucket/run", args.output_dir, ENDPOINT, cred_path=CRED_PATH)
    trainer.train(resume_from_checkpoint=newest)

Trainer writes checkpoints to `output_dir` on a disk, and takes no URLs. The callback uploads each of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from ..client.client import OssClient
from ..errors import OssConfigError
from ..optional import unavailable
from .background import Background
from .folders import CheckpointFolders

if TYPE_CHECKING:
    TrainerCallback = Any
else:
    try:
        from transformers import TrainerCallback
    except Exception as error:  # missing, too old or broken
        TrainerCallback = unavailable("osstorchconnector.integrations.transformers", "transformers>=5", error)


class OssCheckpointCallback(TrainerCallback):
    """Uploads each `checkpoint-N` of a Trainer to `uri/checkpoint-N`, in a thread, while training goes on.

    A checkpoint in OSS counts when all its files are there: whatever is killed, `download_newest` never finds half of
    one. The main process uploads. Where several machines train, they need a disk that all of them share.

    - `uri`, `endpoint`, `settings`: as for `CheckpointFolders`
    - `keep`: how many stay in OSS, the best one (`load_best_model_at_end`) always among them. Default: as many as on
      the disk, which is the Trainer's `save_total_limit`.
    - `in_flight`: how many may be on their way; when there is one more to upload, training waits

    The files are linked, not copied, while they are on their way, so Trainer may remove its folder meanwhile. An error
    of an upload is raised at the next checkpoint, and at the latest when training ends.
    """

    def __init__(
        self,
        uri: str,
        endpoint: str | OssClient | None = None,
        *,
        keep: int | None = None,
        in_flight: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__()
        if (keep is not None and keep < 1) or in_flight < 1:
            raise OssConfigError(f"keep={keep}, in_flight={in_flight}: at least 1 each")
        self._folders = CheckpointFolders(uri, endpoint, **settings)
        self._keep, self._in_flight = keep, in_flight
        self._background = Background("oss-transformers")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to upload the checkpoint that Trainer has just written."""
        if dist.is_available() and dist.is_initialized():
            dist.barrier()  # other ranks write files of theirs into the same folder
        if not state.is_world_process_zero:
            return
        self._background.wait(self._in_flight - 1)
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        best = [Path(state.best_model_checkpoint).name] if state.best_model_checkpoint else []
        self._background.begin(self._upload, _linked(folder), folder.name, self._keep or args.save_total_limit, best)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for all uploads, and raise the first error."""
        self._background.close()

    def _upload(self, linked: Path, name: str, keep: int | None, best: list[str]) -> None:
        try:
            self._folders.upload(linked, name)
        finally:
            shutil.rmtree(linked, ignore_errors=True)
        if keep:
            self._folders.keep(keep, also={name, *best})


def download_newest(
    uri: str, folder: str | os.PathLike[str], endpoint: str | OssClient | None = None, **settings: Any
) -> str | None:
    """Download the newest whole checkpoint below `uri` to `folder/checkpoint-N`, and return that path.

    None if there is none: then `trainer.train(resume_from_checkpoint=None)` begins anew. The newest is the one that was
    complete last, so after going back to an earlier one it is on the new way. With several processes on a machine, let
    one download: `with args.main_process_first():`. Errors are those of `CheckpointFolders`.
    """
    folders = CheckpointFolders(uri, endpoint, **settings)
    name = folders.newest()
    return None if name is None else folders.download(name, Path(folder))


def _linked(folder: Path) -> Path:
    """Return a new folder beside this one with the same files: links where the file system has them, else copies."""
    place = Path(tempfile.mkdtemp(prefix=".oss-upload-", dir=folder.parent))
    return Path(shutil.copytree(folder, place, copy_function=_link, dirs_exist_ok=True))


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)  # a link of its own would lead to nothing when its file is removed
    except OSError:
        shutil.copy2(source, target)
