"""Accelerate's `save_state` and `load_state` with a folder in OSS. Accelerate itself writes to disks only.

folders = CheckpointFolders("oss://bucket/run", ENDPOINT, cred_path=CRED_PATH)
load_state(accelerator, folders, "out")                     # the newest, if there is one
save_state(accelerator, folders, "out", "step-100")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .folders import CheckpointFolders


def save_state(
    accelerator: Any, folders: CheckpointFolders, folder: str | os.PathLike[str], name: str, **options: Any
) -> None:
    """Call `accelerator.save_state("folder/name")`, and upload that; on all processes.

    It returns when the checkpoint is complete in OSS. `options` are those of `accelerator.save_state`. The main process
    uploads, so several machines need a disk that all of them share.
    """
    local = Path(folder, name)
    accelerator.save_state(str(local), **options)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folders.upload(local)
    accelerator.wait_for_everyone()


def load_state(
    accelerator: Any, folders: CheckpointFolders, folder: str | os.PathLike[str], name: str = "", **options: Any
) -> str | None:
    """Download a checkpoint, by default the newest, to `folder`, and call `accelerator.load_state`; on all processes.

    Returns its name, or None if there is none. One process of each machine downloads.
    """
    newest = name or folders.newest()
    accelerator.wait_for_everyone()  # all have seen the same newest one before anybody saves another
    if newest is None:
        return None
    if accelerator.is_local_main_process:
        folders.download(newest, Path(folder))
    accelerator.wait_for_everyone()
    accelerator.load_state(str(Path(folder, newest)), **options)
    return newest
