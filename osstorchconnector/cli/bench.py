"""The command bench: what this machine gets of the user's own bucket."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple

import typer

from ..client.limiter import usable_cores
from ..errors import OssUsageError
from ..uri import OssUri
from .charts import bar_chart, import_pillow
from .measures import (
    LARGE_BYTES,
    MIB,
    SMALL_BYTES,
    WRITTEN_SMALL_BYTES,
    Bounds,
    Measured,
    Steps,
    large_read,
    large_write,
    loader_reads,
    measured,
    sample_of,
    small_reads,
    small_writes,
    torch_load,
    torch_save,
)
from .places import Remote, place, remote
from .run import app, confirm, session
from .show import bar, note, out, out_json, size_text

_ASKED_BYTES = 1_000_000_000
_MOST_LISTED = 10_000
_WORKERS = (0, 1, 2, 4, 8)
_MOST_WORKERS = 256


class Measure(NamedTuple):
    """One measurement: its name, and how it begins. `step` is what its rate counts besides bytes, if anything."""

    name: str
    begin: Callable[[], Steps]
    step: str = ""


@app.command(rich_help_panel="Look")
def bench(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/FOLDER", help="Where your data is, or shall be.")],
    write: Annotated[
        bool, typer.Option("--write", help="Write temporary objects, read these, and remove them at the end.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="The longest that one measurement takes.", min=0.1)] = 10.0,
    mib: Annotated[int, typer.Option(help="The most that one measurement reads or writes, in MiB.", min=1)] = 128,
    workers: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of workers of DataLoaders; else up to the processors.")
    ] = "",
    png: Annotated[str, typer.Option(metavar="FILE", help="Draw the rates (needs Pillow).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document for each line.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask, however much traffic it is.")] = False,
) -> None:
    """Measure what this machine gets: small objects, a large one, torch.save and load, DataLoaders by workers.

    Without --write it reads objects that are there, and writes nothing. It asks before it moves more than 1 GB.

    Example: osstorch bench --write --png rates.png oss://my-bucket/tmp/
    """
    folder, bounds = remote(uri).folder(), Bounds(seconds, mib * MIB)
    own = folder.below(f".osstorch-bench-{secrets.token_hex(8)}/").uri
    chart, loaders = import_pillow() if png else None, _numbers_of_workers(workers)
    found = dict[str, Measured]()
    measures = _of_own_objects(own, bounds, loaders, found) if write else _of_what_is_there(folder, bounds, loaders)
    _ask(measures, bounds, yes)
    with contextlib.ExitStack() as stack:
        if write:
            stack.callback(_remove, own)
        for measure in measures:
            with bar(measure.name) as shown:
                shown.expect(bounds.size)
                result = measured(measure.name, measure.begin(), bounds, shown.advance)
            if result is not None:
                found[measure.name] = result
                _show(result, measure.step, as_json)
    if chart is not None:
        rates = {each.name: each.bytes_per_second / 1e6 for each in found.values()}
        with session().writing(place(png)) as file:
            file.write(bar_chart(chart, f"{uri}, MB/s", rates))
        note(f"drawn in {png}")


def _numbers_of_workers(text: str) -> list[int]:
    if not text:
        return [number for number in _WORKERS if number <= usable_cores()]
    numbers = text.split(",")
    if not all(number.isdecimal() and int(number) <= _MOST_WORKERS for number in numbers):
        raise OssUsageError(f"--workers {text!r}: write numbers up to {_MOST_WORKERS}, such as 0,4,8")
    return [int(number) for number in numbers]


def _of_what_is_there(folder: Remote, bounds: Bounds, loaders: Sequence[int]) -> list[Measure]:
    client = session().client
    sample = sample_of(folder.uri.bucket, client.list(folder.uri), _MOST_LISTED)
    measures = list[Measure]()
    if sample.small:
        measures.append(Measure("read small objects", lambda: small_reads(client, sample.small), "objects"))
    if (large := sample.large) is not None:
        measures.append(Measure("read a large object", lambda: large_read(client, large, bounds.size)))
    if not measures:
        raise OssUsageError(
            f"{folder} has no objects of up to {size_text(SMALL_BYTES)}, and none from {size_text(LARGE_BYTES)} on: "
            "name another folder, or let --write make some"
        )
    if sample.small:
        measures += _of_loaders(lambda: sample.small, loaders)
    return measures


def _of_own_objects(
    own: OssUri, bounds: Bounds, loaders: Sequence[int], found: Mapping[str, Measured]
) -> list[Measure]:
    """Return measures of objects that are written for them. What was `found` before decides how large some are."""
    client = session().client
    count = max(bounds.size // WRITTEN_SMALL_BYTES, 1)
    small = [OssUri(own.bucket, f"{own.key}small-{number:06}") for number in range(count)]
    large, saved = OssUri(own.bucket, f"{own.key}large"), OssUri(own.bucket, f"{own.key}saved.pt")

    def written() -> Sequence[OssUri]:
        return small[: found["write small objects"].steps]

    def saved_bytes() -> int:
        return min(bounds.size, int(found["write a large object"].bytes_per_second * bounds.seconds))

    return [
        Measure("write small objects", lambda: small_writes(client, small), "objects"),
        Measure("read small objects", lambda: small_reads(client, written()), "objects"),
        Measure("write a large object", lambda: large_write(client, large, bounds)),
        Measure("read a large object", lambda: large_read(client, large, bounds.size)),
        Measure("torch.save", lambda: torch_save(client, saved, saved_bytes())),
        Measure("torch.load", lambda: torch_load(client, saved)),
        *_of_loaders(written, loaders),
    ]


def _of_loaders(small: Callable[[], Sequence[OssUri]], loaders: Sequence[int]) -> list[Measure]:
    """Return a measure for each number of workers."""
    client = session().client

    def begin(workers: int) -> Callable[[], Steps]:
        return lambda: loader_reads(client, small(), workers)

    return [Measure(f"DataLoader, {workers} workers", begin(workers), "batches") for workers in loaders]


def _ask(measures: Sequence[Measure], bounds: Bounds, yes: bool) -> None:
    most = len(measures) * bounds.size
    if most > _ASKED_BYTES:
        confirm(f"This moves up to {size_text(most)}, which may cost money. Go on?", yes)


def _show(result: Measured, step: str, as_json: bool) -> None:
    if as_json:
        out_json({**result._asdict(), "bytes_per_second": round(result.bytes_per_second)})
        return
    steps = f"{result.steps_per_second:>10,.0f} {step}/s" if step else ""
    out(f"{result.name:<22} {result.bytes_per_second / 1e6:>10,.1f} MB/s {steps}".rstrip())


def _remove(own: OssUri) -> None:
    """Remove all that was written, also what was cut off."""
    client = session().client
    client.close()  # with requests that Ctrl-C has cut off: none of them stores anything from now on
    with bar("removing", "objects"):
        for upload in client.list_uploads(own):
            client.abort_upload(OssUri(own.bucket, upload.key), upload.upload_id)
        client.delete_many(own.bucket, [each.key for each in client.list(own)])
