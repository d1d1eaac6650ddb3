"""What can go wrong, as Python sees it.

    OssError
    ├── OssConfigError            also ValueError: a setting, URI, credential or manifest file is wrong
    │   ├── OssUriError
    │   ├── OssCredentialsError
    │   └── OssManifestError
    ├── OssUsageError             also RuntimeError: a call that can't be made here (a blocking call on the I/O loop)
    ├── OssTransformError         also RuntimeError: the user's transform raised; the original is `__cause__`
    ├── OssConnectionError        also ConnectionError: no connection, or lost before the whole answer
    │   └── OssProtocolError      what came back is not HTTP, or not OSS
    ├── OssTimeoutError           also TimeoutError
    ├── OssIntegrityError         bytes that do not match their CRC-64 or their length
    └── OssServiceError           OSS answered, and the answer is an error
        ├── OssNotFoundError      also FileNotFoundError
        ├── OssPermissionError    also PermissionError
        ├── OssObjectChangedError the object was replaced since it was first seen (412)
        ├── OssConflictError      409
        └── OssThrottledError     429 or 503 until the retries were used up

Everything a user needs stands in the text, because only the text survives some journeys: torch rebuilds a
worker's exception as `type(text)`, and `torch.distributed.checkpoint` wraps texts. So each class takes one
positional text, and what else it carries is optional. No secret is ever part of a text.
"""

from __future__ import annotations

import errno


class OssError(Exception):
    """Root of every error this library raises on its own account."""


class OssConfigError(OssError, ValueError):
    """A setting is missing or wrong; found before any request is sent."""


class OssUriError(OssConfigError):
    """Not an `oss://bucket/key` (or `/bucket/key`)."""


class OssCredentialsError(OssConfigError):
    """No credentials, or a credential file or provider that does not give any."""


class OssManifestError(OssConfigError):
    """A manifest line or entry that names no object."""


class OssUsageError(OssError, RuntimeError):
    """The call is right somewhere else, not here: the text says where."""


class OssTransformError(OssError, RuntimeError):
    """The user's transform raised on an object; the text names it, `__cause__` is the original error."""


class OssConnectionError(OssError, ConnectionError):
    """The server could not be reached, or the connection broke before the whole answer was there."""


class OssProtocolError(OssConnectionError):
    """The peer's answer is not HTTP/1.1, or not what OSS sends: never trusted, the connection is closed."""


class OssTimeoutError(OssError, TimeoutError):
    """No connection, no progress, or no whole answer within the configured time."""


class OssIntegrityError(OssError):
    """The bytes are not the object's: their CRC-64 or their number is wrong."""


class OssServiceError(OssError):
    """OSS refused the request; `status`, `code` and `request_id` are also in the text."""

    os_errno: int | None = None
    errno: int | None

    def __init__(self, text: str = "", *, status: int = 0, code: str = "", request_id: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.request_id = status, code, request_id
        if self.os_errno is not None:
            self.errno = self.os_errno


class OssNotFoundError(OssServiceError, FileNotFoundError):
    """The object, bucket or upload does not exist (404)."""

    os_errno = errno.ENOENT


class OssPermissionError(OssServiceError, PermissionError):
    """OSS refused these credentials (401 or 403)."""

    os_errno = errno.EACCES


class OssObjectChangedError(OssServiceError):
    """The object is no longer the one first seen: it was replaced while being read (412)."""


class OssConflictError(OssServiceError):
    """The object's state forbids the operation (409)."""


class OssThrottledError(OssServiceError):
    """OSS asked to slow down (429, 503) for longer than the retries lasted."""


def service_error(text: str, *, status: int, code: str, request_id: str) -> OssServiceError:
    """Return the error of the class that belongs to an HTTP status."""
    kind = {
        401: OssPermissionError,
        403: OssPermissionError,
        404: OssNotFoundError,
        409: OssConflictError,
        412: OssObjectChangedError,
        429: OssThrottledError,
        503: OssThrottledError,
    }.get(status, OssServiceError)
    return kind(text, status=status, code=code, request_id=request_id)
