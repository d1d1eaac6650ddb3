"""Bytes into objects, many requests in flight."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..client.client import OssClient, as_client
from ..client.operations import Operations
from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..protocol.values import Buffer, flat_buffers
from ..uri import OssUri, parse_object_uri
from .numbered_objects import functional
from .torch_pipes import IterDataPipe

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike


class _Upload(NamedTuple):
    uri: OssUri
    body: tuple[Buffer, ...]
    size_bytes: int

    def __repr__(self) -> str:
        return f"_Upload({self.uri!r}, {self.size_bytes} bytes)"


@functional("save_oss_objects")
class OssObjectSaver(IterDataPipe[ObjectInfo]):
    """Save each (key, bytes) of `source` and yield its `ObjectInfo` (functional form: `save_oss_objects`).

    The object's URI is `oss_base_uri + key`; bytes are what `OssClient.put` takes for such. As many requests are in
    flight as `checkpointConfig.uploadConcurrency` says; what is yielded is stored, in the order of `source`. An object
    is written by one request, whole or not at all; an object of that name is replaced. For objects of more than 5 GB
    use `OssCheckpoint.writer`.
    """

    def __init__(
        self,
        source: Iterable[tuple[str, BytesLike | Iterable[BytesLike]]],
        endpoint: str | OssClient,
        *,
        oss_base_uri: str = "",
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
    ) -> None:
        self._source, self._base = source, oss_base_uri
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)

    def __iter__(self) -> Iterator[ObjectInfo]:
        config = self._client.config
        saved = self._client.map(
            _put,
            map(self._upload, self._source),
            concurrency=config.checkpoint.upload_concurrency,
            workers=config.checkpoint.prefetch_worker,
            kind="uploads",
            weight=_weight,
            max_bytes=config.upload_memory_bytes,
        )
        with contextlib.closing(saved):
            yield from saved

    def _upload(self, item: tuple[str, BytesLike | Iterable[BytesLike]]) -> _Upload:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise OssUsageError(f"nothing to save: the source yielded a {type(item).__name__}, not (key, bytes)")
        key, data = item
        uri = parse_object_uri(self._base + key)
        body = flat_buffers(f"{uri.shown} can't be saved", data)
        return _Upload(uri, body, sum(map(len, body)))


async def _put(operations: Operations, upload: _Upload) -> ObjectInfo:
    stored = await operations.put(upload.uri, upload.body)
    return ObjectInfo(upload.uri, upload.size_bytes, "", stored.etag)


def _weight(upload: _Upload) -> int:
    return upload.size_bytes
