"""Objects as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch

from ..client.client import OssClient
from ..datapipes.fetcher import OnError, OssObjectFetcher, Skipping, fetch, identity
from ..datapipes.job import share_rank0_index, this_rank
from ..datapipes.numbered_objects import NumberedObjects, OssObjectSharder, OssObjectShuffler
from ..datapipes.resumable import ObjectRun, ResumableDataset, Slot
from ..datapipes.state import checked_epoch
from ..datapipes.torch_pipes import IterDataPipe
from ..errors import OssConfigError, OssError, OssUsageError
from ..index.chunks import Chunks
from ..index.info import ObjectInfo
from ..index.orders import RankBalance, Share
from ..index.shared import ObjectIndex, SharedIndex
from .object_dataset import ObjectDataset, Transform
from .shown import counted

_SHARD_RANKS = "shard_ranks=True"
_UNDECIDED = "give OssIterableDataset shard_ranks=True to share them out, or shard_ranks=False if that is meant"


class OssIterableDataset(ObjectDataset, ResumableDataset):
    """Objects in the order of the listing, the manifest or the names, fetched ahead of the reader.

    Create it with `from_prefix`, `from_objects`, `from_manifest_file`, `from_tar` or `from_index`. In a DataLoader with
    n workers, each worker yields every n-th object (of tars, every n-th group of neighbours), and all workers together
    yield each object once. All use the same listing. The dataset can be iterated any number of times, and by several
    iterators at once. Options of the `from_` methods:

    shuffle: bool | "chunks" = False
        True: each epoch (see `set_epoch`) has another order, which depends only on `seed` and the epoch. All objects
        are shuffled, so the first one comes when the listing is complete. Shuffling takes no memory.
        "chunks": chunks of `shuffle_chunk_size` neighbours come in a random order, and the objects of each chunk in
        another. For members of a tar this is faster: those of a chunk come by a few requests.
    shuffle_chunk_size: int = 1000
        How many neighbours are a chunk.
    seed: int = 0
        The seed of `shuffle`.
    shard_ranks: bool | None = None
        True: each rank of torch.distributed, and each worker of it, yields its share; all read rank 0's listing.
        Making the dataset is then a collective call: all ranks make it at the same point of the program.
        False: each rank reads all objects. None: the same, with a warning if there are several ranks.
    even: "none" | "drop" | "repeat" = "none"
        With `shard_ranks`, gives all ranks the same number of objects: "drop" leaves out the last few, "repeat" yields
        a few twice.
    relist: "never" | "epoch" = "never"
        "epoch": `set_epoch` with another number lists the objects again. With `shard_ranks` it is then a collective
        call.
    on_error: "raise" | "skip" | function = "raise"
        "skip": an object that can't be read even after retries is left out, logged and counted in `skipped_objects`.
        A function is called with the `ObjectInfo` and the error. What it returns stands in the place of the object; if
        it returns None, the object is left out. It may raise.
    in_order: bool = True
        False: objects come as they arrive. Then there is no position to resume from.

    `state_dict()` returns the position of the latest iterator; after `load_state_dict()` the next iterator continues
    from it.

    The `from_` methods raise `OssConfigError` for a wrong option, or `even` without `shard_ranks`, and
    `OssUsageError` for `shard_ranks` without an initialized torch.distributed. While iterated, it raises
    `OssNotFoundError` for an object that is missing or a prefix without objects, `OssTransformError` if `transform`
    raises, `OssUsageError` if a loaded state does not fit, and other `OssError`s of failed requests.
    """

    def __init__(
        self,
        objects: NumberedObjects,
        client: OssClient,
        transform: Transform = identity,
        *,
        shuffle: bool | Literal["chunks"] = False,
        shuffle_chunk_size: int = 1000,
        seed: int = 0,
        shard_ranks: bool | None = None,
        even: RankBalance = "none",
        relist: Literal["never", "epoch"] = "never",
        on_error: OnError = "raise",
        in_order: bool = True,
    ) -> None:
        ObjectDataset.__init__(self, objects, client, transform)
        _check_choice("even", even, ("none", "drop", "repeat"))
        _check_choice("relist", relist, ("never", "epoch"))
        _check_choice("shuffle", shuffle or "", ("", True, "chunks"))
        if shuffle_chunk_size < 1:
            raise OssConfigError(f"shuffle_chunk_size: {shuffle_chunk_size} is less than one")
        if relist == "epoch" and objects.has_classes:
            raise OssConfigError('relist="epoch" does not go with labels="folders": a new folder would change numbers')
        self._chunk_rows = shuffle_chunk_size if shuffle == "chunks" else 0
        if even != "none" and not shard_ranks:
            raise OssConfigError(f'even="{even}" evens out ranks: it needs shard_ranks=True')
        ResumableDataset.__init__(
            self,
            self._index,
            objects.identity,
            folder=client.config.index_dir,
            seed=seed if shuffle else None,
            rank=Share(*this_rank(_SHARD_RANKS)) if shard_ranks else Share(),
            balance=even,
            undecided=_UNDECIDED if shard_ranks is None else "",
            chunking=Chunks(self._chunk_rows, are_shuffled=True) if self._chunk_rows else objects.chunking,
        )
        self._skipping = Skipping(on_error, self._numbers, Slot.SKIPPED)
        self._relist, self._in_order, self._shard_ranks, self._on_error = relist, in_order, shard_ranks, on_error
        if shard_ranks:
            share_rank0_index(self._index, _SHARD_RANKS)

    @property
    def skipped_objects(self) -> int:
        """The number of objects that all processes have left out or replaced because they can't be read."""
        return self._skipping.count()

    def set_epoch(self, epoch: int) -> None:
        """Start epoch `epoch` with the next iterators, also in workers that are already running.

        Raises `OssUsageError` if it is not a whole number of at most 64 bits. With `relist="epoch"`, lists again.
        """
        before, epoch = self.epoch, checked_epoch(epoch)
        index = self._index_of(epoch)
        if epoch != before and self._relist == "epoch" and isinstance(index, SharedIndex):
            index.ensure_file()  # this process keeps it open, so it stays when the first worker is done
            if self._shard_ranks:
                share_rank0_index(index, _SHARD_RANKS)
        super().set_epoch(epoch)

    def shuffle(self, generator: torch.Generator | None = None) -> None:
        """Give the next iterators another order: that of the next epoch, or of one that `generator` draws.

        Raises `OssUsageError` for a dataset that is not shuffled. `set_epoch` does the same by number.
        """
        if self._seed is None:
            raise OssUsageError('the dataset is in order: make it with shuffle=True or shuffle="chunks"')
        if generator is None:
            self.set_epoch(self.epoch + 1)
        else:
            self.set_epoch(int(torch.randint(1 << 62, (), generator=generator)))

    def datapipe(self) -> IterDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained.

        The graph has the order of the current epoch. As with all datapipes, the loader that runs the graph divides the
        objects among its workers; with `shard_ranks` they are already divided among the ranks. Each call returns a new
        graph; all use the same listing.
        """
        index = self._index_of(self.epoch)
        objects = self._objects
        if index is not self._index:
            objects = NumberedObjects(index, objects.identity, objects.bucket, objects.chunking)
        if self._seed is not None:
            objects = OssObjectShuffler(objects, seed=self._seed, chunk_rows=self._chunk_rows)
            objects.set_epoch(self.epoch)
        sharder = OssObjectSharder(objects)
        if self._shard_ranks:
            sharder.shard_ranks(self._rank, self._balance)
        return OssObjectFetcher(
            sharder, self._client, transform=self._transform, in_order=self._in_order, on_error=self._on_error
        )

    def _items(self, run: ObjectRun) -> Iterator[Any]:
        def skip(info: ObjectInfo, error: OssError) -> object:
            substitute = self._skipping(info, error)
            run.consumed += substitute is None
            return substitute

        return fetch(
            self._client,
            run.remaining(),
            transform=self._transform,
            in_order=self._in_order,
            skip=skip if self._skipping.is_on else None,
            bucket=self._objects.awaited_bucket,
            window=self._chunking.window(run.consumed),
        )

    def _no_position(self) -> str:
        return "" if self._in_order else "with in_order=False there is no position: make the dataset without it"

    def _notes(self) -> list[str]:
        notes = [] if self._seed is None else [f"shuffled by seed {self._seed}"]
        notes += [f"epoch {self.epoch}"] if self.epoch else []
        notes += [f"rank {self._rank.first} of {self._rank.step}"] if self._shard_ranks else []
        if self._run is not None and self._run.consumed:
            notes.append(f"{counted(self._run.consumed, 'object')} given out")
        return notes

    @property
    def _present_index(self) -> ObjectIndex:
        return self._index_of(self.epoch)

    def _index_of(self, epoch: int) -> ObjectIndex:
        if self._relist == "epoch" and isinstance(self._index, SharedIndex):
            return self._index.for_epoch(epoch)
        return self._index


def _check_choice(name: str, value: Any, choices: tuple[str | bool, ...]) -> None:
    if value not in choices:
        raise OssConfigError(f"{name}: {value!r} is none of {', '.join(map(str, choices))}")
