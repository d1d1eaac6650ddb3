"""Which contenders do what, with which data, and what is to be reached."""

from __future__ import annotations

from benchmarks.values import Work

from . import keys, large, objects, starting

WORKS: tuple[Work, ...] = (*objects.WORKS, *large.WORKS, *keys.WORKS, *starting.WORKS)
