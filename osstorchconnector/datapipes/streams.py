"""Objects for stages that take named streams, as torchdata's archive readers do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.utils.common import StreamWrapper

from ..files.data_object import DataObject
from .numbered_objects import functional


@functional("as_named_streams")
class OssNamedStreams(IterDataPipe[tuple[str, StreamWrapper]]):
    """Yield (uri, stream) for each `DataObject` (functional form: `as_named_streams`).

    This is what `load_from_tar` and `load_from_zip` take.
    """

    def __init__(self, source: Iterable[DataObject]) -> None:
        self._source = source

    def __len__(self) -> int:
        """Return the length of the source, if it has one."""
        return len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[str, StreamWrapper]]:
        for data in self._source:
            yield data.uri, StreamWrapper(data, name=data.uri)
