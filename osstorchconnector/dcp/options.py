"""Keyword arguments that are handed on to readers, writers and torch, by name and type: a mistyped one is told.

At run time the function that gets them raises a `TypeError` that names an unknown one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension
    from torch.distributed.checkpoint.filesystem import SerializationFormat
    from torch.distributed.checkpoint.planner import LoadPlanner, SavePlanner

    from .layout import PrefixStrategy
    from .progress import ProgressCallback


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


class ReaderOptions(TypedDict, total=False):
    """Options of `OssStorageReader`, without its location and credentials."""

    weights_only: bool
    safe_types: Iterable[Any]
    memory_bytes: int
    extension_registry: ExtensionRegistry | None
    progress: ProgressCallback | bool | None


class SaveOptions(TypedDict, total=False):
    """Options of `torch.distributed.checkpoint.save` that a manager does not set itself."""

    planner: SavePlanner | None
    no_dist: bool
    use_collectives: bool


class LoadOptions(TypedDict, total=False):
    """Options of `torch.distributed.checkpoint.load` that a manager does not set itself."""

    planner: LoadPlanner | None
    no_dist: bool
