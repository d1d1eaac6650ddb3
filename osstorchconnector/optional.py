"""The error for a package that a part of the library needs and that is missing, too old or broken."""

from __future__ import annotations

from .errors import OssConfigError


def needed(what: str, requirement: str, problem: Exception) -> OssConfigError:
    """Return the error that says what to install: `what` needs `requirement`, and its import raised `problem`."""
    return OssConfigError(
        f"{what} needs {requirement}: pip install '{requirement}' (import here: {type(problem).__name__}: {problem})"
    )
