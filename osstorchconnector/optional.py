"""The error for a package that a part of the library needs and that is missing, too old or broken."""

from __future__ import annotations

from .errors import OssConfigError


def needed(what: str, requirement: str, problem: Exception) -> OssConfigError:
    """Return the error that says what to install: `what` needs `requirement`, and its import raised `problem`."""
    return OssConfigError(
        f"{what} needs {requirement}: pip install '{requirement}' (import here: {type(problem).__name__}: {problem})"
    )


def unavailable(what: str, requirement: str, problem: Exception) -> type:
    """Return a class to derive from in place of one that can't be imported: making an object is the error `needed`."""

    def refuse(self: object, *arguments: object, **options: object) -> None:
        raise needed(what, requirement, problem)

    return type("Unavailable", (), {"__init__": refuse})
