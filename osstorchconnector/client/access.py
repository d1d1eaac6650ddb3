"""A client from what a user's constructor was given."""

from __future__ import annotations

from ..errors import OssConfigError
from .client import OssClient


def as_client(
    endpoint: str | OssClient,
    *,
    cred_path: str = "",
    cred_provider: object | None = None,
    config_path: str = "",
    region: str = "",
) -> OssClient:
    """Return a client of the endpoint; where a client stands in the endpoint's place, that one."""
    if not isinstance(endpoint, OssClient):
        return OssClient(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
    if cred_path or cred_provider is not None or config_path or region:
        raise OssConfigError("a client has its credentials, config and region already: give these to OssClient instead")
    return endpoint
