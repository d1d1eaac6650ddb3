"""OSS in NVIDIA's multi-storage-client: `msc://profile/...` names objects in OSS.

A profile in the client's configuration names the bundle:

    profiles:
      oss:
        provider_bundle:
          type: osstorchconnector.integrations.msc.OssProviderBundle
          options:
            base_path: bucket/folder
            endpoint: https://oss-cn-beijing.aliyuncs.com
            cred_path: /root/.alibabacloud/credentials
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..client.client import OssClient
from ..client.listing import PrefixPages
from ..credentials.values import Credentials, checked_credentials
from ..errors import (
    OssConfigError,
    OssConnectionError,
    OssCredentialsError,
    OssExistsError,
    OssNotFoundError,
    OssThrottledError,
    OssTimeoutError,
)
from ..filesystem import OssFileSystem
from ..filesystem.paths import moment_of
from ..local_files import written_whole
from ..optional import unavailable
from ..protocol.values import ListedObject, ListPage, ObjectStat
from ..uri import OssUri, parse_uri

try:
    from multistorageclient import types as msc
    from multistorageclient.providers.base import BaseStorageProvider
    from multistorageclient.types import ProviderBundle
    from multistorageclient.utils import validate_attributes
except Exception as error:  # missing, too old or broken
    BaseStorageProvider = ProviderBundle = unavailable(__name__, "multi-storage-client>=1.3", error)

PROVIDER = "oss"
# What the client's other providers for objects call the metadata that holds where a symbolic link leads.
LINK_TARGET = "msc-symlink-target"
SIGNED_SECONDS = 3600
OPTIONS = ("base_path", "endpoint", "region", "cred_path", "anonymous", "config_path")
_CREDENTIAL_NAMES = {
    "access_key_id": "access_key",
    "access_key_secret": "secret_key",
    "security_token": "token",
    "expires_at": "expiration",
}


class OssStorageProvider(BaseStorageProvider):
    """Objects in OSS, as multi-storage-client sees storage.

    - `base_path`: the bucket, and a folder in it, that all paths are in: `bucket` or `bucket/folder`
    - `endpoint`, `region`, `cred_path`, `anonymous`, `config_path`: as for `OssClient`. Default: OSS_ENDPOINT or
      OSS_REGION, and the environment variables of the credentials.
    - `credentials_provider`: one of multi-storage-client's, in place of `cred_path`
    - `config_dict`, `telemetry_provider`: what the client hands to every provider

    Each request is repeated by the rules of this library. A failure that may still pass then is a `RetryableError`: the
    client repeats the call as its own `retry` says (`attempts: 1` leaves it at ours). Other errors are `OssError`s; a
    missing object is a `FileNotFoundError`, refused credentials a `PermissionError`.

    `if_none_match="*"` stores an object only where there is none, else `PreconditionFailedError`. OSS has no other
    conditions for changes: asking for one is a `NotImplementedError`. Attributes become metadata of the object, whose
    names have letters, digits and `-`. Objects of more than 1 GiB are copied in parts.
    """

    def __init__(
        self,
        base_path: str = "",
        endpoint: str | None = None,
        region: str = "",
        cred_path: str = "",
        config_path: str = "",
        credentials_provider: msc.CredentialsProvider | None = None,
        config_dict: dict[str, Any] | None = None,
        telemetry_provider: Callable[[], Any] | None = None,
        *,
        anonymous: bool = False,
    ) -> None:
        fs = OssFileSystem(
            endpoint,
            region=region,
            cred_path=cred_path,
            anonymous=anonymous,
            config_path=config_path,
            cred_provider=None if credentials_provider is None else ForeignCredentials(credentials_provider),
            use_listings_cache=False,
        )
        self._work_on(fs, base_path, config_dict, telemetry_provider)

    def _work_on(self, fs: OssFileSystem, base_path: str, *others: Any) -> None:
        super().__init__(base_path, PROVIDER, *others)
        self._fs = fs
        self._client: OssClient = fs.client

    def __reduce__(self) -> tuple[Callable[..., OssStorageProvider], tuple[Any, ...]]:
        return _restored, (self._fs, self._base_path, self._config_dict, self._telemetry_provider)

    # one object

    def _put_object(
        self,
        path: str,
        body: bytes,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: dict[str, str] | None = None,
    ) -> int:
        if if_match or if_none_match not in (None, "", "*"):
            raise NotImplementedError(f"put {path}: OSS knows one condition for writing, if_none_match='*'")
        with _translated():
            mode = "create" if if_none_match else "overwrite"
            self._fs.pipe_file(path, body, mode=mode, metadata=validate_attributes(attributes))
        return memoryview(body).nbytes

    def _get_object(self, path: str, byte_range: msc.Range | None = None) -> bytes:
        with _translated():
            if byte_range is None:
                whole: bytes = self._fs.cat_file(path)
                return whole
            part: bytes = self._fs.cat_file(path, byte_range.offset, byte_range.offset + byte_range.size)
            return part

    def _copy_object(self, src_path: str, dest_path: str) -> int:
        with _translated():
            size = self._client.head(_uri(src_path)).size
            self._fs.cp_file(src_path, dest_path)
        return size

    def _delete_object(self, path: str, if_match: str | None = None) -> None:
        if if_match:
            raise NotImplementedError(f"delete {path}: OSS can't delete on a condition")
        with _translated():
            self._client.delete(_uri(path))

    def _delete_objects(self, paths: Iterable[str]) -> None:
        by_bucket: dict[str, list[str]] = {}
        for uri in map(_uri, paths):
            by_bucket.setdefault(uri.bucket, []).append(uri.key)
        with _translated():
            for bucket, keys in by_bucket.items():
                self._client.delete_many(bucket, keys)

    def _make_symlink(self, path: str, target: str) -> None:
        link, goal = _uri(path), _uri(target)
        if link.bucket != goal.bucket:
            raise ValueError(f"a link leads to an object of its own bucket: {link.shown}, {goal.shown}")
        with _translated():
            leads_to = msc.ObjectMetadata.encode_symlink_target(link.key, goal.key)
            self._client.put(link, b"", metadata={LINK_TARGET: leads_to})

    def _get_object_metadata(self, path: str, strict: bool = True) -> msc.ObjectMetadata:
        uri = _uri(path)
        with _translated():
            if uri.key and not uri.key.endswith("/"):
                try:
                    return _described(path, self._client.head(uri))
                except OssNotFoundError as error:
                    if error.code == "NoSuchBucket" or not strict:
                        raise
            path = self._append_delimiter(path)
            folder = _uri(path)
            if not self._client.list_page(folder, max_keys=1).objects:
                raise FileNotFoundError(f"there is neither an object nor a directory {folder.shown}")
        return _directory(path)

    def _generate_presigned_url(
        self,
        path: str,
        *,
        method: str = "GET",
        signer_type: msc.SignerType | None = None,
        signer_options: dict[str, Any] | None = None,
    ) -> str:
        options = dict(signer_options or {})
        seconds = int(options.pop("expires_in", SIGNED_SECONDS))
        if signer_type is not None or options:
            asked = signer_type.value if signer_type is not None else next(iter(options))
            raise ValueError(f"sign {path}: OSS signs URLs itself, and knows the option expires_in, not {asked!r}")
        with _translated():
            uri = _uri(path)
            signed = self._client.submit(lambda operations: operations.signed_url(uri, method=method, seconds=seconds))
            return signed.result()

    # files

    def _upload_file(self, remote_path: str, f: Any, attributes: dict[str, str] | None = None) -> int:
        metadata = validate_attributes(attributes)
        with _translated():
            if isinstance(f, str):
                self._fs.put_file(f, remote_path, metadata=metadata)
                return Path(f).stat().st_size
            f.seek(0)
            if isinstance(f, io.TextIOBase):
                body = f.read().encode()
                self._fs.pipe_file(remote_path, body, metadata=metadata)
                return len(body)
            self._fs.put_file(f, remote_path, metadata=metadata)
            return int(f.tell())

    def _download_file(self, remote_path: str, f: Any, metadata: msc.ObjectMetadata | None = None) -> int:
        with _translated():
            if isinstance(f, str):
                Path(f).parent.mkdir(parents=True, exist_ok=True)
                with written_whole(f, is_durable=False) as file:
                    self._fs.get_file(remote_path, file)
                return Path(f).stat().st_size
            if isinstance(f, io.TextIOBase):
                body: bytes = self._fs.cat_file(remote_path)
                f.write(body.decode())
                return len(body)
            before = f.tell()
            self._fs.get_file(remote_path, f)
            return int(f.tell() - before)

    # listings

    def _list_objects(
        self,
        path: str,
        start_after: str | None = None,
        end_at: str | None = None,
        include_directories: bool = False,
        symlink_handling: Any = None,
    ) -> Iterator[msc.ObjectMetadata]:
        uri, after = _uri(path), _uri(start_after).key if start_after else ""
        with _translated():
            for page in self._pages(uri, after, include_directories):
                for found in self._entries(uri, page, include_directories):
                    if (start_after is None or found.key > start_after) and (end_at is None or found.key <= end_at):
                        yield found
                last = max((*page.keys[-1:], *page.prefixes[-1:]), default="")
                # The directory `a` comes where its key `a/` is, which may be behind `a!`.
                if end_at is not None and f"{uri.bucket}/{last}" > f"{end_at}/":
                    return

    def _pages(self, uri: OssUri, after: str, include_directories: bool) -> Iterator[ListPage]:
        """Yield pages in the order of keys; without directories side by side, where OSS is far."""
        if include_directories:
            return self._client.list_pages(uri, delimiter="/", start_after=after)
        config = self._client.config
        listing = PrefixPages(self._client, uri, start_after=after, workers=config.list_worker)
        return listing.pages(config.list_concurrency)

    def _entries(self, uri: OssUri, page: ListPage, include_directories: bool) -> Iterator[msc.ObjectMetadata]:
        """Yield what a page lists, in the order of keys. Empty objects are looked at: they may be links."""
        empty = [key for key, size in zip(page.keys, page.sizes, strict=True) if not size and not key.endswith("/")]
        targets = self._link_targets(uri.bucket, empty)
        for each in page.entries():
            path = f"{uri.bucket}/{each.key}"
            if not each.key.endswith("/"):
                yield _listed(path, each, targets.get(each.key))
            elif include_directories and each.key != uri.key:
                yield _directory(path[:-1])

    def _link_targets(self, bucket: str, keys: list[str]) -> dict[str, str | None]:
        if not keys:
            return {}
        transfer = self._client.config.dataset
        stats = self._client.map(
            lambda operations, key: operations.head(OssUri(bucket, key)),
            keys,
            concurrency=transfer.prefetch_concurrency,
            workers=transfer.prefetch_worker,
        )
        return {key: dict(stat.metadata).get(LINK_TARGET) for key, stat in zip(keys, stats, strict=True)}


class OssProviderBundle(ProviderBundle):
    """What `provider_bundle` in a profile names.

    Its options are `base_path`, `endpoint`, `region`, `cred_path`, `anonymous` and `config_path` of
    `OssStorageProvider`. Others raise `OssConfigError`, keys above all: the client pickles its configuration.
    `replicas` is the list that a profile may have, each with `replica_profile` and `read_priority`.
    """

    def __init__(self, base_path: str, *, replicas: Iterable[dict[str, Any]] = (), **options: Any) -> None:
        super().__init__()
        for name in options.keys() - set(OPTIONS):
            raise OssConfigError(
                f"{type(self).__name__} has no option {name!r}, only {', '.join(OPTIONS)} and replicas; "
                "credentials come from the environment, or the file that cred_path names"
            )
        self._options = {"base_path": base_path, **options}
        self._replicas = sorted((msc.Replica(**each) for each in replicas), key=lambda replica: replica.read_priority)

    @property
    def storage_provider_config(self) -> msc.StorageProviderConfig:
        """The name of the provider, which the client knows from now on, and its options."""
        _let_in()
        return msc.StorageProviderConfig(PROVIDER, dict(self._options))

    @property
    def credentials_provider(self) -> msc.CredentialsProvider | None:
        """None: the provider finds its credentials by `cred_path` and the environment."""
        return None

    @property
    def metadata_provider(self) -> msc.MetadataProvider | None:
        """None: what is there is what OSS lists."""
        return None

    @property
    def replicas(self) -> list[msc.Replica]:
        """The replicas, the one that is read first at the beginning."""
        return self._replicas


class ForeignCredentials:
    """A credentials provider of multi-storage-client, as one of ours."""

    def __init__(self, provider: msc.CredentialsProvider) -> None:
        self._provider = provider

    def get_credentials(self) -> Credentials:
        """Return the provider's credentials, refreshed if they are expired."""
        if self._provider.get_credentials().is_expired():
            self._provider.refresh_credentials()
        found = self._provider.get_credentials()
        credentials = checked_credentials(lambda name: getattr(found, _CREDENTIAL_NAMES[name]), _CREDENTIAL_NAMES)
        if isinstance(credentials, str):
            raise OssCredentialsError(f"{type(self._provider).__name__} returned credentials whose {credentials}")
        return credentials


