"""How a client is made: arguments become its recipe, and the recipe becomes what it works on.

Arguments: a `Bucket` or `Service` of oss2 may stand in the place of an endpoint. It is known by what it has, so oss2 is
not imported here. What is taken of it is where requests go and whose credentials sign them; its session, timeouts and
retries stay its own. What the user gives beside it counts more.

What it works on: OSS, or files of this machine (`local`) where the endpoint is empty.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..config import Config, load_config
from ..credentials import CredentialsCache, CredentialsSource, credentials_source, is_oss2_auth
from ..errors import OssConfigError
from ..logs import audit_log, configure_logging
from ..protocol.endpoint import infer_region, parse_endpoint, plan_signing
from .operations import Operations
from .sender import Session
from .sharing import Recipe, SharedState
from .transport.base import TransportFactory, tls_context

_warned_of: set[str] = set()  # endpoints that may be overheard, or are none: each is told of once
_logger = logging.getLogger(__name__)


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
    endpoint: str | Oss2Service,
    region: str,
    cred_path: str,
    cred_provider: object | None,
    config_path: str,
    anonymous: bool,
) -> ClientArguments:
    """Return what a client is made of, some of it from an object of oss2 that stands in the endpoint's place.

    Raises `OssConfigError` or `OssCredentialsError` for arguments that do not go together.
    """
    config = load_config(config_path)
    service: Any = endpoint
    if not _is_oss2_service(service):
        source = credentials_source(cred_path, cred_provider, anonymous, config.cred)
        return ClientArguments(service, region, source, config)
    if getattr(service, "cloudbox_id", None):
        raise OssConfigError(
            f"the {type(service).__name__} of oss2 is of a cloud box, whose requests are signed in a way that is not "
            "supported: give the endpoint of a region"
        )
    region = region or getattr(service, "region", None) or ""
    if not cred_path and cred_provider is None and not anonymous:
        cred_provider = service.auth
    config = _with_habits(config, service, region)
    return ClientArguments(service.endpoint, region, credentials_source(cred_path, cred_provider, anonymous), config)


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


class Opened(NamedTuple):
    """The endpoint as it is used, and what makes the operations of one event loop."""

    endpoint: str
    operations: Callable[[], Operations]


def open_recipe(recipe: Recipe, shared: SharedState, transport_factory: TransportFactory | None) -> Opened:
    """Return what a client works on. Raises `OssConfigError` for settings that are wrong; sends nothing."""
    configure_logging(recipe[3])
    if recipe[0] == "":
        return _local_files()
    session = _session(recipe, shared, transport_factory)
    return Opened(str(session.endpoint), lambda: Operations(session))


def _session(recipe: Recipe, shared: SharedState, transport_factory: TransportFactory | None) -> Session:
    endpoint, region, source, config, _ = recipe
    parsed = parse_endpoint(endpoint, config.addressing)
    signing = plan_signing(parsed, region, config.signature_version)
    if signing.version == "v1" and config.signature_version == "auto":
        _logger.info("no region is known for %s: requests are signed with version 1 (region= for 4)", parsed)
    if parsed.is_exposed:
        _warn_once(str(parsed), f"{parsed} is plain http: signatures, and the data, travel in the clear; use https")
    return Session(
        endpoint=parsed,
        signing=signing,
        config=config,
        credentials=CredentialsCache(source, patience_seconds=min(60.0, config.operation_timeout_seconds / 2)),
        audit=audit_log(config),
        tls=tls_context(config.ca_file) if parsed.scheme == "https" else None,
        shared=shared,
        transport_factory=transport_factory,
    )


def _local_files() -> Opened:
    from .local import LocalOperations  # imported where it is used
    from .local.folders import NO_ENDPOINT

    _warn_once("", NO_ENDPOINT)
    return Opened("", LocalOperations)


def _warn_once(endpoint: str, text: str) -> None:
    if endpoint not in _warned_of:
        _warned_of.add(endpoint)
        _logger.warning("%s", text)
