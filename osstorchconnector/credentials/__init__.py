"""Credentials: what they are, where they come from, and how they are kept fresh.

- `values`: `Credentials`, and how they are read from a JSON document (pure)
- `sources`: the promise of a `CredentialsSource`; a JSON file, environment variables, no credentials
- `providers`: a user's provider, or an auth of oss2, as a source, and its way to another process
- `web`: one bounded HTTP exchange with a service
- `temporary`: credentials from a service, fetched once for all processes of a user on a machine
- `sts`: the wire format of STS (pure); `roles`: sources that assume a role with it
- `remote`: the metadata server of ECS, a credentials URI, a command
- `profiles`: the profile files of other tools
- `chain`: the order in which sources are looked for, and their names
- `cache`: the source that a user's parameters name, and the credentials that one client signs with

A client asks its `CredentialsCache` for each request; once a second, and before credentials expire, that asks the
source for newer ones. To another process goes the source, never the credentials.
"""

from __future__ import annotations

from .cache import CredentialsCache, credentials_source
from .chain import DefaultCredentials
from .profiles import ProfileCredentials
from .providers import is_oss2_auth
from .remote import EcsRoleCredentials, UriCredentials
from .roles import OidcCredentials, RoleCredentials
from .sources import AnonymousCredentials, CredentialsSource, EnvironmentCredentials, FileCredentials
from .sts import Role
from .values import Credentials

__all__ = [
    "AnonymousCredentials",
    "Credentials",
    "CredentialsCache",
    "CredentialsSource",
    "DefaultCredentials",
    "EcsRoleCredentials",
    "EnvironmentCredentials",
    "FileCredentials",
    "OidcCredentials",
    "ProfileCredentials",
    "Role",
    "RoleCredentials",
    "UriCredentials",
    "credentials_source",
    "is_oss2_auth",
]
