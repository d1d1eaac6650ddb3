"""A `Bucket` or `Service` of oss2 in the place of an endpoint.

It is known by what it has, so oss2 is not imported here. What is taken of it is where requests go and whose credentials
sign them; its session, timeouts and retries stay its own. What the user gives beside it counts more.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

from ..config import Config, load_config
from ..credentials import CredentialsSource, credentials_source, is_oss2_auth
from ..errors import OssConfigError
from ..protocol.endpoint import infer_region, parse_endpoint


class Oss2Service(Protocol):
    """An `oss2.Bucket` or `oss2.Service`."""

    auth: Any
    endpoint: str


class ClientArguments(NamedTuple):
    """What a client is made of."""

    endpoint: str
    region: str
    source: CredentialsSource
    config: Config


def client_arguments(
    endpoint: str | Oss2Service, region: str, cred_path: str, cred_provider: object | None, config_path: str
) -> ClientArguments:
    """Return what a client is made of, some of it from an object of oss2 that stands in the endpoint's place.

    Raises `OssConfigError` or `OssCredentialsError` for arguments that do not go together.
    """
    config = load_config(config_path)
    service: Any = endpoint
    if not _is_oss2_service(service):
        return ClientArguments(service, region, credentials_source(cred_path, cred_provider), config)
    if getattr(service, "cloudbox_id", None):
        raise OssConfigError(
            f"the {type(service).__name__} of oss2 is of a cloud box, whose requests are signed in a way that is not "
            "supported: give the endpoint of a region"
        )
    region = region or getattr(service, "region", None) or ""
    if not cred_path and cred_provider is None:
        cred_provider = service.auth
    config = _with_habits(config, service, region)
    return ClientArguments(service.endpoint, region, credentials_source(cred_path, cred_provider), config)


def _is_oss2_service(candidate: Any) -> bool:
    return isinstance(getattr(candidate, "endpoint", None), str) and is_oss2_auth(getattr(candidate, "auth", None))


def _with_habits(config: Config, service: Any, region: str) -> Config:
    """Return `config`, with how the object addresses and signs where that is open."""
    addressing = getattr(service, "_make_url", None)
    if config.addressing == "auto" and getattr(addressing, "is_cname", False):
        config = dataclasses.replace(config, addressing="cname")
    elif config.addressing == "auto" and getattr(addressing, "is_path_style", False):
        config = dataclasses.replace(config, addressing="path")
    is_settled = region or _signs_v4(service.auth) or infer_region(parse_endpoint(service.endpoint, "cname").host)
    if config.signature_version == "auto" and not is_settled:
        config = dataclasses.replace(config, signature_version="v1")
    return config


def _signs_v4(auth: Any) -> bool:
    return hasattr(auth, "auth_version") and auth.auth_version() == "v4"
