"""The job that this process is part of: which rank and worker it is, and what the processes of a job do together.

- `this_rank`, `worker_share`: who this process is
- `share_rank0_index`: all ranks read rank 0's listing. It is a collective call, as is any of torch.distributed: every
  rank makes it, in the same order
- `reads_for_all`, `warn_of_everything`: a warning that comes once for all ranks
- `exit_when_job_is_killed`: a worker does not outlive its job
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import sys
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from ..errors import OssError, OssUsageError
from ..index.fixed import FixedIndex
from ..index.held_file import this_machine
from ..index.orders import Share
from ..index.shared import ObjectIndex, SharedIndex
from ..patience import start_thread

_CHUNK_BYTES = 16 << 20

_logger = logging.getLogger(__name__)


def this_rank(purpose: str) -> tuple[int, int]:
    """Return which rank this is, and of how many."""
    dist = _distributed(purpose)
    return dist.get_rank(), dist.get_world_size()


def worker_share() -> Share:
    """Return the share of the DataLoader worker that this is; everything in a process that is none."""
    worker = get_worker_info()
    return Share() if worker is None else Share(worker.id, worker.num_workers)


def reads_for_all() -> bool:
    """Say whether this is the first of several ranks, and the process or worker of it that speaks for the others."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not (dist.is_available() and dist.is_initialized()):
        return False
    worker = get_worker_info()
    return dist.get_world_size() > 1 and dist.get_rank() == 0 and (worker is None or worker.id == 0)


def warn_of_everything(how: str) -> None:
    """Log that each rank reads everything, and how to choose."""
    _logger.warning("every rank of torch.distributed reads all objects, and each object is read by all ranks: %s", how)


def share_rank0_index(index: ObjectIndex, purpose: str) -> None:
    """Let every rank read rank 0's table: the same file on one machine, a copy on others. A collective call.

    Ranks on rank 0's machine read its table while it grows. For others rank 0 lists to the end here. `purpose` is what
    the user has asked for.
    """
    dist = _distributed(purpose)
    if dist.get_world_size() == 1:
        return
    if isinstance(index, FixedIndex):
        _check_same(dist, index.digest())
    elif isinstance(index, SharedIndex):
        share_table(dist, index, this_machine())


def share_table(dist: Any, index: SharedIndex, machine: str) -> None:
    """Have all ranks read rank 0's table; `machine` is the one that this rank is on."""
    index.ensure_file()
    first_machine, path = _from_first(dist, (machine, str(index.path)))
    # Another machine may find the file (NFS), but a mapping there does not show how the file grows.
    is_shared = dist.get_rank() == 0 or (machine == first_machine and index.link_to(Path(path)))
    if not all(_from_all(dist, is_shared)):
        _copy(dist, index, is_shared)


def _copy(dist: Any, index: SharedIndex, is_shared: bool) -> None:
    """Send the whole table to those ranks that can't read rank 0's file."""
    data, error = b"", ""
    if dist.get_rank() == 0:
        try:
            data = index.dump()
        except OssError as caught:
            error = f"{type(caught).__name__}: {caught}"
    size, error = _from_first(dist, (len(data), error))
    if error:
        raise OssError(f"rank 0 could not list the objects for all: {error}")
    chunks = [_from_first(dist, data[start : start + _CHUNK_BYTES]) for start in range(0, size, _CHUNK_BYTES)]
    if not is_shared:
        index.restore(b"".join(chunks))


def _check_same(dist: Any, digest: str) -> None:
    if len(set(_from_all(dist, digest))) > 1:
        raise OssUsageError("the ranks were given different objects: give each rank the same names in the same order")


def _from_first(dist: Any, value: Any) -> Any:
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def _from_all(dist: Any, value: Any) -> list[Any]:
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _distributed(purpose: str) -> Any:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        raise OssUsageError(f"{purpose} is for ranks: call torch.distributed.init_process_group before")
    return dist


_watched_in = 0  # the process


def exit_when_job_is_killed() -> None:
    """Let this process, if it is a worker of a DataLoader, not outlive a job that was killed.

    Torch's workers notice within seconds that their job is gone, and then wait until it has taken the last samples out
    of their pipe: for ever, as soon as these are larger than the pipe. Where a server has started them (`forkserver`,
    Python 3.14's default), they look at that instead, which does not end before them.
    """
    global _watched_in
    if _watched_in == os.getpid() or get_worker_info() is None:
        return
    _watched_in = os.getpid()
    job = multiprocessing.parent_process()
    if job is None:  # a worker that is a thread, which newer versions of torch prepare for
        return
    if not job.is_alive():  # died before torch began to look
        os._exit(1)
    if job.pid != os.getppid():
        start_thread(functools.partial(_exit_after, job), "oss-job-watch")
    # Before the finaliser that waits (-5), after those that close and tidy up (0 and above).
    Finalize(None, _leave_if_orphaned, args=(os.getppid(),), exitpriority=-1)


def _exit_after(job: Any) -> None:
    job.join()
    os._exit(1)


def _leave_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
