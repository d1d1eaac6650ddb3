"""Publishing a save: check that its data is stored, put `.metadata`, remove the data of the checkpoint it replaces.

ckpt/.metadata.lock    exists while a save replaces another: of two at once, each would miss the other's files
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch.distributed.checkpoint.metadata import Metadata

from ..client.operations import Operations
from ..errors import OssConflictError, OssError, OssIntegrityError, OssNotFoundError
from ..uri import OssUri
from .folder import METADATA_LOCK, CheckpointFolder, begun, is_rank_metadata, metadata_name, quietly
from .metadata import dump_metadata, stored_names

T = TypeVar("T")
R = TypeVar("R")

_logger = logging.getLogger(__name__)

# How long a save waits for a lock while its holder stays the same. Publishing takes a few requests. A slower or killed
# holder loses the lock. At worst, this leaves data that no metadata refers to.
PATIENCE_SECONDS = 10.0
MOST_PATIENCE_SECONDS = 60.0  # for a lock that passes from one holder to another
POLL_SECONDS = 0.05
_NAMED_AT_MOST = 3


class Publisher:
    """Publishes the saves of one checkpoint folder."""

    def __init__(
        self,
        folder: CheckpointFolder,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._client = folder, folder.client
        self._clock, self._sleep = clock, sleep

    def publish(self, metadata: Metadata, save_id: str, *, overwrite: bool) -> None:
        """Put `.metadata`, which makes the new data the checkpoint, then remove the files that only the old one used.

        If a file of the new checkpoint is missing or has a wrong size, raises `OssIntegrityError` and leaves the old
        checkpoint as it is. Removes only files that are known to be superfluous. A failed removal does not fail the
        save.
        """
        data, uri = dump_metadata(metadata), self._folder.member(metadata_name())
        if not overwrite:
            self._check_stored(metadata)
            self._client.put(uri, data, forbid_overwrite=True)
            return
        rank_names, is_there = self._look(metadata, uri)
        if not rank_names and not is_there:
            try:
                self._client.put(uri, data, forbid_overwrite=True)
                return
            except OssConflictError:
                _logger.info("%s: another save was published meanwhile, and is replaced", self._folder.id)
        with self._lock(save_id):
            old = {*rank_names, *self._names_in_use((metadata_name(), *rank_names))}
            self._client.put(uri, data)
            superfluous = sorted(name for name in old - _names(metadata) if not _is_metadata(name))
            # Removed while the lock is given back: a save that takes it then reads the new `.metadata`, which names
            # none of these.
            removed = begun(self._client, functools.partial(_remove, self._folder, superfluous))
        quietly(removed)

    def publish_rank(self, metadata: Metadata, rank: int) -> None:
        """Put a rank's own metadata. Raises `OssConflictError` if it exists, `OssIntegrityError` as `publish` does."""
        self._check_stored(metadata)
        self._client.put(self._folder.member(metadata_name(rank)), dump_metadata(metadata), forbid_overwrite=True)

    def remove_unpublished(self, names: list[str], rank: int) -> None:
        """Remove the rank's files that neither `.metadata` nor the rank's own metadata names."""
        named = set[str]()
        for uri, body in self._bodies((metadata_name(), metadata_name(rank))):
            named.update(stored_names(body, str(uri)))
        self._folder.remove(sorted({*names} - named))

    # checks of what is stored

    def _look(self, metadata: Metadata, uri: OssUri) -> tuple[list[str], bool]:
        """Check what is stored, and ask at the same time whether there is a checkpoint at `uri` to replace.

        Returns the metadata of ranks that stand there, and that answer, which another save may make wrong at any time.
        """
        is_there = begun(self._client, functools.partial(_is_there, uri))
        rank_names = [name for name in self._check_stored(metadata) if is_rank_metadata(name)]
        return rank_names, is_there()

    def _check_stored(self, metadata: Metadata) -> list[str]:
        """Raise unless every file that the metadata names exists and has the right size.

        Returns the other files of this library in the same folders, such as other ranks' metadata.
        """
        sizes = _sizes(metadata)
        folders: dict[str, list[str]] = defaultdict(list, {"": []})  # a prefix strategy makes more folders
        for name in sizes:
            folders[name[: name.rfind("/") + 1]].append(name)
        listings = self._map(functools.partial(_listed, self._folder.uri), folders)
        found = {name: size for listing in listings for name, size in listing.items()}
        wrong = [
            f"{name} is gone" if name not in found else f"{name} has {found[name]} bytes, not {size}"
            for name, size in sizes.items()
            if found.get(name) != size
        ]
        if wrong:
            raise OssIntegrityError(
                f"{self._folder.id} was not published: of the {len(sizes)} files just written, {len(wrong)} are not as "
                f"they were stored ({'; '.join(wrong[:_NAMED_AT_MOST])}). Something else removes or changes objects "
                "there: another job, a clean-up, a lifecycle rule"
            )
        return [name for name in found if name not in sizes]

    def _names_in_use(self, metadata: Sequence[str]) -> set[str]:
        """Return the files that these metadata name now. Log a warning for each that can't be read."""
        found = set[str]()
        for uri, body in self._bodies(metadata):
            try:
                found.update(stored_names(body, str(uri)))
            except OssIntegrityError as error:
                _logger.warning("what stood there before can't be read, so its data is not removed: %s", error)
        return found

    def _bodies(self, names: Sequence[str]) -> Iterator[tuple[OssUri, bytes]]:
        """Yield those of these objects that exist, with their bytes; all are asked for at once."""
        uris = [self._folder.member(name) for name in names]
        for uri, body in zip(uris, self._map(_body, uris), strict=True):
            if body is not None:
                yield uri, body

    def _map(self, work: Callable[[Operations, T], Awaitable[R]], items: Iterable[T]) -> Iterator[R]:
        transfer = self._client.config.checkpoint
        return self._client.map(
            work, items, concurrency=transfer.prefetch_concurrency, workers=transfer.prefetch_worker, kind="lookups"
        )

    # one at a time

    @contextmanager
    def _lock(self, save_id: str) -> Iterator[None]:
        """Keep other saves from replacing the checkpoint until they stop waiting (after `PATIENCE_SECONDS`)."""
        uri = self._folder.member(METADATA_LOCK)
        since = self._take_lock(uri, save_id)
        try:
            yield
        finally:
            if self._clock() - since < PATIENCE_SECONDS:  # later, another save may have the lock
                quietly(functools.partial(self._client.delete, uri))

    def _take_lock(self, uri: OssUri, save_id: str) -> float:
        """Wait for the lock and take it. Return the time of the request that took it; minus infinity if none did."""
        begun = since = self._clock()
        holder = b""
        while self._clock() - begun < MOST_PATIENCE_SECONDS:
            asked = self._clock()
            try:
                self._client.put(uri, save_id.encode(), forbid_overwrite=True)
                return asked
            except OssConflictError:
                pass
            except OssError as error:
                _logger.warning("%s is replaced without a lock: %s", self._folder.id, error)
                return -math.inf
            if (now_held_by := self._holder(uri)) != holder:
                _logger.info("%s is being replaced by another save: waiting for that", self._folder.id)
                holder, since = now_held_by, self._clock()
            elif self._clock() - since >= PATIENCE_SECONDS:
                _logger.warning("%s: a save that was replacing it has not ended, its lock is removed", self._folder.id)
                try:
                    self._client.delete(uri)
                except OssError as error:  # for example, credentials that may not delete
                    _logger.warning("%s is replaced without a lock: %s", self._folder.id, error)
                    return -math.inf
            self._sleep(POLL_SECONDS)
        _logger.warning("%s is replaced without a lock: other saves have it all the time", self._folder.id)
        return -math.inf

    def _holder(self, uri: OssUri) -> bytes:
        try:
            return self._client.get(uri).body
        except OssError:
            return b""


