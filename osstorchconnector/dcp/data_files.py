"""The contents of data files: which items a file has, and the bytes of each, handed over without copying.

Torch's format is one `torch.save` archive after another; `.metadata` says where each is. A safetensors file is a JSON
header and the tensors' bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple, cast

import torch
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType

from ..errors import OssUsageError
from ..protocol.checksum import crc32
from ..protocol.values import Buffer
from ..tensors.dtypes import SAFETENSORS_NAMES
from ..tensors.memory import bare, is_plain, memory
from .tensors import tensor_archive
from .torch_dcp import StreamTransformExtension

# Takes the next piece of an item, whose bytes nobody changes, and returns its CRC-32.
Add = Callable[[Buffer], int]


def item_bytes(item: WriteItem) -> int:
    """Return how many bytes of tensor an item has; of an object nothing is known."""
    if item.tensor_data is None:
        return 0
    chunk = item.tensor_data.chunk
    count = chunk.sizes.numel() if chunk is not None else item.tensor_data.size.numel()
    return count * item.tensor_data.properties.dtype.itemsize


def split_into_files(items: Sequence[WriteItem], count: int) -> list[list[WriteItem]]:
    """Return the items in at most `count` groups of about the same size, objects first in each."""
    groups: list[list[WriteItem]] = [[] for _ in range(max(count, 1))]
    sizes = [0] * len(groups)
    by_size = sorted(items, key=item_bytes, reverse=True) if count > 1 else items
    for item in by_size:
        smallest = sizes.index(min(sizes))
        groups[smallest].append(item)
        sizes[smallest] += item_bytes(item) + 1
    for group in groups:
        group.sort(key=lambda item: item.type != WriteItemType.BYTE_IO)
    return [group for group in groups if group]


def resolve_tensor(planner: SavePlanner, item: WriteItem) -> torch.Tensor:
    """Return the item's tensor in the processor's memory, its elements one after another."""
    tensor = planner.resolve_data(item)
    if not isinstance(tensor, torch.Tensor):
        raise OssUsageError(f"the planner gave {type(tensor).__name__} for the tensor {item.index.fqn}")
    tensor = bare(tensor).detach()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    return tensor.contiguous() if is_plain(tensor) else tensor


def resolve_object(planner: SavePlanner, item: WriteItem) -> Buffer:
    """Return the bytes of an item that is no tensor."""
    data = planner.resolve_data(item)
    if not isinstance(data, io.BytesIO):
        raise OssUsageError(f"the planner gave {type(data).__name__} for the object {item.index.fqn}")
    return data.getbuffer()


def write_tensor(tensor: torch.Tensor, add: Add) -> None:
    """Hand over what `torch.save` would write of the tensor, without copying it."""
    if not is_plain(tensor):
        add(saved(tensor))
        return
    archive = tensor_archive(tensor.dtype, tuple(tensor.shape))
    add(archive.head)
    crc = add(memory(tensor))
    add(archive.tail(crc))


def saved(tensor: torch.Tensor) -> Buffer:
    """Return what `torch.save` writes, of as little storage as the tensor needs."""
    if not tensor.is_quantized and tensor.layout == torch.strided and _is_larger_than_needed(tensor):
        tensor = tensor.clone()
    out = io.BytesIO()
    torch.save(tensor, out)
    return out.getbuffer()


def _is_larger_than_needed(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()


class _Uncloseable(io.BytesIO):
    """What the transforms write to: they close what is below them."""

    def close(self) -> None:
        """Stay open: the bytes are still to be taken."""


def transformed(write: Callable[[Add], object], extensions: Sequence[StreamTransformExtension]) -> Buffer:
    """Return what `extensions` make of what is written."""
    out = _Uncloseable()
    stream = cast(IO[bytes], out)
    for extension in extensions:
        stream = extension.transform_to(stream)

    def add(piece: Buffer) -> int:
        _write_all(stream, piece)
        return crc32(piece)

    write(add)
    stream.close()
    return out.getbuffer()


def descriptors_of(extensions: Sequence[StreamTransformExtension]) -> list[str]:
    """Return the descriptors of extensions, in the order in which to undo them."""
    return [extension.get_descriptor() for extension in reversed(extensions)]


def _write_all(stream: Any, piece: Buffer) -> None:
    view = memoryview(piece)
    while view:
        written = stream.write(view)
        view = view[len(view) if written is None else written :]


class SafetensorsEntry(NamedTuple):
    """One tensor of a safetensors file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    size_bytes: int


def safetensors_header(entries: list[SafetensorsEntry]) -> tuple[bytes, list[int]]:
    """Return the beginning of a safetensors file with these tensors, and where in it the bytes of each tensor start.

    Raises `ValueError` for a dtype that the format does not have.
    """
    content: dict[str, Any] = {}
    sharding: dict[str, Any] = {}
    position, positions = 0, []
    for entry in entries:
        if entry.dtype not in SAFETENSORS_NAMES:
            raise ValueError(f"safetensors has no {entry.dtype} ({entry.name}): save in torch's format")
        name = entry.name if entry.name not in content else f"{entry.name}@{','.join(map(str, entry.offsets))}"
        positions.append(position)
        content[name] = {
            "dtype": SAFETENSORS_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, position + entry.size_bytes],
        }
        sharding[name] = {"saved_offsets": list(entry.offsets)}
        position += entry.size_bytes
    content["__metadata__"] = {"format": "pt", "DCP_SHARDING_INFO": json.dumps(sharding), "DCP_VERSION": "1.0"}
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, [start + position for position in positions]
