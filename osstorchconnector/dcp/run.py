"""The folder of a training run: its checkpoints, the newest of them, and the removal of old ones."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import operator
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..client.client import OssClient
from ..client.operations import Operations
from ..errors import OssError, OssIntegrityError, OssNotFoundError, OssUsageError
from ..protocol.answers import PageOrder
from ..protocol.values import ListPage
from ..uri import OssUri
from .folder import begun, checkpoint_uri, metadata_name

R = TypeVar("R")

_logger = logging.getLogger(__name__)

_STEP = re.compile(r"step-(\d{10,})/")

BRANCHES = ".branches.json"
_FORMAT = 1


class RunFolder:
    """The checkpoints below a root, one per step."""

    def __init__(self, client: OssClient, root: OssUri) -> None:
        self._client, self._root = client, root
        self._notes = OssUri(root.bucket, root.key + BRANCHES)
        self._noting = threading.Lock()  # each running save reads the notes, changes and rewrites them

    def __reduce__(self) -> tuple[type[RunFolder], tuple[OssClient, OssUri]]:
        return RunFolder, (self._client, self._root)

    def uri(self, step: int) -> str:
        """Return the URI of a step's checkpoint, which need not exist."""
        return f"{self._root}step-{_checked(step):010d}"

    def steps(self) -> list[int]:
        """Return the steps that have a complete checkpoint, in ascending order."""
        return sorted(self._whole(self._ask_steps()()))

    def latest(self) -> int | None:
        """Return the newest step that has a complete checkpoint; None if there is none."""
        ordered = self.ordered()
        return ordered[-1] if ordered else None

    def ordered(self) -> list[int]:
        """Return the steps that have a complete checkpoint, the oldest first."""
        branches = self._ask_branches()
        etags = self._whole(self._ask_steps()())
        return branches().ordered(etags) if etags else []

    def begin_note(self, step: int, later: AbstractSet[int]) -> Callable[[], None]:
        """As a save begins: find out whether it goes back. Return a function to call once before it is published.

        That function notes that checkpoints above its step are on an older branch once it is published. `later` are
        steps whose saves began after this one.
        """
        asked = self._ask_steps()

        def note() -> None:
            steps = asked()
            if max(steps, default=step) > step:
                with self._noting:
                    branches = self._ask_branches()()
                    self._remember(branches.saving(step, self._whole(steps), later), branches)

        return note

    def tidy(self, saved_step: int, keep: int | None) -> None:
        """After a save: note the checkpoints that it has gone back from, and remove all but the newest `keep`.

        An error is logged and does not fail the save. The call after the next save makes up for it.
        """
        try:
            with self._noting:
                asked = self._ask_branches()
                steps = self._ask_steps() if keep is not None else None
                branches = asked()
                if steps is None and not branches.going_back:
                    return
                etags = self._whole((steps or self._ask_steps())())
                settled = branches.settled(etags)
                self._remember(settled, branches)
            superfluous = settled.ordered(etags)[: -keep if keep is not None else 0]
            self._remove([step for step in superfluous if step != saved_step])
        except OssError as error:
            _logger.warning("checkpoints that are too many were not removed: %s", error)

    def _ask_steps(self) -> Callable[[], list[int]]:
        """Ask which steps have any object; return a function that waits for the answer."""
        asked = begun(self._client, functools.partial(_listed, self._root, delimiter="/"))
        start = len(self._root.key)

        def steps() -> list[int]:
            folders = [prefix[start:] for page in asked() for prefix in page.prefixes]
            return [int(match[1]) for match in map(_STEP.fullmatch, folders) if match]

        return steps

    def _ask_branches(self) -> Callable[[], Branches]:
        """Ask for the notes; return a function that waits for them."""
        asked = begun(self._client, self._get_notes)

        def branches() -> Branches:
            notes = asked()
            return Branches.loaded(notes, str(self._notes)) if notes is not None else Branches()

        return branches

    async def _get_notes(self, operations: Operations) -> bytes | None:
        try:
            return (await operations.get(self._notes)).body
        except OssNotFoundError:
            return None

    def _whole(self, steps: Iterable[int]) -> dict[int, str]:
        """Return the steps that have a complete checkpoint, with the ETags of their metadata."""
        steps = list(steps)
        etags = self._map(_etag, [self._metadata(step) for step in steps])
        return {step: etag for step, etag in zip(steps, etags, strict=True) if etag}

    def _remove(self, steps: Iterable[int]) -> None:
        for _ in self._map(_removed, [self._metadata(step) for step in steps]):
            pass

    def _metadata(self, step: int) -> OssUri:
        folder = checkpoint_uri(self.uri(step))
        return OssUri(folder.bucket, folder.key + metadata_name())

    def _map(self, work: Callable[[Operations, OssUri], Awaitable[R]], uris: Iterable[OssUri]) -> Iterator[R]:
        transfer = self._client.config.checkpoint
        return self._client.map(
            work, uris, concurrency=transfer.prefetch_concurrency, workers=transfer.prefetch_worker, kind="lookups"
        )

    def _remember(self, branches: Branches, known: Branches) -> None:
        if branches != known:
            self._client.put(self._notes, branches.dumped())


