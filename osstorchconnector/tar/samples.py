"""Members that are one sample: WebDataset's habit, `0001.jpg`, `0001.json` and `0001.cls` side by side in a tar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class MemberRow(NamedTuple):
    """A member, or members side by side that are one sample: name, size and place in the tar, all in bytes.

    The name is "", and the size -1, where they are not known.
    """

    name: str
    size: int
    start: int
    stop: int


def split_name(name: str) -> tuple[str, str]:
    """Return the part of a member's name that a sample's members share, and the rest behind the first dot of the file's
    name: `("a/0001", "seg.png")` of `a/0001.seg.png`, `("a/b", "")` of `a/b`.
    """
    folder, slash, file = name.rpartition("/")
    base, _, extension = file.partition(".")
    return (f"{folder}{slash}{base}", extension) if base else (name, "")


def grouped(rows: Iterable[MemberRow]) -> Iterator[MemberRow]:
    """Yield a row for each sample: neighbours that share the first part of their names. Their sizes are added."""
    sample: MemberRow | None = None
    for row in rows:
        base, _ = split_name(row.name)
        if sample is not None and sample.name == base:
            sample = MemberRow(base, sample.size + row.size, sample.start, row.stop)
            continue
        if sample is not None:
            yield sample
        sample = row._replace(name=base)
    if sample is not None:
        yield sample
