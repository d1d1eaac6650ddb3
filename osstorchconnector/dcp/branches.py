"""Which of a run's checkpoints is the newest: the highest step, unless the user went back from there. Pure.

    run/step-0000000100/   loaded again, and trained on from
    run/step-0000000300/   an older branch since step 110 was saved
    run/.branches.json     says so

A save of a step leaves all steps above it on an older branch. They are remembered by the ETag of their `.metadata`, so
a step that is saved again belongs to the new branch. The notes are written before the save, and take effect when it is
published. So at every moment the newest is either the old newest or the new step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import OssIntegrityError

BRANCHES = ".branches.json"
_FORMAT = 1


@dataclass(frozen=True)
class Left:
    """A checkpoint on a branch that was left: the ETag of its metadata, and which going back it was, from 1 on."""

    etag: str
    turn: int


@dataclass(frozen=True)
class GoingBack:
    """A save that goes back to `step`, where it replaces metadata of that ETag, if any, from the steps it `leaves`."""

    step: int
    replaces: str
    leaves: Mapping[int, str]

    def is_done(self, etags: Mapping[int, str]) -> bool:
        """Say whether that save was published, by the ETags of the checkpoints that are there."""
        return etags.get(self.step, self.replaces) != self.replaces


@dataclass(frozen=True)
class Branches:
    """The checkpoints on branches that were left, and what saves under way go back from.

    `etags` are those of the checkpoints that there are.
    """

    left: Mapping[int, Left] = field(default_factory=dict)
    going_back: tuple[GoingBack, ...] = ()

    def ordered(self, etags: Mapping[int, str]) -> list[int]:
        """Return the steps, the oldest first."""
        left = self.settled(etags).left
        return sorted(etags, key=lambda step: (left[step].turn if step in left else math.inf, step))

    def settled(self, etags: Mapping[int, str]) -> Branches:
        """Return the same without what is no longer there, and what was gone back from as such."""
        left = {step: old for step, old in self.left.items() if etags.get(step) == old.etag}
        turn = max((old.turn for old in self.left.values()), default=0)
        under_way = []
        for back in self.going_back:
            leaves = {step: etag for step, etag in back.leaves.items() if etags.get(step) == etag and step not in left}
            if leaves and back.is_done(etags):
                turn += 1
                left |= {step: Left(etag, turn) for step, etag in leaves.items()}
            elif leaves:
                under_way.append(replace(back, leaves=leaves))
        return Branches(left, tuple(under_way))

    def saving(self, step: int, etags: Mapping[int, str], later: AbstractSet[int]) -> Branches:
        """Return what must be known before `step` is saved; `later` are the steps whose saves began after this one."""
        settled = self.settled(etags)
        leaves = {
            other: etag
            for other, etag in etags.items()
            if other > step and other not in settled.left and other not in later
        }
        under_way = [back for back in settled.going_back if back.step != step]
        if leaves:
            under_way.append(GoingBack(step, etags.get(step, ""), leaves))
        return replace(settled, going_back=tuple(under_way))

    # as an object

    def dumped(self) -> bytes:
        content: dict[str, Any] = {
            "format": _FORMAT,
            "left": {str(step): [left.etag, left.turn] for step, left in self.left.items()},
            "going_back": [[back.step, back.replaces, dict(back.leaves)] for back in self.going_back],
        }
        return json.dumps(content).encode()

    @classmethod
    def loaded(cls, data: bytes, where: str) -> Branches:
        """Return what `dumped` wrote; `OssIntegrityError` names `where` if it is anything else."""
        try:
            content = json.loads(data)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            left = {int(step): Left(_text(etag), _number(turn)) for step, (etag, turn) in content["left"].items()}
            going_back = tuple(
                GoingBack(_number(step), _text(replaces), {int(other): _text(etag) for other, etag in leaves.items()})
                for step, replaces, leaves in content["going_back"]
            )
            return cls(left, going_back)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise OssIntegrityError(
                f"{where} does not say which checkpoints are on branches that were left ({error!r}). Without it the "
                "highest step is the newest: remove it if that is right"
            ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no number")
    return value
