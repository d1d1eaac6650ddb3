"""Credentials: what they are, where they come from, and how they are kept fresh.

- `sources`: `Credentials`, the promise of a `CredentialsSource`, and two sources: a JSON file, the environment
- `providers`: the source that a user's parameters name; a user's provider, and its way to another process
- `cache`: the credentials that one client signs with

A client asks its `CredentialsCache` for each request; once a second, and before credentials expire, that asks the
source for newer ones. To another process goes the source, never the credentials.
"""

from __future__ import annotations

from .cache import CredentialsCache
from .providers import credentials_source
from .sources import Credentials, CredentialsSource

__all__ = ["Credentials", "CredentialsCache", "CredentialsSource", "credentials_source"]
