"""Ray Data: objects as rows of a dataset, and rows as objects.

    dataset = read_objects("oss://bucket/train/", "https://oss-cn-beijing.aliyuncs.com", cred_path="credentials.json")
    for batch in dataset.map(decoded).iter_torch_batches(batch_size=32):
        ...
    write_objects(dataset.map(smaller), "oss://bucket/small/", client, manifest_uri="oss://bucket/small.jsonl")

The process that calls `read_objects` lists once. Each read task gets its neighbours of the table and a client without
secrets, and yields blocks of a fixed size in a fixed order: Ray may run a task again after its worker was killed, and
then needs the same blocks.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..client.client import OssClient, as_client
from ..datapipes.fetcher import fetch
from ..datapipes.lister import OssObjectLister
from ..datapipes.numbered_objects import NumberedObjects
from ..datapipes.saver import OssObjectSaver
from ..errors import OssConfigError, OssUsageError
from ..index.filters import Filter
from ..index.fixed import FixedIndex, Neighbours
from ..index.labels import unpack_label
from ..index.layout import UNKNOWN_SIZE
from ..optional import needed
from ..uri import parse_object_uri, parse_uri

_problem: Exception | None = None
try:
    import pyarrow as pa
    from ray.data import Datasink, Datasource, ReadTask, read_datasource
    from ray.data.block import BlockAccessor, BlockMetadata
except Exception as error:  # missing, too old or broken
    _problem, Datasink, Datasource = error, object, object  # type: ignore[assignment, misc, unused-ignore]

KEY, LABEL, BYTES, PATH = "key", "label", "bytes", "path"

# A block that a read task yields ends with the object with which it has this many bytes.
BLOCK_BYTES = 32 << 20
# What an object counts for besides its bytes when a table is cut into tasks: a request takes time, too.
REQUEST_BYTES = 16 << 10
# Ray keeps the rows of each task in its object store, and warns of more than 1 MiB.
TASK_ROWS = 10_000


def read_objects(
    objects: str | Iterable[str] | NumberedObjects,
    endpoint: str | OssClient,
    *,
    cred_path: str = "",
    cred_provider: object | None = None,
    anonymous: bool = False,
    config_path: str = "",
    region: str = "",
    filter: Filter = None,
    include_paths: bool = False,
    **options: Any,
) -> Any:
    """Return a Ray dataset with a row for each object: `key` (text), `label`, and `bytes`.

    `objects` is an `oss://bucket/prefix`, several, or one of the pipes that name objects: an `OssObjectNames`, an
    `OssManifestParser`, an `OssSavedObjects` (a saved index), or an `OssTarLister` (members of tars, not grouped). They
    are listed here and now. `filter` is for prefixes. `key` is the object's key in its bucket, or the member's name.
    There is a column `label` if any object has a label; it is null where an object has none. `include_paths` adds the
    column `path`: `oss://bucket/key`. `options` are those of `ray.data.read_datasource`: `override_num_blocks` and so
    on. As with all datasets of Ray, rows come in order only with `preserve_order` in its execution options.

    A read task has neighbours, and all tasks have about the same number of bytes. A task holds at most 256 MiB of
    fetched objects, or one that is larger, besides the block that Ray gathers (128 MiB, `target_max_block_size`). Its
    worker finds credentials as other processes do: in the file `cred_path`, in its own environment, or by its machine's
    role. Keys of a `cred_provider` reach workers of this machine only.

    Raises `OssNotFoundError` for a prefix without objects, `OssUsageError` for labels of different kinds, and
    `OssConfigError` without Ray. While the dataset is read, an object that can't be had is an `OssError` that names it.
    """
    _check_ray("read_objects")
    client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
    if not isinstance(objects, NumberedObjects):
        objects = OssObjectLister(objects, client, filter=filter)
    elif filter is not None:
        raise OssConfigError("filter: the pipe that names the objects takes it")
    if objects.index is None:
        raise OssConfigError("read_objects takes prefixes, not a pipe of them")
    if unknown := options.keys() - inspect.signature(read_datasource).parameters.keys():
        raise OssConfigError(f"neither read_objects nor ray.data.read_datasource has an option {min(unknown)!r}")
    table = FixedIndex.of_blocks(bytes(objects.index.blocks()), folder=objects.index.folder)
    return read_datasource(OssDatasource(table, client, include_paths=include_paths), **options)


class OssDatasource(Datasource):
    """The source behind `read_objects`: a table of objects, and a client for them."""

    def __init__(self, table: FixedIndex, client: OssClient, *, include_paths: bool = False) -> None:
        self._table, self._client = table, pickle.dumps(client)
        self._sizes = np.concatenate([np.zeros(0, "q"), *(np.asarray(block.sizes) for block in table.row_blocks())])
        self._schema = _schema(table, include_paths=include_paths)

    def get_name(self) -> str:
        """Return the name that Ray shows."""
        return "OssObjects"

    def estimate_inmemory_data_size(self) -> int | None:
        """Return the sum of the objects' sizes in bytes; None if one is not known."""
        return None if np.any(self._sizes == UNKNOWN_SIZE) else int(self._sizes.sum())

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> Any:
        """Return about `parallelism` tasks, each with neighbours of the table."""
        bounds = even_bounds(self._sizes, max(parallelism, -(-len(self._sizes) // TASK_ROWS)))
        sums = [int(self._sizes[start:stop].sum()) for start, stop in itertools.pairwise(bounds)]
        has_sizes = self.estimate_inmemory_data_size() is not None
        return [
            self._task(part, sum_ if has_sizes else None, per_task_row_limit)
            for part, sum_ in zip(self._table.parts(bounds), sums, strict=True)
        ]

    def _task(self, part: Neighbours, size: int | None, limit: int | None) -> Any:
        client, schema = self._client, self._schema

        def read() -> Iterator[Any]:  # no method: what Ray keeps of each task must not have the whole table
            return _blocks(client, part, schema, limit)

        rows = part.count if limit is None else min(limit, part.count)
        about = BlockMetadata(num_rows=rows, size_bytes=size, input_files=None, exec_stats=None)
        return ReadTask(read, about, schema=schema, per_task_row_limit=limit)


def even_bounds(sizes: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return the row numbers at which at most `count` parts of about the same weight begin, and the number of rows.

    A row weighs its bytes, those of an average row if they are not known, and what a request costs.
    """
    if not len(sizes):
        return [0]
    known = sizes[sizes != UNKNOWN_SIZE]
    average = int(known.mean()) if len(known) else 0
    weights = np.cumsum(np.where(sizes == UNKNOWN_SIZE, average, sizes) + REQUEST_BYTES)
    wanted = weights[-1] * np.arange(1, count) / count
    return sorted({0, *np.searchsorted(weights, wanted, side="right").tolist(), len(sizes)})


def _schema(table: FixedIndex, *, include_paths: bool) -> Any:
    columns = [pa.field(KEY, pa.string())]
    if any(block.is_labelled for block in table.row_blocks()):
        columns.append(pa.field(LABEL, _label_type(table)))
    columns.append(pa.field(BYTES, pa.large_binary()))  # not `binary`: an object, or a block, may have 2 GiB
    return pa.schema([*columns, pa.field(PATH, pa.string())] if include_paths else columns)


def _label_type(table: FixedIndex) -> Any:
    """Return the Arrow type that all labels have."""
    found = pa.schema([pa.field(LABEL, pa.null())])
    try:
        for block in table.row_blocks():
            some = [_label(unpack_label(stored)) for stored in set(block.stored_labels())]
            schemas = [found, pa.schema([pa.field(LABEL, pa.array(some).type)])]
            found = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise OssUsageError(
            f"the labels are of different kinds, and a column has one kind: let the parser make them alike ({error})"
        ) from error
    return found.field(LABEL).type


def _label(label: Any) -> Any:
    return None if isinstance(label, str) and not label else label


def _blocks(pickled_client: bytes, part: Neighbours, schema: Any, limit: int | None) -> Iterator[Any]:
    """Yield tables of the objects, each of about `BLOCK_BYTES`."""
    client, wanted = _client(pickled_client), part.items()
    rows: list[tuple[Any, ...]] = []
    held = 0
    with contextlib.closing(fetch(client, itertools.islice(wanted, limit))) as found:
        for data in found:
            if isinstance(data, dict):
                raise OssUsageError("a row is one object: read members of tars without group_by")
            rows.append((data.name, data.read(), _label(data.label), data.uri))
            held += data.size
            if held >= BLOCK_BYTES:
                yield _arrow_table(rows, schema)
                rows, held = [], 0
    if rows:
        yield _arrow_table(rows, schema)


def _arrow_table(rows: Sequence[tuple[Any, ...]], schema: Any) -> Any:
    columns = dict(zip((KEY, BYTES, LABEL, PATH), zip(*rows, strict=True), strict=True))
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema)


# Cached, so that all tasks of a worker share one client and its connections.
@functools.lru_cache(maxsize=8)
def _client(pickled: bytes) -> OssClient:
    client = pickle.loads(pickled)
    assert isinstance(client, OssClient)
    return client


def write_objects(
    dataset: Any,
    oss_base_uri: str,
    endpoint: str | OssClient,
    *,
    cred_path: str = "",
    cred_provider: object | None = None,
    anonymous: bool = False,
    config_path: str = "",
    region: str = "",
    key_column: str = KEY,
    bytes_column: str = BYTES,
    label_column: str = LABEL,
    manifest_uri: str = "",
    **options: Any,
) -> None:
    """Store each row of a Ray dataset as the object `oss_base_uri + key`, with many requests in flight.

    An object is stored whole or not at all, and replaces an earlier one. If the call fails, or is killed, some objects
    may be there and others not. `manifest_uri`, an `oss://bucket/key`, is stored when all of them are there: a manifest
    for `jsonl_manifest_parser`, with the keys, and the labels if there is such a column. So whoever reads by the
    manifest sees all rows or none. `options` are those of `Dataset.write_datasink`: `concurrency`, ...

    Raises `OssUsageError` for a row without a key or bytes, and `OssError`s of requests that failed after all retries.
    """
    _check_ray("write_objects")
    client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
    columns = (key_column, bytes_column, label_column if manifest_uri else "")
    dataset.write_datasink(OssDatasink(oss_base_uri, client, columns, manifest_uri=manifest_uri), **options)


class OssDatasink(Datasink):  # type: ignore[type-arg, unused-ignore]
    """The sink behind `write_objects`; `columns` are those of keys, bytes and labels."""

    def __init__(
        self, oss_base_uri: str, client: OssClient, columns: tuple[str, str, str], *, manifest_uri: str = ""
    ) -> None:
        parse_uri(oss_base_uri)
        if manifest_uri:
            parse_object_uri(manifest_uri)
        self._base, self._columns, self._manifest = oss_base_uri, columns, manifest_uri
        self._client = pickle.dumps(client)

    def get_name(self) -> str:
        """Return the name that Ray shows."""
        return "OssObjects"

    def write(self, blocks: Iterable[Any], ctx: Any) -> list[str]:
        """Store the rows of one task; return their lines of the manifest, if one is wanted."""
        lines: list[str] = []
        saver = OssObjectSaver(self._rows(blocks, lines), _client(self._client), oss_base_uri=self._base)
        for _ in saver:
            pass
        return lines

    def on_write_complete(self, write_result: Any) -> None:
        """Store the manifest: all objects are there."""
        if self._manifest:
            lines = itertools.chain.from_iterable(write_result.write_returns)
            _client(self._client).put(self._manifest, "".join(lines).encode())

    def _rows(self, blocks: Iterable[Any], lines: list[str]) -> Iterator[tuple[str, memoryview]]:
        key_column, bytes_column, label_column = self._columns
        for block in blocks:
            table = BlockAccessor.for_block(block).to_arrow()
            for name in (key_column, bytes_column):
                if name not in table.column_names:
                    raise OssUsageError(f"write_objects: there is no column {name!r}, but {table.column_names}")
            has_labels = label_column in table.column_names
            labels = table[label_column].to_pylist() if has_labels else [None] * table.num_rows
            for key, data, label in zip(
                table[key_column].to_pylist(), _bodies(table[bytes_column]), labels, strict=True
            ):
                if not isinstance(key, str) or data is None:
                    raise OssUsageError(f"write_objects: a row without key or bytes: key {key!r}, bytes {data!r:.20}")
                if self._manifest:
                    lines.append(_line(key, label))
                yield key, data


def _bodies(column: Any) -> Iterator[memoryview | None]:
    """Yield the bytes of each row, without a copy; None for a row without."""
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise OssUsageError(f"write_objects: the column of bytes has {column.type}")
    for value in column:
        buffer = value.as_buffer()
        yield None if buffer is None else memoryview(buffer)


def _line(key: str, label: Any) -> str:
    try:
        return json.dumps({"key": key} if label is None else {"key": key, "label": label}) + "\n"
    except TypeError as error:
        raise OssUsageError(f"write_objects: the label of {key!r} can't stand in a manifest: {error}") from error


def _check_ray(name: str) -> None:
    if _problem is not None:
        raise needed(f"osstorchconnector.integrations.ray.{name}", "ray[data]>=2.50", _problem)
