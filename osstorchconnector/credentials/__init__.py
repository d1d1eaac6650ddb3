"""Credentials: what they are, where they come from, and how they are kept fresh.

- `values`: `Credentials`, and the promise of a `CredentialsSource`
- `sources`: the credential file and the environment
- `providers`: a user's provider object, with `handover` for its way to another process
- `cache`: what one client signs with
"""

from __future__ import annotations

import os

from ..errors import OssCredentialsError
from .cache import CredentialsCache
from .providers import ProviderCredentials
from .sources import DefaultCredentials, FileCredentials
from .values import Credentials, CredentialsSource

__all__ = ["Credentials", "CredentialsCache", "CredentialsSource", "credentials_source"]


def credentials_source(
    cred_path: str | os.PathLike[str] = "", cred_provider: object | None = None
) -> CredentialsSource:
    """Return the source that a user's two parameters name; nothing is read yet.

    `cred_path` is the JSON credential file; `cred_provider` is a provider of oss2 or alibabacloud-oss-v2, a
    callable, or a `CredentialsSource`. With neither: the environment variables that oss2 knows, else the file
    `~/.alibabacloud/credentials`. Raises `OssCredentialsError` for both, or for what is none of these.
    """
    if cred_provider is None:
        return FileCredentials(cred_path) if cred_path else DefaultCredentials()
    if cred_path:
        raise OssCredentialsError(f"both cred_path ({cred_path}) and cred_provider are given: give one of them")
    if isinstance(cred_provider, CredentialsSource):
        return cred_provider
    return ProviderCredentials(cred_provider)
