"""From options to a client: endpoint, region and credentials, in our words and in those of ossfs.

fsspec keeps the options of a file system, and its pickles would hold them. So secrets become `StaticKeys` before fsspec
sees them, and a client that another object has already is named by its identity.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import weakref
from collections.abc import Mapping
from typing import Any

from fsspec.config import apply_config
from fsspec.spec import AbstractFileSystem

from ..client.client import OssClient, as_client
from ..config import CONFIG_VARIABLE
from ..credentials import Credentials
from ..errors import OssConfigError
from ..redaction import Secret

_VARIABLES = ("OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", CONFIG_VARIABLE)
# What a client has already.
_ACCESS = ("region", "cred_path", "cred_provider", "config_path", "anonymous")
_KEYS = ("key", "secret", "token", "anon")
_SALT = secrets.token_bytes(16)

_clients: weakref.WeakValueDictionary[str, OssClient] = weakref.WeakValueDictionary()


class StaticKeys:
    """The keys that a user gave as `key`, `secret` and `token`: a credentials provider.

    Its text, by which fsspec tells instances apart, has only a digest of the secrets, which no other process can make.
    """

    def __init__(self, key: str, secret: str, token: str = "") -> None:
        self._key, self._secret, self._token = key, Secret(secret), Secret(token)

    def get_credentials(self) -> Credentials:
        return Credentials(access_key_id=self._key, access_key_secret=self._secret, security_token=self._token)

    def __repr__(self) -> str:
        digest = hmac.new(_SALT, f"{self._secret}\n{self._token}".encode(), hashlib.sha256).hexdigest()
        return f"<StaticKeys {self._key!r} {digest[:32]}>"


def with_provider(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which `key`, `secret` and `token` have become a `cred_provider`, and `anon` is `anonymous`."""
    left = dict(options)
    if "anon" in left:
        left["anonymous"] = bool(left.pop("anon"))
    key, secret, token = (left.pop(name, None) or "" for name in ("key", "secret", "token"))
    if not (key or secret or token):
        return left
    if not (key and secret):
        raise OssConfigError("key and secret belong together: give both, or neither and let the environment have them")
    if left.get("cred_provider") is not None or left.get("cred_path") or left.get("anonymous"):
        raise OssConfigError(
            "key and secret are given, and cred_path, cred_provider or anonymous too: give one of them"
        )
    return {**left, "cred_provider": StaticKeys(key, secret, token)}


def normalised(cls: type, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as fsspec may keep them: no secret as text, no client."""
    if len(arguments) > 1:
        raise OssConfigError(f"{cls.__name__} takes one positional argument, the endpoint, not {len(arguments)}")
    given = {**options, **dict(zip(("endpoint",), arguments, strict=False))}
    defaults = apply_config(cls, {})
    if isinstance(given.get("endpoint"), OssClient):
        defaults = {name: value for name, value in defaults.items() if name not in _ACCESS + _KEYS}
    options = with_provider({**defaults, **given})
    # What `fsspec.open` gets for a file, tools give to the file system: 0, where a file is read once from end to end.
    if block_size := options.pop("block_size", None):
        options.setdefault("default_block_size", block_size)
    endpoint = options.get("endpoint")
    if isinstance(endpoint, OssClient):
        del options["endpoint"]
        as_client(endpoint, **{name: options.pop(name) for name in _ACCESS if name in options})  # refuses them
        options["client_identity"] = known(endpoint).identity
        options["_client"] = endpoint
    return options


class Settled(type(AbstractFileSystem)):  # type: ignore[misc]
    """The metaclass: instances are shared by their settings, and by the environment where that has settings."""

    @property
    def environment(cls) -> tuple[str, ...]:
        return environment()

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        options = normalised(cls, arguments, options)
        client = options.pop("_client", None)  # kept alive until the instance has found it by its identity
        instance = super().__call__(**options)
        del client
        return instance


def environment() -> tuple[str, ...]:
    """Return the variables that a file system without options depends on."""
    return tuple(os.environ.get(name, "") for name in _VARIABLES)


def endpoint_of(endpoint: str | None, region: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return endpoint and region: those given, else those of the environment.

    With a region alone it is the region's public endpoint. Raises `OssConfigError` if there is neither.
    """
    endpoint = endpoint or ("" if region else environ.get("OSS_ENDPOINT", ""))
    region = region or environ.get("OSS_REGION", "")
    if endpoint:
        return endpoint, region
    if not region:
        raise OssConfigError(
            "no endpoint: give endpoint='https://oss-<region>.aliyuncs.com' or region='<region>', or set OSS_ENDPOINT "
            "or OSS_REGION"
        )
    return f"https://oss-{region.removeprefix('oss-')}.aliyuncs.com", region


def known(client: OssClient) -> OssClient:
    """Remember a client by its identity, as long as it lives; return the first of that identity."""
    return _clients.setdefault(client.identity, client)


def client_named(identity: str) -> OssClient:
    """Return the client of this identity; `OssConfigError` if this process has none."""
    client = _clients.get(identity)
    if client is None:
        raise OssConfigError(
            "this file system was described in another process, and secrets do not travel in such a description: "
            "pickle the file system, or give cred_path="
        )
    return client


def new_client(
    endpoint: str | OssClient | None,
    *,
    region: str,
    cred_path: str,
    cred_provider: object | None,
    config_path: str,
    anonymous: bool = False,
) -> OssClient:
    """Return a client for options as users give them. Raises `OssConfigError` for settings beside a client."""
    if not isinstance(endpoint, OssClient):
        endpoint, region = endpoint_of(endpoint, region, os.environ)
    return known(as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous))
