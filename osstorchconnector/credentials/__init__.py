"""Credentials: what they are, where they come from, and how they are kept fresh.

- `sources`: `Credentials`, the promise of a `CredentialsSource`, and two sources: a JSON file, the environment
- `providers`: a user's provider, or an auth of oss2, as a source, and its way to another process
- `cache`: the source that a user's parameters name, and the credentials that one client signs with

A client asks its `CredentialsCache` for each request; once a second, and before credentials expire, that asks the
source for newer ones. To another process goes the source, never the credentials.
"""

from __future__ import annotations

from .cache import CredentialsCache, credentials_source
from .providers import is_oss2_auth
from .sources import Credentials, CredentialsSource

__all__ = ["Credentials", "CredentialsCache", "CredentialsSource", "credentials_source", "is_oss2_auth"]
