"""One object as a file: for checkpoints, and for anything else that is large."""

from __future__ import annotations

from typing import Literal, overload

from .client.client import OssClient, as_client
from .client.opening import Oss2Service
from .files.reader import OssReader
from .files.spooled_writer import OssSpooledWriter
from .files.writer import OssWriter
from .uri import parse_object_uri


class OssCheckpoint:
    """Opens single objects as files, to read and to write checkpoints of any size.

        checkpoint = OssCheckpoint("https://oss-cn-beijing.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
        with checkpoint.writer("oss://bucket/epoch.1") as writer:
            torch.save(state_dict, writer)
        with checkpoint.reader("oss://bucket/epoch.1") as reader:
            state_dict = torch.load(reader)

    - `endpoint`: the URL of OSS; or an `OssClient`, which then has all other settings; or a `Bucket` of oss2
    - `cred_path`: the file with the credentials; or `cred_provider`: an object that returns them; or
      `anonymous=True`: none, requests are not signed
    - `config_path`: the file with the configuration
    - `region`: the bucket's region, where the endpoint's name does not tell it

    Raises `OssConfigError` for settings that are wrong. Nothing is sent before the first read or write. It can be
    pickled, and used by several threads; each reader and writer only by one at a time.
    """

    def __init__(
        self,
        endpoint: str | OssClient | Oss2Service,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object | None = None,
        region: str = "",
        *,
        anonymous: bool = False,
    ) -> None:
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)

    def __repr__(self) -> str:
        return f"OssCheckpoint({self._client.endpoint!r})"

    def reader(self, oss_uri: str) -> OssReader:
        """Return a seekable binary file that reads the object `oss://bucket/key`.

        Nothing is sent, so a missing object is an `OssNotFoundError` at the first read. Raises `OssUriError` if
        `oss_uri` names no object.
        """
        return OssReader(self._client, parse_object_uri(oss_uri), transfer=self._client.config.checkpoint)

    @overload
    def writer(self, oss_uri: str, *, seekable: Literal[False] = False) -> OssWriter: ...

    @overload
    def writer(self, oss_uri: str, *, seekable: Literal[True]) -> OssSpooledWriter: ...

    @overload
    def writer(self, oss_uri: str, *, seekable: bool) -> OssWriter | OssSpooledWriter: ...

    def writer(self, oss_uri: str, *, seekable: bool = False) -> OssWriter | OssSpooledWriter:
        """Return a binary file whose content becomes the object `oss://bucket/key` when it is closed, and only then.

        If the `with` block is left by an exception, or the writer is never closed, the object stays as it was.

        With `seekable` the file can be written in any order, read and truncated, and has a `fileno`, as HDF5, TIFF,
        `torch.export.save` and `numpy.memmap` need. Then its content is kept until the end, in memory up to 64 MiB
        and in a temporary file above that. Raises `OssUriError` if `oss_uri` names no object.
        """
        kind = OssSpooledWriter if seekable else OssWriter
        return kind(self._client, parse_object_uri(oss_uri), transfer=self._client.config.checkpoint)
