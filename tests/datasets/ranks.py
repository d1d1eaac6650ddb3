"""Jobs of several ranks on gloo: each rank is a process of its own, what it returns comes back by rank."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

Work = Callable[..., Any]


def run_ranks(ranks: int, work: Work, *arguments: Any) -> list[Any]:
    """Run `work(rank, *arguments)` on each rank, torch.distributed initialised; return what each returned."""
    with tempfile.TemporaryDirectory() as folder:
        # Not by torch.multiprocessing.spawn: it kills the ranks that are left as soon as one has failed.
        context = multiprocessing.get_context("forkserver")
        results = [context.SimpleQueue() for _ in range(ranks)]
        processes = [
            context.Process(target=_rank, args=(rank, ranks, folder, results[rank], work, arguments))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        found = [result.get() for result in results]
        for process in processes:
            process.join()
    failed = [text for is_good, text in found if not is_good]
    assert not failed, "\n".join(failed)
    return [value for _, value in found]


def _rank(rank: int, ranks: int, folder: str, result: Any, work: Work, arguments: tuple[Any, ...]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    multiprocessing.set_forkserver_preload(["torch.utils.data"])  # once for all workers of this rank
    try:
        dist.init_process_group("gloo", init_method=Path(folder, "store").as_uri(), rank=rank, world_size=ranks)
        result.put((True, work(rank, *arguments)))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        result.put((False, traceback.format_exc()))
        raise
