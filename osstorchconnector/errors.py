"""The errors of this library, and the built-in exceptions that they also are.

    OssError                      a RuntimeError, as the errors of the C++ connector are
    ├── OssConfigError            also ValueError: a setting, URI, credential or manifest file is wrong
    │   ├── OssUriError
    │   ├── OssCredentialsError
    │   ├── OssManifestError
    │   └── OssTarError
    ├── OssUsageError             this call is not allowed here (a blocking call on the I/O loop)
    ├── OssTransformError         the user's transform raised; `__cause__` is the original error
    ├── OssConnectionError        also ConnectionError: no connection, or it broke before the answer was complete
    │   └── OssProtocolError      the answer is not HTTP, or not from OSS
    ├── OssTimeoutError           also TimeoutError
    ├── OssIntegrityError         bytes do not match their CRC-64 or their length
    └── OssServiceError           OSS answered, and the answer is an error
        ├── OssNotFoundError      also FileNotFoundError
        ├── OssPermissionError    also PermissionError
        ├── OssObjectChangedError the object was replaced since it was first seen (412)
        ├── OssConflictError      409
        │   └── OssExistsError    also FileExistsError: the object is there, and was not to be overwritten
        └── OssThrottledError     429 or 503 until the retries were used up

Those of tensor files, which are also errors of another library, are in `safetensors/failures.py`.

The text contains everything that a user needs, because sometimes only the text survives: torch rebuilds a worker's
exception as `type(text)`, and `torch.distributed.checkpoint` wraps texts. So each class takes one positional text, and
all other arguments are optional. A text never contains a secret.
"""

from __future__ import annotations

import errno


class OssError(RuntimeError):
    """Base class of every error that this library defines."""


class OssConfigError(OssError, ValueError):
    """A setting is missing or wrong. Raised before any request is sent."""


class OssUriError(OssConfigError):
    """The URI is not `oss://bucket/key` or `/bucket/key`, or OSS does not allow its bucket or key."""


class OssCredentialsError(OssConfigError):
    """There are no credentials, or the credential file or provider gives none."""


class OssManifestError(OssConfigError):
    """The manifest can't be read, or one of its lines or entries does not name an object."""


class OssTarError(OssConfigError):
    """The tar, or the index of a tar, can't be used: damaged, cut off, compressed, or of another tar."""


class OssUsageError(OssError):
    """This call is not allowed here or with these arguments. The text says what to do instead."""


class OssTransformError(OssError):
    """The user's transform raised. The text names the object; `__cause__` is the original error."""


class OssConnectionError(OssError, ConnectionError):
    """The server could not be reached, or the connection broke before the answer was complete."""


class OssProtocolError(OssConnectionError):
    """The answer is not HTTP/1.1, or not an answer of OSS. It is not used, and the connection is closed."""


class OssTimeoutError(OssError, TimeoutError):
    """There was no connection, no progress, or no complete answer within the configured time."""


class OssIntegrityError(OssError):
    """The bytes are not those of the object: their CRC-64 or their number is wrong."""


class OssServiceError(OssError):
    """OSS refused the request.

    `status` is the HTTP status, `code` OSS's error code, `request_id` OSS's id of the request. All of them are in the
    text, too, and are 0 or empty where only the text survived (in an error of a DataLoader worker, for example).
    """

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
    """The object was replaced while it was being read (412)."""


class OssConflictError(OssServiceError):
    """The object's state does not allow the operation (409)."""


class OssExistsError(OssConflictError, FileExistsError):
    """There is an object of that name already, and it was not to be overwritten (409 FileAlreadyExists)."""

    os_errno = errno.EEXIST


class OssThrottledError(OssServiceError):
    """OSS asked for fewer requests (429, 503) until the retries were used up."""


def service_error(text: str, *, status: int, code: str, request_id: str) -> OssServiceError:
    """Return an error of the class for an HTTP status."""
    kind = {
        401: OssPermissionError,
        403: OssPermissionError,
        404: OssNotFoundError,
        409: OssExistsError if code == "FileAlreadyExists" else OssConflictError,
        412: OssObjectChangedError,
        429: OssThrottledError,
        503: OssThrottledError,
    }.get(status, OssServiceError)
    return kind(text, status=status, code=code, request_id=request_id)
