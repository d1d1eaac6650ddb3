"""The version, for the package, its wheel and the user agent."""

from __future__ import annotations

__version__ = "2.0.0"