async def _is_there(uri: OssUri, operations: Operations) -> bool:
    try:
        await operations.head(uri)
    except OssNotFoundError:
        return False
    return True


async def _body(operations: Operations, uri: OssUri) -> bytes | None:
    try:
        return (await operations.get(uri)).body
    except OssNotFoundError:
        return None


async def _remove(folder: CheckpointFolder, names: list[str], operations: Operations) -> None:
    await operations.delete_many(folder.uri.bucket, [folder.member(name).key for name in names])


async def _listed(root: OssUri, operations: Operations, folder: str) -> Mapping[str, int]:
    """Return the sizes of data files and rank metadata in one folder, by their names relative to the checkpoint."""
    found: dict[str, int] = {}
    prefix, token = OssUri(root.bucket, f"{root.key}{folder}__"), ""
    while True:
        page = await operations.list_page(prefix, delimiter="/", token=token)
        found.update((key[len(root.key) :], size) for key, size in zip(page.keys, page.sizes, strict=True))
        token = page.next_token
        if not token:
            return found


def _sizes(metadata: Metadata) -> dict[str, int]:
    """Return the files that the metadata names, with their sizes. A file ends where its last item ends."""
    sizes: dict[str, int] = {}
    for info in metadata.storage_data.values():
        sizes[info.relative_path] = max(sizes.get(info.relative_path, 0), info.offset + info.length)
    return sizes


def _is_metadata(name: str) -> bool:
    """Return whether a name is that of a checkpoint's metadata. Damaged metadata may name it as data."""
    return name.rpartition("/")[2] == metadata_name()


def _names(metadata: Metadata) -> set[str]:
    return {info.relative_path for info in metadata.storage_data.values()}
