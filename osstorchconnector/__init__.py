"""PyTorch on Alibaba Cloud OSS: the public names, each loaded when it is first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .errors import (
        OssConfigError,
        OssConflictError,
        OssConnectionError,
        OssCredentialsError,
        OssError,
        OssIntegrityError,
        OssManifestError,
        OssNotFoundError,
        OssObjectChangedError,
        OssPermissionError,
        OssProtocolError,
        OssServiceError,
        OssThrottledError,
        OssTimeoutError,
        OssTransformError,
        OssUriError,
        OssUsageError,
    )

__all__ = [
    "OssConfigError",
    "OssConflictError",
    "OssConnectionError",
    "OssCredentialsError",
    "OssError",
    "OssIntegrityError",
    "OssManifestError",
    "OssNotFoundError",
    "OssObjectChangedError",
    "OssPermissionError",
    "OssProtocolError",
    "OssServiceError",
    "OssThrottledError",
    "OssTimeoutError",
    "OssTransformError",
    "OssUriError",
    "OssUsageError",
    "__version__",
]

_HOMES: dict[str, str] = {}


def __getattr__(name: str) -> object:
    """Load a public name from its module, and keep it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
