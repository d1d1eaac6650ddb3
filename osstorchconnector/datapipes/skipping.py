"""What happens to an object that can't be read, even after retries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from ..errors import (
    OssConfigError,
    OssCredentialsError,
    OssError,
    OssServiceError,
    OssTransformError,
    OssUriError,
    OssUsageError,
)
from ..index.info import ObjectInfo
from ..index.shared_numbers import SharedNumbers

OnError = Literal["raise", "skip"] | Callable[[ObjectInfo, OssError], object]

_logger = logging.getLogger(__name__)

# These tell of a mistake in the program or its settings, not of an object.
_NEVER_SKIPPED = (OssConfigError, OssCredentialsError, OssTransformError, OssUriError, OssUsageError)
_NEVER_SKIPPED_CODES = frozenset(
    {
        "AccessKeyIdAndSecurityTokenNotMatch",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidSecurityToken",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        "SecurityTokenExpired",
        "SignatureDoesNotMatch",
    }
)


class Skipping:
    """Leaves out, logs and counts objects that can't be read, in `numbers` at `place`, where all processes see it.

    `on_error` may be a function: it is called with the `ObjectInfo` and the error, and may raise.
    """

    def __init__(self, on_error: OnError, numbers: SharedNumbers, place: int = 0) -> None:
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise OssConfigError(f'on_error: {on_error!r} is neither "raise" nor "skip" nor a function')
        self._on_error, self._numbers, self._place = on_error, numbers, place

    @property
    def is_on(self) -> bool:
        """Whether anything may be left out at all."""
        return self._on_error != "raise"

    def __call__(self, info: ObjectInfo, error: OssError) -> None:
        """Note that the object is left out, or raise."""
        if self._on_error == "raise" or _is_mistake(error):
            raise error
        if callable(self._on_error):
            self._on_error(info, error)
        _logger.warning("left out %s: %s", info.uri.shown, error)
        self._numbers.add(self._place, 1)

    def count(self) -> int:
        """Return how many objects all processes have left out."""
        return self._numbers.get(self._place)


def _is_mistake(error: OssError) -> bool:
    if isinstance(error, OssServiceError):
        return error.code in _NEVER_SKIPPED_CODES
    return isinstance(error, _NEVER_SKIPPED)
