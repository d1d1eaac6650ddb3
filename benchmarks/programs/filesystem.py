"""`oss://` by fsspec: our `OssFileSystem` and ossfs do the same calls. `where` has what each needs to get there."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gauge import Done, Program, warm_memory

Where = Mapping[str, Any]


def read(where: Where, path: str, size: int, is_cat: bool) -> Program:
    """Read an object of `size` bytes: `cat_file`, or `open` and `read`."""
    fs = _file_system(where)
    fs.cat_file(f"{path}.small")
    warm_memory(2 * size)
    yield None
    if is_cat:
        data = fs.cat_file(path)
    else:
        with fs.open(path, "rb") as file:
            data = file.read()
    yield Done(size)
    assert len(data) == size


def put_file(where: Where, path: str, local: str, size: int) -> Program:
    """Upload a local file of `size` bytes."""
    fs = _file_system(where)
    fs.pipe_file(f"{path}.small", b"small")
    yield None
    fs.put_file(local, path)
    yield Done(size)
    assert Path(local).stat().st_size == size


def cat_ranges(where: Where, paths: Sequence[str], size: int, count: int, range_size: int) -> Program:
    """Fetch `count` ranges of `range_size` bytes of objects of `size` bytes."""
    fs = _file_system(where)
    fs.cat_file(paths[0], 0, 10)
    chance = random.Random(count)
    chosen = [chance.choice(paths) for _ in range(count)]
    starts = [chance.randrange(size - range_size) for _ in range(count)]
    # ossfs takes the end as the last byte.
    ends = [start + range_size - ("is_end_inclusive" in where) for start in starts]
    yield None
    found = fs.cat_ranges(chosen, starts, ends, on_error="raise")
    yield Done(count)
    assert [len(data) for data in found] == [range_size] * count


def find(where: Where, path: str, warm_up: str, count: int) -> Program:
    """List all names below a path."""
    fs = _file_system(where)
    assert fs.find(warm_up)
    yield None
    found = fs.find(path)
    yield Done(count)
    assert len(found) == count


def read_parquet(where: Where, path: str, columns: Sequence[str], rows: int, needed: int) -> Program:
    """Read some columns of a Parquet file by pandas. `needed` is the number of bytes that they have in the file."""
    import pandas as pd

    fs = _file_system(where)
    pd.read_parquet(f"{path}.small", columns=columns[:1], filesystem=fs)
    warm_memory(2 * needed)
    yield None
    found = pd.read_parquet(path, columns=columns, filesystem=fs)
    yield Done(needed, {"needed_bytes": needed})
    assert found.shape == (rows, len(columns))


def _file_system(where: Where) -> Any:
    options = dict(where)
    if options.pop("is_end_inclusive", False):
        from ossfs import OSSFileSystem

        return OSSFileSystem(**options)
    assert "ossfs" not in sys.modules
    from osstorchconnector import OssFileSystem

    return OssFileSystem(**options)
