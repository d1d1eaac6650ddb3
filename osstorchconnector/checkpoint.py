"""One object as a file: for checkpoints, and for anything else that is large."""

from __future__ import annotations

from typing import Literal, overload

from .client.client import OssClient, as_client
from .files.reader import OssReader
from .files.spooled_writer import OssSpooledWriter
from .files.writer import OssWriter
from .uri import parse_object_uri


class OssCheckpoint:
    """Readers and writers of single objects, fast enough for checkpoints of any size.

        with checkpoint.writer("oss://bucket/epoch.1") as writer:
            torch.save(state_dict, writer)
        with checkpoint.reader("oss://bucket/epoch.1") as reader:
            state_dict = torch.load(reader)

    `endpoint` is OSS's, or an `OssClient`. Nothing is sent before the first read or write.
    """

    def __init__(
        self,
        endpoint: str | OssClient,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object | None = None,
        region: str = "",
    ) -> None:
        self._client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )

    def reader(self, oss_uri: str) -> OssReader:
        """Return a seekable binary file that reads the object; a missing one is an `OssNotFoundError` at first read."""
        return OssReader(self._client, parse_object_uri(oss_uri), transfer=self._client.config.checkpoint)

    @overload
    def writer(self, oss_uri: str, *, seekable: Literal[False] = False) -> OssWriter: ...

    @overload
    def writer(self, oss_uri: str, *, seekable: Literal[True]) -> OssSpooledWriter: ...

    @overload
    def writer(self, oss_uri: str, *, seekable: bool) -> OssWriter | OssSpooledWriter: ...

    def writer(self, oss_uri: str, *, seekable: bool = False) -> OssWriter | OssSpooledWriter:
        """Return a binary file whose content becomes the object when it is closed, and only then.

        Leaving the `with` block by an exception, or losing the writer unclosed, leaves the object as it was. With
        `seekable` it can be written in any order, read and truncated, and has a `fileno`, for what needs that (HDF5,
        TIFF, `torch.export.save`, `numpy.memmap`); its content is kept in memory, what is longer than 64 MiB in a
        temporary file, and sent at the end.
        """
        kind = OssSpooledWriter if seekable else OssWriter
        return kind(self._client, parse_object_uri(oss_uri), transfer=self._client.config.checkpoint)
