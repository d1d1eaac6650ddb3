"""Writing the data files of one rank: all are sent at once, and all of them are stored or none.

`RankSave` decides which bytes go into which file; `files.file_upload` sends one file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from ..errors import OssConfigError, OssError
from ..files.file_upload import FileUpload, give_up
from ..protocol.values import Buffer
from ..tensors.memory import memory
from .data_files import (
    Add,
    SafetensorsEntry,
    descriptors_of,
    item_bytes,
    resolve_object,
    resolve_tensor,
    safetensors_header,
    transformed,
    write_tensor,
)
from .folder import SAFETENSORS_SUFFIX, TORCH_SUFFIX, CheckpointFolder, SaveTicket, quietly
from .storage import Progress
from .torch_dcp import SerializationFormat, StreamTransformExtension, storage_info


class RankSave:
    """The files that one rank writes in one save."""

    def __init__(
        self,
        folder: CheckpointFolder,
        ticket: SaveTicket,
        planner: SavePlanner,
        *,
        serialization: SerializationFormat,
        extensions: Sequence[StreamTransformExtension],
        progress: Progress,
    ) -> None:
        if extensions and serialization == SerializationFormat.SAFETENSORS:
            raise OssConfigError("safetensors files hold tensors as they are: leave the extensions out")
        self._folder, self._ticket, self._planner = folder, ticket, planner
        self._is_safetensors = serialization == SerializationFormat.SAFETENSORS
        self._extensions, self._progress = extensions, progress
        self._uploads: list[FileUpload] = []
        self.names: list[str] = []
        self.results: list[WriteResult] = []

    @property
    def size_bytes(self) -> int:
        """How many bytes the files have so far."""
        return sum(upload.position for upload in self._uploads)

    def write(self, groups: Sequence[Sequence[WriteItem]], *, meanwhile: Callable[[], object]) -> None:
        """Store each group of items as a file. Raises, and leaves nothing, if that fails or is interrupted.

        `meanwhile` is called when the last data is on its way; an error that it raises is one of the save.
        """
        memory_bytes = self._folder.client.config.upload_memory_bytes // max(len(groups), 1)
        try:
            for number, items in enumerate(groups):
                upload = self._begin(number, memory_bytes)
                (self._write_safetensors if self._is_safetensors else self._write_torch)(upload, items)
                upload.end_of_data()
            meanwhile()
            for upload in self._uploads:
                upload.begin_finish()
            for upload in self._uploads:
                upload.finish()
        except BaseException:
            self._undo()
            raise

    def _begin(self, number: int, memory_bytes: int) -> FileUpload:
        suffix = SAFETENSORS_SUFFIX if self._is_safetensors else TORCH_SUFFIX
        self.names.append(self._ticket.file_name(number, suffix))
        upload = FileUpload(self._folder.client, self._folder.member(self.names[-1]), memory_bytes=memory_bytes)
        self._uploads.append(upload)
        return upload

    def _write_torch(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        descriptors = descriptors_of(self._extensions) if self._extensions else None
        for item in items:
            start = upload.position
            write = functools.partial(self._write_item, item)
            if self._extensions:
                upload.add(transformed(write, self._extensions))
            else:
                write(upload.add)
            self._note(item, start, upload.position - start, descriptors)

    def _write_item(self, item: WriteItem, add: Add) -> None:
        if item.type == WriteItemType.BYTE_IO:
            add(resolve_object(self._planner, item))
        else:
            write_tensor(resolve_tensor(self._planner, item), add)

    def _write_safetensors(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        objects: dict[int, Buffer] = {}
        entries = []
        for number, item in enumerate(items):
            if item.type == WriteItemType.BYTE_IO:
                data = objects[number] = resolve_object(self._planner, item)
                entries.append(SafetensorsEntry(item.index.fqn, torch.uint8, (len(data),), (0,), len(data)))
            else:
                entries.append(_entry(item))
        head, positions = safetensors_header(entries)
        upload.add(head)
        for number, (item, entry) in enumerate(zip(items, entries, strict=True)):
            data = objects.pop(number) if number in objects else memory(resolve_tensor(self._planner, item))
            if len(data) != entry.size_bytes or upload.position != positions[number]:
                raise OssError(f"{entry.name} has {len(data)} bytes where the plan has {entry.size_bytes}")
            upload.add(data)
            self._note(item, positions[number], entry.size_bytes, None)

    def _note(self, item: WriteItem, start: int, length: int, descriptors: list[str] | None) -> None:
        info = storage_info(self.names[-1], start, length, descriptors)
        self.results.append(WriteResult(index=item.index, size_in_bytes=length, storage_data=info))
        if self._progress.is_watched:
            self._progress.reach(sum(upload.stored_bytes for upload in self._uploads))

    def _undo(self) -> None:
        self._progress.close()
        give_up(self._uploads)
        quietly(functools.partial(self._folder.remove, self.names))


def _entry(item: WriteItem) -> SafetensorsEntry:
    assert item.tensor_data is not None
    chunk = item.tensor_data.chunk
    shape = tuple(chunk.sizes) if chunk is not None else tuple(item.tensor_data.size)
    offsets = tuple(chunk.offsets) if chunk is not None else (0,) * len(shape)
    return SafetensorsEntry(item.index.fqn, item.tensor_data.properties.dtype, shape, offsets, item_bytes(item))
