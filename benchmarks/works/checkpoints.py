"""Distributed checkpoints: saved, loaded, loaded in part, and saved during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.site import BUCKET, Site, network_at
from benchmarks.values import CXX, MIB, OURS, Contender, Goal, Work

from .objects import away, connectors

GIB = 1 << 30
URI = f"oss://{BUCKET}/checkpoints"
FSSPEC = "FsspecWriter on ossfs"
FSSPEC_READER = "FsspecReader on ossfs"
LOCAL = "FileSystemReader in memory"
COPY = "copy into warm buffers"
TORCH_STAGER = "torch's default stager"
NOTHING, NO_STAGER = "a reader that reads nothing", "a stager that copies nothing"
PRELOAD = ("torch", "torch.distributed.checkpoint")

MODEL = {"size": 2 * GIB, "tensors": 300}
SMALL = {"size": 5000 * 65536, "tensors": 5000, "is_even": True}
QUICK_MODEL = {"size": 32 * MIB, "tensors": 15}
QUICK_SMALL = {"size": 100 * 65536, "tensors": 100}


def _save(site: Site, **state: Any) -> list[Contender]:
    site.discard_uploads()
    options = {"uri": URI, "state": state}
    return [
        *connectors(site, "checkpoints:save", options, preload=PRELOAD),
        _peer(site, FSSPEC, "checkpoints:save_by_fsspec", options),
    ]


def _load(site: Site, *, milliseconds: int = 0, files: int = 1, **state: Any) -> list[Contender]:
    folder, _needed = put_checkpoint(site, state, files)
    options = {"uri": URI, "state": state}
    local = {"path": str(folder), "state": state}
    contenders = [
        *connectors(site, "checkpoints:load", options, preload=PRELOAD),
        _peer(site, FSSPEC_READER, "checkpoints:load_by_fsspec", options),
        Contender(name=LOCAL, program="checkpoints:load_local", options=local, preload=PRELOAD, is_limit=True),
        Contender(
            name=NOTHING,
            program="checkpoints:load_nothing",
            options=local,
            preload=PRELOAD,
            is_extra=True,
            is_limit=True,
        ),
    ]
    return away(contenders, network_at(milliseconds))


def _load_fresh(site: Site, **state: Any) -> list[Contender]:
    put_checkpoint(site, state)
    options = {"uri": URI, "state": state, "is_warm": False}
    return connectors(site, "checkpoints:load", options, preload=PRELOAD)


def _load_part(site: Site, *, every: int, **state: Any) -> list[Contender]:
    _folder, needed = put_checkpoint(site, state)
    options = {"uri": URI, "state": state, "every": every, "needed": needed}
    return connectors(site, "checkpoints:load", options, preload=PRELOAD)


def _async_save(site: Site, *, is_nested: bool = False, by_manager: bool = False, **state: Any) -> list[Contender]:
    site.discard_uploads()
    managed = {"access": site.access(), "uri": URI, "state": state}
    ours = {**managed, "is_nested": is_nested}

    def contender(name: str, program: str, options: Mapping[str, Any], *, is_limit: bool = False) -> Contender:
        program = f"checkpoints:{program}"
        return Contender(name=name, program=program, options=options, preload=PRELOAD, is_limit=is_limit)

    return [
        contender(OURS, "managed_save", managed)
        if by_manager
        else contender(OURS, "async_save", {**ours, "stager": "writer"}),
        contender(TORCH_STAGER, "async_save", {**ours, "stager": "torch"}),
        contender(NO_STAGER, "async_save", {**ours, "stager": "nothing"}, is_limit=True),
        contender(COPY, "copy_state", {"state": state}, is_limit=True),
    ]


def put_checkpoint(site: Site, state: Mapping[str, Any], files: int = 1) -> tuple[Path, dict[str, int]]:
    """Save a checkpoint by torch's own writer, in a folder and in the bucket; return folder and items' lengths.

    With several `files` it is like the checkpoint of that many ranks with the same state.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    from benchmarks.programs.checkpoints import model_state

    folder = site.memory / "checkpoint"
    save(model_state(**state), storage_writer=FileSystemWriter(folder, thread_count=files), no_dist=True)
    for path in folder.iterdir():
        site.put_file(f"checkpoints/{path.name}", path)
    stored = FileSystemReader(folder).read_metadata().storage_data
    return folder, {index.fqn: info.length for index, info in stored.items()}


def _peer(site: Site, name: str, program: str, options: Mapping[str, Any]) -> Contender:
    options = {"keys": site.keys(), **options}
    return Contender(
        name=name,
        program=program,
        options=options,
        where="peers",
        preload=PRELOAD,
        missing=site.name_missing,
        is_extra=True,
    )


