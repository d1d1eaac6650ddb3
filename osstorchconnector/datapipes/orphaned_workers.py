"""DataLoader workers whose job was killed."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.util import Finalize

from torch.utils.data import get_worker_info

_watched_in = 0  # the process


def end_with_job() -> None:
    """Let this process, if it is a worker of a DataLoader, not outlive a job that was killed.

    Torch's workers notice within seconds that their job is gone, and then wait until it has taken the last samples out
    of their pipe: for ever, as soon as these are larger than the pipe.
    """
    global _watched_in
    if _watched_in == os.getpid() or get_worker_info() is None:
        return
    _watched_in = os.getpid()
    job = multiprocessing.parent_process()
    if job is not None and not job.is_alive():  # died before torch began to look
        os._exit(1)
    # Before the finaliser that waits (-5), after those that close and tidy up (0 and above).
    Finalize(None, _leave_if_orphaned, args=(os.getppid(),), exitpriority=-1)


def _leave_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