def _checked(step: int) -> int:
    with contextlib.suppress(TypeError):
        if (number := operator.index(step)) >= 0:
            return number
    raise OssUsageError(f"a step is a whole number, 0 or more, not {step!r}")


async def _etag(operations: Operations, metadata: OssUri) -> str:
    """Return the ETag of an object; empty if it does not exist."""
    try:
        return (await operations.head(metadata)).etag
    except OssNotFoundError:
        return ""


def remove_checkpoint(client: OssClient, folder: OssUri) -> None:
    """Remove all objects of a checkpoint, whose key ends in `/`."""
    metadata = OssUri(folder.bucket, folder.key + metadata_name())
    client.submit(functools.partial(_removed, metadata=metadata)).result()


async def _removed(operations: Operations, metadata: OssUri) -> None:
    """Remove a checkpoint: `.metadata` first, so that a partly removed one never looks complete."""
    folder = OssUri(metadata.bucket, metadata.key.removesuffix(metadata_name()))
    pages, _ = await asyncio.gather(_listed(folder, operations), operations.delete(metadata))
    await operations.delete_many(folder.bucket, [key for page in pages for key in page.keys if key != metadata.key])


async def _listed(prefix: OssUri, operations: Operations, *, delimiter: str = "") -> list[ListPage]:
    pages: list[ListPage] = []
    order = PageOrder("")
    while not pages or pages[-1].next_token:
        token = pages[-1].next_token if pages else ""
        pages.append(await operations.list_page(prefix, delimiter=delimiter, token=token, order=order))
    return pages


@dataclass(frozen=True)
class Left:
    """A checkpoint on a branch that was left: the ETag of its metadata, and the number of the going back, from 1 on."""

    etag: str
    turn: int


@dataclass(frozen=True)
class GoingBack:
    """A save that goes back to `step` and leaves later steps.

    `replaces` is the ETag of the metadata that it replaces at `step`; empty if there is none. `leaves` are the steps
    that it leaves, with the ETags of their metadata.
    """

    step: int
    replaces: str
    leaves: Mapping[int, str]

    def is_done(self, etags: Mapping[int, str]) -> bool:
        """Return whether that save was published, judged by the ETags of the existing checkpoints."""
        return etags.get(self.step, self.replaces) != self.replaces


@dataclass(frozen=True)
class Branches:
    """The checkpoints on branches that were left, and the running saves that go back.

    `etags` are those of the existing checkpoints' metadata, by step.
    """

    left: Mapping[int, Left] = field(default_factory=dict)
    going_back: tuple[GoingBack, ...] = ()

    def ordered(self, etags: Mapping[int, str]) -> list[int]:
        """Return the steps, the oldest first."""
        left = self.settled(etags).left
        return sorted(etags, key=lambda step: (left[step].turn if step in left else math.inf, step))

    def settled(self, etags: Mapping[int, str]) -> Branches:
        """Return the branches without checkpoints that no longer exist, and with those that a published save left."""
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
        """Return the branches to note before `step` is saved. `later` are steps whose saves began after this one."""
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

    # the object that stores it

    def dumped(self) -> bytes:
        content: dict[str, Any] = {
            "format": _FORMAT,
            "left": {str(step): [left.etag, left.turn] for step, left in self.left.items()},
            "going_back": [[back.step, back.replaces, dict(back.leaves)] for back in self.going_back],
        }
        return json.dumps(content).encode()

    @classmethod
    def loaded(cls, data: bytes, where: str) -> Branches:
        """Return what `dumped` wrote. For anything else, raise `OssIntegrityError`, which names `where`."""
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