def _let_in() -> None:
    """Give our provider a name in the client's list: it makes providers by their names."""
    from multistorageclient import config, providers

    config.STORAGE_PROVIDER_MAPPING[PROVIDER] = OssStorageProvider.__name__
    setattr(providers, OssStorageProvider.__name__, OssStorageProvider)


def _restored(*arguments: Any) -> OssStorageProvider:
    made = OssStorageProvider.__new__(OssStorageProvider)
    made._work_on(*arguments)
    return made


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors that multi-storage-client knows in place of some of ours."""
    try:
        yield
    except OssExistsError as error:
        raise msc.PreconditionFailedError(str(error)) from error
    except (OssConnectionError, OssTimeoutError, OssThrottledError) as error:
        raise msc.RetryableError(str(error)) from error


def _uri(path: str) -> OssUri:
    return parse_uri(f"oss://{path.lstrip('/')}")


def _directory(path: str) -> msc.ObjectMetadata:
    return msc.ObjectMetadata(key=path, type="directory", content_length=0, last_modified=msc.AWARE_DATETIME_MIN)


def _described(path: str, stat: ObjectStat) -> msc.ObjectMetadata:
    metadata, changed = dict(stat.metadata), stat.last_modified
    return msc.ObjectMetadata(
        key=path,
        content_length=stat.size,
        last_modified=msc.AWARE_DATETIME_MIN if changed is None else datetime.fromtimestamp(changed, timezone.utc),
        content_type=stat.content_type or None,
        etag=stat.etag,
        metadata=metadata or None,
        symlink_target=metadata.get(LINK_TARGET),
    )


def _listed(path: str, listed: ListedObject, link_target: str | None) -> msc.ObjectMetadata:
    return msc.ObjectMetadata(
        key=path,
        content_length=listed.size,
        last_modified=moment_of(listed.last_modified) or msc.AWARE_DATETIME_MIN,
        etag=listed.etag,
        symlink_target=link_target,
    )