def _small_async_work(name: str, title: str, **how: bool) -> Work:
    return Work(
        name=name,
        title=f"{title}, until training may go on, the second time",
        unit="ms",
        figure="seconds_each",
        scale=1e3,
        prepare=_async_save,
        full={**SMALL, **how},
        quick={**QUICK_SMALL, **how},
        goals=[Goal(against=TORCH_STAGER, figure="seconds_each", reach=0.6, aim=0.3, is_ceiling=True)],
    )


WORKS: Sequence[Work] = (
    Work(
        name="dcp-save",
        label="dcp.save, 300 tensors",
        title="dcp.save of {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_save,
        full=MODEL,
        quick=QUICK_MODEL,
        goals=[
            Goal(against=CXX, reach=3, aim=6),
            Goal(against=FSSPEC, reach=3, aim=6),
            Goal(against="", figure="peak", reach=512 * MIB, aim=128 * MIB, is_ceiling=True),
        ],
    ),
    Work(
        name="dcp-save-small",
        label="dcp.save, 5,000 small tensors",
        title="dcp.save of {tensors:,} tensors of 64 KiB",
        unit="GB/s",
        scale=1e-9,
        prepare=_save,
        full=SMALL,
        quick=QUICK_SMALL,
        goals=[Goal(against=CXX, reach=5, aim=9)],
    ),
    Work(
        name="dcp-load",
        label="dcp.load, 300 tensors",
        title="dcp.load of {size:,} bytes in {tensors} tensors, into tensors that are there",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full=MODEL,
        quick=QUICK_MODEL,
        goals=[
            Goal(against=CXX, reach=3.5, aim=7),
            Goal(against=FSSPEC_READER, reach=5, aim=10),
            Goal(against=LOCAL, reach=0.6, aim=0.9),
            Goal(against="", figure="peak", reach=512 * MIB, aim=128 * MIB, is_ceiling=True),
        ],
    ),
    Work(
        name="dcp-load-fresh",
        title="dcp.load of {size:,} bytes in {tensors} tensors, in memory as the process finds it",
        unit="GB/s",
        scale=1e-9,
        prepare=_load_fresh,
        full=MODEL,
        quick=QUICK_MODEL,
        goals=[Goal(against=CXX, reach=3.5, aim=7)],
    ),
    Work(
        name="dcp-load-small",
        label="dcp.load, 5,000 small tensors",
        title="dcp.load of {tensors:,} tensors of 64 KiB",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full=SMALL,
        quick=QUICK_SMALL,
        goals=[Goal(against=CXX, reach=2, aim=5)],
    ),
    Work(
        name="dcp-load-late",
        title="dcp.load of {tensors:,} tensors of 64 KiB, {milliseconds} ms before every answer",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full={**SMALL, "milliseconds": 10},
        quick=QUICK_SMALL,
        goals=[Goal(against=CXX, reach=4, aim=8)],
    ),
    Work(
        name="dcp-load-ranks",
        label="dcp.load, 64 files, 10 ms away",
        title="dcp.load of {tensors:,} tensors of 64 KiB in {files} files, as from as many ranks, "
        "{milliseconds} ms before every answer",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full={**SMALL, "milliseconds": 10, "files": 64},
        quick={**QUICK_SMALL, "files": 4},
        goals=[Goal(against=CXX, reach=8, aim=20)],
    ),
    Work(
        name="dcp-load-part",
        title="dcp.load of every {every}th of {tensors} tensors of together {size:,} bytes",
        unit="GB/s",
        scale=1e-9,
        prepare=_load_part,
        full={**MODEL, "every": 10},
        quick=QUICK_MODEL,
        goals=[Goal(against="", extra="sent_of_needed", reach=1.05, aim=1.01, is_ceiling=True)],
    ),
    Work(
        name="dcp-async",
        label="dcp.async_save, 300 tensors",
        title="dcp.async_save of {size:,} bytes in {tensors} tensors, until training may go on, the second time",
        unit="ms",
        figure="seconds_each",
        scale=1e3,
        prepare=_async_save,
        full=MODEL,
        quick=QUICK_MODEL,
        goals=[Goal(against=COPY, figure="seconds_each", reach=1.3, aim=1.1, is_ceiling=True)],
    ),
    _small_async_work("dcp-async-small", "dcp.async_save of {tensors:,} tensors of 64 KiB"),
    _small_async_work(
        "dcp-async-managed", "OssCheckpointManager.async_save of {tensors:,} tensors of 64 KiB", by_manager=True
    ),
    _small_async_work(
        "dcp-async-nested", "dcp.async_save of {tensors:,} tensors of 64 KiB as one entry of the state", is_nested=True
    ),
)
