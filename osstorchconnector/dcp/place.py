"""Where checkpoints are: a client, however it was named, and what all that have one share."""

from __future__ import annotations

import os

from ..client.client import OssClient
from ..errors import OssConfigError


class HasClient:
    """Something that knows its OSS client: `OssDCPFileSystem`, for readers and writers to be made from."""

    client: OssClient


def open_place(
    fs: HasClient | OssClient | str | os.PathLike[str] | None,
    path: str | os.PathLike[str] | None,
    *,
    endpoint: str | OssClient,
    cred_path: str,
    cred_provider: object | None,
    config_path: str,
    region: str,
) -> tuple[OssClient, str]:
    """Return client and checkpoint id of `(fs, path)`, as the C++ connector has it, or `(path, endpoint=...)`."""
    if isinstance(fs, (str, os.PathLike)):
        if path is not None:
            raise OssConfigError(f"two paths, {os.fspath(fs)!r} and {os.fspath(path)!r}: give one")
        fs, path = None, fs
    if path is None:
        raise OssConfigError("no checkpoint named: give oss://bucket/key")
    if isinstance(fs, HasClient):
        fs = fs.client
    if isinstance(fs, OssClient) or isinstance(endpoint, OssClient):
        client = fs if isinstance(fs, OssClient) else endpoint
        assert isinstance(client, OssClient)
        return client, os.fspath(path)
    if not endpoint:
        raise OssConfigError("no endpoint named: give endpoint=... or an OssDCPFileSystem")
    client = OssClient(
        endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
    )
    return client, os.fspath(path)
