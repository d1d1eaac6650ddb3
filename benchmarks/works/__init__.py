"""Which contenders do what, with which data, and the goals."""

from __future__ import annotations

from benchmarks.values import Work

from . import (
    checkpoints,
    curves,
    ecosystem,
    far,
    filesystem,
    independent,
    keys,
    large,
    objects,
    scale,
    starting,
    tars,
    tensors,
    tuning,
)

CURVES: tuple[Work, ...] = tuple(curves.WORKS)
SCALE: tuple[Work, ...] = tuple(scale.WORKS)
TUNING: tuple[Work, ...] = tuple(tuning.WORKS)
WORKS: tuple[Work, ...] = (
    *objects.WORKS,
    *far.WORKS,
    *large.WORKS,
    *tensors.WORKS,
    *independent.WORKS,
    *checkpoints.WORKS,
    *keys.WORKS,
    *filesystem.WORKS,
    *ecosystem.WORKS,
    *tars.WORKS,
    *starting.WORKS,
)
