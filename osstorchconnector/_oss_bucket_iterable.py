"""`osstorchconnector._oss_bucket_iterable` of 1.2.3, a private module that programs import all the same."""

from __future__ import annotations

from .uri import parse_uri as parse_oss_uri

__all__ = ["parse_oss_uri"]
