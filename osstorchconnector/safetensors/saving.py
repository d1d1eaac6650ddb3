"""Tensors on their way into a safetensors file: checked before anything is sent, then sent from where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch

from ..client.client import OssClient
from ..files.file_upload import FileUpload, give_up
from ..files.read_plan import MIB
from ..tensors.dtypes import SAFETENSORS_NAMES
from ..tensors.memory import bare, memory
from ..uri import OssUri
from .header import Entry, check_names, make_header

# Tensors on other devices are copied in such pieces, and their uploads under way take so much memory at most.
COPIED_BYTES, MAX_COPIED_BYTES = 4 * MIB, 32 * MIB


def check_metadata(metadata: object) -> Mapping[str, str] | None:
    """Return the metadata if it is a dict of texts, or none; raise `TypeError` if not."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a dict of texts, not {type(metadata).__name__}")
    for one in (*metadata, *metadata.values()):
        if not isinstance(one, str):
            raise TypeError(f"metadata must be a dict of texts, but it has {one!r:.100}")
        one.encode()
    return metadata


def check_tensors(tensors: object) -> dict[str, torch.Tensor]:
    """Return the tensors as torch's own, detached.

    Raises `ValueError` for what is no tensor that a file can have, `TypeError` for a name that is no text, and
    `RuntimeError` for tensors that share memory.
    """
    if not isinstance(tensors, dict):
        raise ValueError(f"expected a dict of tensors, not {type(tensors).__name__}")
    check_names(tensors)
    found = {name: _checked(name, tensor) for name, tensor in tensors.items()}
    _check_sharing(found)
    return found


def _checked(name: str, tensor: object) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name!r:.100} is no tensor but {type(tensor).__name__}")
    tensor = bare(tensor)
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise ValueError(
            f"tensor {name!r:.100} is a {type(tensor).__name__}, which is more than its bytes: save the plain tensors "
            "that it is made of (of a DTensor, `.full_tensor()`)"
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"tensor {name!r:.100} is sparse, and the format has dense ones only: save `.to_dense()`")
    if tensor.dtype not in SAFETENSORS_NAMES:
        raise ValueError(f"tensor {name!r:.100} has dtype {tensor.dtype}, which the format lacks: convert it first")
    if tensor.device.type == "meta":
        raise ValueError(f"tensor {name!r:.100} is on the meta device: it has no content")
    if not tensor.is_contiguous():
        raise ValueError(
            f"tensor {name!r:.100} is not contiguous. If it is a view of another one, save that and slice it when you "
            "load; otherwise call `.contiguous()` on it, which copies it, before you save it"
        )
    return tensor.detach().resolve_conj().resolve_neg()


def _check_sharing(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise `RuntimeError` if a byte belongs to two tensors: it would be stored twice, and be two when loaded."""
    devices: dict[torch.device, list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            start = tensor.data_ptr()
            devices.setdefault(tensor.device, []).append((start, start + tensor.nbytes, name))
    for places in devices.values():
        places.sort()
        for (_, stop, name), (start, _, other) in pairwise(places):
            if start < stop:
                raise RuntimeError(
                    f"tensors {name!r:.100} and {other!r:.100} share memory, which would be stored twice, and no "
                    "longer be shared when loaded. Save one of them only, or a `.clone()`; of a model with tied "
                    "weights leave out the names that `safetensors.torch.save_model` leaves out"
                )


def save(client: OssClient, uri: OssUri, tensors: object, metadata: object) -> None:
    """Store tensors as a file. Nothing is stored if this raises, except as `FileUpload` says."""
    checked = check_tensors(tensors)
    head, names = make_header([_entry(name, tensor) for name, tensor in checked.items()], check_metadata(metadata))
    memory_bytes = client.config.upload_memory_bytes
    if any(not tensor.is_cpu for tensor in checked.values()):
        memory_bytes = min(memory_bytes, MAX_COPIED_BYTES)
    upload = FileUpload(client, uri, memory_bytes=memory_bytes)
    try:
        upload.add(head)
        for name in names:
            for block in _blocks(checked[name]):
                upload.add(block)
        upload.end_of_data()
        upload.begin_finish()
        upload.finish()
    except BaseException:
        give_up([upload])
        raise


def _entry(name: str, tensor: torch.Tensor) -> Entry:
    shape = tuple(tensor.shape)
    if SAFETENSORS_NAMES[tensor.dtype] == "F4":
        shape = (*shape[:-1], 2 * shape[-1])
    return Entry(name, SAFETENSORS_NAMES[tensor.dtype], shape)


def _blocks(tensor: torch.Tensor) -> Iterator[memoryview]:
    """Yield a tensor's bytes, which nobody changes."""
    if tensor.is_cpu:
        if tensor.numel():
            yield memory(tensor)
        return
    octets = tensor.view(-1).view(torch.uint8)
    for start in range(0, octets.numel(), COPIED_BYTES):
        yield memory(octets[start : start + COPIED_BYTES].cpu())
