"""What is wrong with a safetensors file, or with what is asked of it: errors that programs for its library catch, too.

Nothing else here needs that library, so all of this works where it is not installed.
"""

from __future__ import annotations

from ..errors import OssError

try:
    from safetensors import SafetensorError
except Exception:  # not installed, or broken
    SafetensorError = Exception  # type: ignore[assignment, misc]


class OssSafetensorError(OssError, SafetensorError):
    """The object is no valid safetensors file, or torch lacks such tensors. Also a `safetensors.SafetensorError`."""


class OssTensorNotFoundError(OssSafetensorError, KeyError):
    """The file has no tensor of this name. Also a `KeyError` and a `safetensors.SafetensorError`."""

    def __str__(self) -> str:
        """Return the text; a `KeyError` would quote it."""
        return Exception.__str__(self)
