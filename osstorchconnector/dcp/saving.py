"""Writing the data files of one rank: everything is under way at once, and all of it is stored or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch.distributed.checkpoint._extension import StreamTransformExtension
from torch.distributed.checkpoint.filesystem import SerializationFormat, _StorageInfo
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from ..client.client import OssClient
from ..client.values import Buffer
from ..errors import OssConfigError, OssError
from ..uri import OssUri
from . import safetensors
from .files import FileUpload
from .items import item_bytes, pieces_of_tensor, resolve_object, resolve_tensor, transformed
from .layout import SAFETENSORS_SUFFIX, TORCH_SUFFIX, SaveTicket, member
from .progress import Progress
from .tensors import memory

_logger = logging.getLogger(__name__)


class RankSave:
    """The files that one rank writes in one save."""

    def __init__(
        self,
        client: OssClient,
        checkpoint: OssUri,
        ticket: SaveTicket,
        planner: SavePlanner,
        *,
        serialization: SerializationFormat,
        extensions: Sequence[StreamTransformExtension],
        progress: Progress,
    ) -> None:
        if extensions and serialization == SerializationFormat.SAFETENSORS:
            raise OssConfigError("safetensors files hold tensors as they are: leave the extensions out")
        self._client, self._checkpoint, self._ticket, self._planner = client, checkpoint, ticket, planner
        self._is_safetensors = serialization == SerializationFormat.SAFETENSORS
        self._extensions, self._progress = extensions, progress
        self._uploads: list[FileUpload] = []
        self.names: list[str] = []
        self.results: list[WriteResult] = []

    @property
    def size_bytes(self) -> int:
        """How many bytes the files have so far."""
        return sum(upload.position for upload in self._uploads)

    def write(self, groups: Sequence[Sequence[WriteItem]]) -> None:
        """Store each group of items as a file. Raises, and leaves nothing, if that fails or is interrupted."""
        memory_bytes = self._client.config.upload_memory_bytes // max(len(groups), 1)
        try:
            for number, items in enumerate(groups):
                upload = self._begin(number, memory_bytes)
                (self._write_safetensors if self._is_safetensors else self._write_torch)(upload, items)
                upload.flush()
            for upload in self._uploads:
                upload.finish()
        except BaseException:
            self._undo()
            raise

    def _begin(self, number: int, memory_bytes: int) -> FileUpload:
        suffix = SAFETENSORS_SUFFIX if self._is_safetensors else TORCH_SUFFIX
        self.names.append(self._ticket.file_name(number, suffix))
        upload = FileUpload(self._client, member(self._checkpoint, self.names[-1]), memory_bytes=memory_bytes)
        self._uploads.append(upload)
        return upload

    def _write_torch(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        for item in items:
            start, descriptors = upload.position, None
            if item.type == WriteItemType.BYTE_IO:
                pieces = iter([resolve_object(self._planner, item)])
            else:
                pieces = pieces_of_tensor(resolve_tensor(self._planner, item))
            if self._extensions:
                piece, descriptors = transformed(pieces, self._extensions)
                pieces = iter([piece])
            for piece in pieces:
                upload.add(piece)
            self._note(item, start, upload.position - start, descriptors)

    def _write_safetensors(self, upload: FileUpload, items: Sequence[WriteItem]) -> None:
        objects: dict[int, Buffer] = {}
        entries = []
        for number, item in enumerate(items):
            if item.type == WriteItemType.BYTE_IO:
                data = objects[number] = resolve_object(self._planner, item)
                entries.append(safetensors.Entry(item.index.fqn, torch.uint8, (len(data),), (0,), len(data)))
            else:
                entries.append(_entry(item))
        head, positions = safetensors.header(entries)
        upload.add(head)
        for number, (item, entry) in enumerate(zip(items, entries, strict=True)):
            data = objects.pop(number) if number in objects else memory(resolve_tensor(self._planner, item))
            if len(data) != entry.size_bytes or upload.position != positions[number]:
                raise OssError(f"{entry.name} has {len(data)} bytes where the plan has {entry.size_bytes}")
            upload.add(data)
            self._note(item, positions[number], entry.size_bytes, None)

    def _note(self, item: WriteItem, start: int, length: int, descriptors: list[str] | None) -> None:
        info = _StorageInfo(self.names[-1], start, length, transform_descriptors=descriptors)
        self.results.append(WriteResult(index=item.index, size_in_bytes=length, storage_data=info))
        self._progress.reach(sum(upload.stored_bytes for upload in self._uploads))

    def _undo(self) -> None:
        self._progress.close()
        for upload in self._uploads:
            upload.abort()
        remove_quietly(lambda: self._client.delete_many(self._checkpoint.bucket, [u.uri.key for u in self._uploads]))


def _entry(item: WriteItem) -> safetensors.Entry:
    assert item.tensor_data is not None
    chunk = item.tensor_data.chunk
    shape = tuple(chunk.sizes) if chunk is not None else tuple(item.tensor_data.size)
    offsets = tuple(chunk.offsets) if chunk is not None else (0,) * len(shape)
    return safetensors.Entry(item.index.fqn, item.tensor_data.properties.dtype, shape, offsets, item_bytes(item))


def remove_quietly(remove: Callable[[], object]) -> None:
    """Try to remove what is of no use to anybody; if that fails the log says so, and `clean` will do it."""
    try:
        remove()
    except OssError as error:
        _logger.warning("objects of an unfinished save may be left behind: %s", error)
