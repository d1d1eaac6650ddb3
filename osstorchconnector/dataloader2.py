"""A reading service for torchdata's DataLoader2 (before torchdata 0.10) whose state is good in mid-epoch.

    loader = DataLoader2(graph, reading_service=OssReadingService(num_workers=2))
    ...
    state = loader.state_dict()  # after any step
    loader = DataLoader2.from_state(state, OssReadingService(num_workers=3))

torchdata's own services begin the epoch again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from .datapipes.graph import OssPipeDataset
from .datapipes.state import LARGEST_NUMBER, merge_states
from .datapipes.torch_pipes import IterDataPipe
from .errors import OssUsageError
from .optional import needed

if TYPE_CHECKING:
    from torchdata.stateful_dataloader import StatefulDataLoader

    CheckpointableReadingServiceInterface = Any
else:
    try:
        with warnings.catch_warnings():
            # An import of this module is the user's choice.
            warnings.filterwarnings(
                "ignore", message=r"[\s#]*WARNING!\s+The 'datapipes', 'dataloader2' modules are depr"
            )
            from torchdata.dataloader2.reading_service import CheckpointableReadingServiceInterface
            from torchdata.stateful_dataloader import StatefulDataLoader
    except Exception as error:  # missing, of another version or broken
        _problem = error

        class CheckpointableReadingServiceInterface:
            def __init__(self) -> None:
                raise needed("osstorchconnector.dataloader2", "torchdata>=0.8,<0.10", _problem)


class OssReadingService(CheckpointableReadingServiceInterface):  # type: ignore[misc, unused-ignore]
    """Run a graph of our pipes in this process, or in `num_workers` worker processes, with a position.

    The graph is one that `to_dataset()` takes, and of stages that have a position, since that is what runs here, in a
    `StatefulDataLoader`. DataLoader2 orders each epoch by its seed generator. A state that was taken with another
    number of workers is shared out anew. For several ranks take `to_dataset()` and `merge_states`.
    """

    def __init__(self, num_workers: int = 0, *, multiprocessing_context: str | None = None) -> None:
        super().__init__()
        self._workers, self._context = num_workers, multiprocessing_context
        self._items: _Items | None = None
        self._is_in_epoch = self._goes_on = False

    def initialize(self, datapipe: IterDataPipe[Any]) -> IterDataPipe[Any]:
        """Return the pipe that DataLoader2 reads from."""
        _refuse_ranks()
        dataset = OssPipeDataset(datapipe)
        dataset.state_dict()  # says so now if there is no position
        self._items = _Items(dataset, self._workers, self._context)
        return self._items

    def restore(self, datapipe: IterDataPipe[Any], serialized_state: bytes) -> IterDataPipe[Any]:
        """Return a pipe that goes on where the state was taken; `OssUsageError` for bytes that are no state of it."""
        found = self.initialize(datapipe)
        if serialized_state != b"":  # which is the state between epochs
            assert self._items is not None
            self._items.go_on(_parsed(serialized_state))
            self._goes_on = True
        return found

    def checkpoint(self) -> bytes:
        """Return how far the epoch has come; nothing between epochs."""
        return json.dumps(self._items.state()).encode() if self._items is not None and self._is_in_epoch else b""

    def initialize_iteration(self, seed_generator: Any, iter_reset_fn: Any = None) -> Any:
        """Order the epoch that begins; one that goes on has its order."""
        assert self._items is not None
        if not self._goes_on:
            self._items.set_epoch(seed_generator.generate_shared_seed() & LARGEST_NUMBER)
        self._is_in_epoch, self._goes_on = True, False
        return iter_reset_fn

    def finalize_iteration(self) -> None:
        """Note that the epoch is over."""
        self._is_in_epoch = False

    def finalize(self) -> None:
        """Let the workers go."""
        if self._items is not None:
            self._items.close()
            self._items = None


class _Items(IterDataPipe[Any]):
    """What a `StatefulDataLoader` makes of a dataset; as a pipe, since that is what DataLoader2 reads."""

    def __init__(self, dataset: OssPipeDataset, workers: int, context: str | None) -> None:
        self._dataset = dataset
        self._loader: StatefulDataLoader[Any] | None = StatefulDataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
            snapshot_every_n_steps=1,
        )
        self._running: Generator[Any, None, None] | None = None

    def __iter__(self) -> Generator[Any, None, None]:
        if self._loader is None:
            raise OssUsageError("the loader has been shut down")
        self._running = items = _given_out(self._loader)
        return items

    def set_epoch(self, epoch: int) -> None:
        self._dataset.set_epoch(epoch)

    def state(self) -> dict[str, Any]:
        """Return how far all workers have come."""
        assert self._loader is not None
        return merge_states([self._loader.state_dict()])

    def go_on(self, state: dict[str, Any]) -> None:
        """Let the next iterator begin where the state was taken, with whatever number of workers."""
        self._dataset.load_state_dict(state)

    def close(self) -> None:
        """Let the workers go, although DataLoader2 may still hold the iterator."""
        if self._running is not None:
            self._running.close()
        self._loader = self._running = None


def _parsed(serialized_state: Any) -> Any:
    try:
        return json.loads(serialized_state)
    except (ValueError, TypeError, RecursionError) as error:
        raise OssUsageError(f"the state of OssReadingService is damaged: {type(error).__name__}") from None


# No order and no count of its own: StatefulDataLoader iterates an `OssPipeDataset`, which does both.
def _given_out(loader: StatefulDataLoader[Any]) -> Generator[Any, None, None]:
    yield from loader


def _refuse_ranks() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise OssUsageError(
            "OssReadingService is for one rank: take graph.to_dataset() in a StatefulDataLoader, or "
            "OssIterableDataset with shard_ranks=True"
        )
