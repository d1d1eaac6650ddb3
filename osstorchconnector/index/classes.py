"""Classes: labels as numbers.

labels that are names --`Classified`--> numbers of the names, and the names      while the table is made
labels of a table     --`LabelNumbers`--> their numbers: `targets`, `classes`    when it is complete
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import zlib
from array import array
from collections.abc import Generator, Iterator, Sequence
from typing import IO, Any

from ..errors import OssError, OssNotFoundError, OssUsageError
from .filters import selected
from .held_file import choose_folder
from .labels import pack_classes, unpack_label
from .layout import Batch, RowBlock, block_bytes, pack_block, row_blocks
from .shared import ObjectIndex
from .shared_file import Source, Wait

_HEAD_BYTES = 32
_SPOOL_BYTES = 32 << 20

_logger = logging.getLogger(__name__)


class Classified:
    """A source whose labels are the names of folders, with numbers in their place: those of the sorted names, from 0.

    A number depends on all names, so the first row comes when all are known. Until then the rows are in memory, and in
    a temporary file if they are many. An object without a folder is left out, with one warning for all such objects;
    `OssNotFoundError` if no object is in a folder. `where` tells in both what was listed.
    """

    def __init__(self, source: Source, where: str, *, folder: str = "") -> None:
        self._source, self._where, self._folder = source, where, folder

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        done, known_sum = map(int, cursor.split() or (0, 0))
        with _spooled(self._folder) as spool:
            found = _Found()
            with contextlib.closing(self._source.batches(b"", wait)) as batches:
                for batch in batches:
                    spool.write(pack_block(found.note(batch)))
                    yield Batch("", (), (), cursor=cursor)  # shows those who wait that the listing goes on
            self._check(found)
            names = sorted(found.names)
            sum_ = zlib.crc32(pack_classes(names))
            if not cursor:
                yield Batch("", (), (), None, b"0 %d" % sum_, found.skipped, classes=names)
            elif sum_ != known_sum:
                raise OssError(f"folders under {self._where} have come or gone while it was listed: begin again")
            spool.seek(0)
            numbers = {name: number for number, name in enumerate(names)}
            yield from _numbered(_unpacked(spool), numbers, done, sum_)

    def _check(self, found: _Found) -> None:
        if not found.homeless:
            return
        if not found.names:
            raise OssNotFoundError(
                f'labels="folders": no object under {self._where} is in a folder below it; found {found.example!r}'
            )
        _logger.warning(
            'labels="folders": %d objects under %s are in no folder, and are left out, such as %r',
            found.homeless,
            self._where,
            found.example,
        )


class _Found:
    """What the rows of a source have told so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.skipped = self.homeless = 0
        self.example = ""

    def note(self, batch: Batch) -> Batch:
        """Return the rows of a batch that are in a folder."""
        labels: Sequence[str] = batch.labels or [""] * len(batch.tails)
        self.skipped += batch.skipped
        self.names.update(labels)
        if "" not in labels:
            return batch
        self.names.discard("")
        self.homeless += labels.count("")
        self.example = self.example or batch.base + batch.tails[labels.index("")]
        return selected(batch, [row for row, label in enumerate(labels) if label])


def _numbered(batches: Iterator[Batch], numbers: dict[str, int], done: int, sum_: int) -> Iterator[Batch]:
    """Yield the rows that come after the first `done`, with numbers as labels."""
    seen = 0
    for batch in batches:
        rest = selected(batch, range(max(0, done - seen), len(batch.tails))) if seen < done else batch
        seen += len(batch.tails)
        labels = [numbers[name] for name in rest.labels or ()]
        yield rest._replace(labels=labels, cursor=b"%d %d" % (max(done, seen), sum_))


@contextlib.contextmanager
def _spooled(folder: str) -> Iterator[IO[bytes]]:
    try:
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=choose_folder(folder)) as file:
            yield file
    except OSError as error:
        if isinstance(error, OssError):
            raise
        raise OssError(
            f"the table of objects can't be kept while classes are numbered: {error.strerror}; name a folder with more "
            "room by indexDir in the config"
        ) from error


def _unpacked(file: IO[bytes]) -> Iterator[Batch]:
    while head := file.read(_HEAD_BYTES):
        block = head + file.read(block_bytes(head) - len(head))
        yield RowBlock(memoryview(block), 0).batch(b"")


class LabelNumbers:
    """The labels of all objects of an index, as numbers. Each first use waits until the index is complete.

    Labels that are texts are numbered in sorted order, as torchvision does. Whole numbers, and texts of digits, are
    their own numbers. Raises `OssUsageError` if an object has no label, and for other labels.
    """

    def __init__(self, index: ObjectIndex) -> None:
        self.index = index
        self._read: tuple[list[Any], dict[Any, int], list[int]] | None = None

    @property
    def known_classes(self) -> int | None:
        """How many classes there are; None if nobody has asked for them yet."""
        return None if self._read is None else len(self._read[0])

    @property
    def classes(self) -> list[Any]:
        """The labels, sorted; if they are numbers of folders, the names of the folders."""
        return self._known()[0]

    @property
    def class_to_idx(self) -> dict[Any, int]:
        """The number of each of `classes`."""
        return self._known()[1]

    @property
    def targets(self) -> list[int]:
        """The number of each object's label, in the order of the index."""
        return self._known()[2]

    def __reduce__(self) -> tuple[type[LabelNumbers], tuple[ObjectIndex]]:
        return LabelNumbers, (self.index,)  # without what was read: it is as long as the index

    def _known(self) -> tuple[list[Any], dict[Any, int], list[int]]:
        if self._read is None:
            self._read = _read(self.index)
        return self._read


def _read(index: ObjectIndex) -> tuple[list[Any], dict[Any, int], list[int]]:
    names: tuple[str, ...] = ()
    codes: dict[bytes, int] = {}  # labels as they are stored, in the order in which they are first met
    rows = array("I")
    are_members = False
    for block, _ in row_blocks(index.blocks()):
        names = names or block.classes
        are_members = are_members or (block.is_of_tar and block.rows > 0)
        rows.extend([codes.setdefault(stored, len(codes)) for stored in block.stored_labels()])
    labels = list(map(unpack_label, codes))
    if are_members and not names:
        labels = [""]  # they are numbers of members: no two are equal
    numbers = _by_class(labels, len(names)) if names else _by_label(labels)
    targets = [numbers[label] for label in labels]
    classes = list(names) or sorted(numbers, key=numbers.__getitem__)
    class_to_idx = {name: number for number, name in enumerate(names)} or {name: numbers[name] for name in classes}
    # One object for each number, not for each row: a list of a million then takes 8 MB.
    return classes, class_to_idx, [targets[code] for code in rows]


def _by_class(labels: list[Any], count: int) -> dict[Any, int]:
    if not all(type(label) is int and 0 <= label < count for label in labels):
        raise OssError(
            f"the table of objects is damaged: it has {count} classes, and labels that are not their numbers"
        )
    return {label: label for label in labels}


def _by_label(labels: list[Any]) -> dict[Any, int]:
    """Return the number of each label."""
    if "" in labels:
        raise OssUsageError(
            'objects without a label have no class: make the dataset with labels="folders", or from a manifest that '
            "has a label for each object"
        )
    if all(type(label) is int for label in labels):
        return {label: label for label in labels}
    if not all(type(label) is str for label in labels):
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise OssUsageError(f"labels have classes if all are texts, or all are whole numbers; these are: {kinds}")
    if all(label.isdecimal() for label in labels):
        return {label: int(label) for label in labels}
    return {label: number for number, label in enumerate(sorted(labels))}
