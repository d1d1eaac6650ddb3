"""A check of a distributed checkpoint's metadata: a pickle can hold the right classes with wrong values in them.

Torch's planners do not check it, and would raise an `AttributeError` from deep within. There may be very many tensors,
so each check takes all of them at once. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from operator import add, attrgetter, ge
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

_NONE = type(None)
_CHUNKS = attrgetter("chunks")
_FIELDS = {"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"}


def is_plain(metadata: Metadata) -> bool:
    """Say whether the metadata has torch's classes only, and none of a planner's."""
    planner_data = metadata.planner_data
    try:
        return (
            type(metadata) is Metadata
            and vars(metadata).keys()
            <= {"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"}
            and _types(metadata.state_dict_metadata.values()) <= {TensorStorageMetadata, BytesStorageMetadata}
            and (planner_data is None or _is_plain(planner_data))
        )
    except TypeError:
        return False


def _is_plain(planner_data: Any) -> bool:
    """Say whether it is what the default planner keeps: the path to each entry of the state."""
    return (
        type(planner_data) is dict
        and _types(planner_data) <= {str}
        and _types(planner_data.values()) <= {tuple}
        and _types(chain.from_iterable(planner_data.values())) <= {str, int}
    )


def check_metadata(metadata: Any) -> Metadata:
    """Return the metadata; raises `ValueError`, or another of Python's errors, if it can't be a checkpoint's."""
    _require(isinstance(metadata, Metadata), "it is no metadata")
    _require(isinstance(metadata.storage_meta, (StorageMeta, _NONE)), "its description is none")
    _require(isinstance(metadata.version, (str, _NONE)), "its version is no text")
    entries = metadata.state_dict_metadata
    _require(isinstance(entries, dict) and _types(entries) <= {str}, "the names of its entries are no texts")
    tensors = [entry for entry in entries.values() if isinstance(entry, TensorStorageMetadata)]
    others = _types(entries.values()) - _types(tensors)
    _require(all(issubclass(kind, BytesStorageMetadata) for kind in others), "an entry is neither tensor nor object")
    _check_tensors(tensors)
    _check_places(metadata.storage_data)
    assert isinstance(metadata, Metadata)
    return metadata


def _check_tensors(tensors: list[TensorStorageMetadata]) -> None:
    properties = list(map(attrgetter("properties"), tensors))
    _require(_types(properties) <= {TensorProperties}, "a tensor's properties are none")
    _require(_types(map(attrgetter("dtype"), properties)) <= {torch.dtype}, "a tensor's dtype is none")
    _require(_types(map(attrgetter("size"), tensors)) <= {torch.Size}, "a tensor's size is none")
    _require(_types(map(_CHUNKS, tensors)) <= {list, tuple}, "a tensor's parts are no list")
    _require(_types(chain.from_iterable(map(_CHUNKS, tensors))) <= {ChunkStorageMetadata}, "a part of a tensor is none")
    # There are few sizes of thousands of tensors.
    for size, offsets, sizes in {
        (tensor.size, tuple(chunk.offsets), tuple(chunk.sizes)) for tensor in tensors for chunk in tensor.chunks
    }:
        _require(_types((*size, *offsets, *sizes)) <= {int}, "a size is no number")
        _require(len(size) == len(offsets) == len(sizes), "a part of a tensor has other dimensions")
        _require(min((*offsets, *sizes), default=0) >= 0, "a part of a tensor has a negative size")
        _require(all(map(ge, size, map(add, offsets, sizes))), "a part of a tensor is outside of it")
    for tensor in tensors:
        parts = tensor.chunks
        if len(parts) != 1 or parts[0].sizes != tensor.size:
            _require(
                sum(math.prod(part.sizes) for part in parts) >= math.prod(tensor.size), "parts of a tensor are missing"
            )


def _check_places(storage: Any) -> None:
    _require(isinstance(storage, dict), "it does not say where its entries are stored")
    indices, infos = list(storage), list(storage.values())
    _require(_types(indices) <= {MetadataIndex}, "what is stored has no index")
    _require(_types(map(attrgetter("fqn"), indices)) <= {str}, "what is stored has no name")
    _require(_types(map(attrgetter("offset"), indices)) <= {torch.Size, _NONE}, "what is stored is no part")
    _require(_types(map(attrgetter("index"), indices)) <= {int, _NONE}, "what is stored has no number")
    _require(_types(infos) <= {_StorageInfo}, "a place is none")
    _require(_types(map(attrgetter("relative_path"), infos)) <= {str}, "a file has no name")
    numbers = list(chain(map(attrgetter("offset"), infos), map(attrgetter("length"), infos)))
    _require(_types(numbers) <= {int} and min(numbers, default=0) >= 0, "a place in a file is no number")
    descriptors = [getattr(info, "transform_descriptors", None) for info in infos]
    _require(_types(descriptors) <= {list, tuple, _NONE}, "the names of extensions are no list")
    _require(_types(chain.from_iterable(filter(None, descriptors))) <= {str}, "the name of an extension is no text")


def _types(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
