"""What all commands share: how OSS is reached, from the options, the environment, or ossutil's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from ..client.client import OssClient
from ..config import load_config
from ..credentials import Credentials, CredentialsSource, ProfileCredentials, credentials_source
from ..credentials.chain import PROFILE_PATHS
from ..credentials.profiles import read_profiles
from ..credentials.sources import MAX_FILE_BYTES
from ..errors import OssConfigError
from ..files.writer import OssWriter
from ..filesystem import OssFileSystem
from ..local_files import written_whole
from ..redaction import Secret, SecretBytes
from .places import Local, Place


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that may stand before or after every command, by ossutil's names."""

    endpoint: str = ""
    region: str = ""
    profile: str = ""
    config_file: str = ""
    access_key_id: str = ""
    access_key_secret: Secret
    sts_token: Secret
    cred_path: str = ""
    anonymous: bool = False
    connector_config: str = ""


class CommandSession:
    """OSS as one command sees it. Nothing is opened before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def client(self) -> OssClient:
        """The client of these settings. Raises `OssConfigError`."""
        endpoint, region = self._endpoint()
        return OssClient(
            endpoint,
            region=region,
            cred_provider=self.source,
            config_path=self.settings.connector_config,
        )

    @cached_property
    def fs(self) -> OssFileSystem:
        """The file system over this client."""
        return OssFileSystem(self.client, use_listings_cache=False)

    @cached_property
    def source(self) -> CredentialsSource:
        """Where the credentials come from."""
        configured = load_config(self.settings.connector_config).cred
        return credentials_source(self.settings.cred_path, self._provider(), self.settings.anonymous, configured)

    @contextmanager
    def writing(self, target: Place) -> Iterator[OssWriter | IO[bytes]]:
        """Write a file or an object, which appears when the block ends, and not if it raises."""
        if isinstance(target, Local):
            with written_whole(target.path) as file:
                yield file
            return
        with OssWriter(self.client, target.uri, transfer=self.client.config.checkpoint) as writer:
            yield writer

    def _provider(self) -> object | None:
        given = self.settings
        if given.access_key_id or given.access_key_secret:
            return _Keys(given.access_key_id, given.access_key_secret, given.sts_token)
        if given.config_file:
            return ProfileCredentials(given.config_file, given.profile)
        return f"profile:{given.profile}" if given.profile else None

    def _endpoint(self) -> tuple[str, str]:
        given = self.settings
        endpoint = given.endpoint or os.environ.get("OSS_ENDPOINT", "")
        region = given.region or os.environ.get("OSS_REGION", "")
        if not endpoint and not region:
            endpoint, region = self._endpoint_of_profile()
        if endpoint:
            return endpoint, region
        if not region:
            raise OssConfigError(
                "no endpoint: give -e https://oss-<region>.aliyuncs.com or --region <region>, set OSS_ENDPOINT or "
                "OSS_REGION, or write ~/.ossutilconfig"
            )
        return f"https://oss-{region.removeprefix('oss-')}.aliyuncs.com", region

    def _endpoint_of_profile(self) -> tuple[str, str]:
        """Return endpoint and region of the profile that is used, as ossutil keeps them; else two empty texts."""
        paths = [self.settings.config_file] if self.settings.config_file else reversed(PROFILE_PATHS)
        for path in (Path(path).expanduser() for path in paths):
            if path.is_file():
                with path.open("rb") as file:
                    profiles = read_profiles(SecretBytes(file.read(MAX_FILE_BYTES)))
                found = tuple(profiles.setting(name, self.settings.profile) for name in ("endpoint", "region"))
                if any(found):
                    return found[0], found[1]
        return "", ""


class _Keys:
    """Credentials from the command line, as a provider."""

    def __init__(self, key: str, secret: Secret, token: Secret) -> None:
        self._key, self._secret, self._token = key, secret, token

    def get_credentials(self) -> Credentials:
        return Credentials(access_key_id=self._key, access_key_secret=self._secret, security_token=self._token)
