"""Commands about distributed checkpoints: checkpoint ls, verify, rm, to-file.

They import torch when they run: other commands must not wait for it.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OssNotFoundError, OssUsageError
from ..files.writer import OssWriter
from .places import place, remote
from .run import app, confirm, session
from .show import Bar, bar, note, out, out_json, size_text

if TYPE_CHECKING:
    from ..dcp import WholeCheckpoint
    from ..dcp.run import RunFolder

group = typer.Typer(
    name="checkpoint",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Distributed checkpoints: list, check, remove, and turn them into one file.",
)
app.add_typer(group, rich_help_panel="Data")

Checkpoint = Annotated[str, typer.Argument(metavar="oss://BUCKET/RUN/STEP", help="The folder of a checkpoint.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document for each line.")]
Step = Annotated[
    int | None, typer.Option("--step", help="The URI is a run's folder: this step of it; -1 for the newest.", min=-1)
]


@group.command()
def ls(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/RUN", help="The folder of a run, or of a checkpoint.")],
    as_json: Json = False,
) -> None:
    """List the whole checkpoints of a run, and mark the one that a job would load; or what one checkpoint holds.

    Example: osstorch checkpoint ls oss://my-bucket/run-7
    """
    run = _run_folder(uri)
    steps = sorted(ordered := run.ordered())
    for step in steps:
        _show_step(run.uri(step), step, step == ordered[-1], as_json)
    if steps:
        return
    for entry in _opened(uri).entries():
        kind = str(entry.dtype).removeprefix("torch.") if entry.dtype is not None else "object"
        if as_json:
            out_json({"name": entry.name, "dtype": kind, "shape": entry.shape, "bytes": entry.size})
        else:
            shape = " x ".join(map(str, entry.shape))
            out(f"{size_text(entry.size) if entry.dtype is not None else '':>12}  {kind:<10} {shape:<20} {entry.name}")


def _show_step(uri: str, step: int, is_latest: bool, as_json: bool) -> None:
    sizes = [listed.size for listed in session().client.list(f"{uri}/")]
    if as_json:
        out_json({"step": step, "uri": uri, "bytes": sum(sizes), "objects": len(sizes), "latest": is_latest})
    else:
        out(f"{size_text(sum(sizes)):>12}  {uri}{'  (latest)' if is_latest else ''}")


@group.command()
def verify(uri: Checkpoint, step: Step = None, as_json: Json = False) -> None:
    """Read all of a checkpoint, and say of each of its files whether a job could load it.

    All files that the metadata names must be there and long enough. Each tensor and object is read and decoded, and
    checked by its CRC-32 and the file's CRC-64, if the file was read completely. Nothing is kept in memory.

    Example: osstorch checkpoint verify --step -1 oss://my-bucket/run-7
    """
    checkpoint = _opened(_checkpoint_uri(uri, step))
    files = failed = items = 0
    with bar("reading") as shown:
        for file in checkpoint.check(shown.reach):
            files, items, failed = files + 1, items + file.items, failed + bool(file.problem)
            if as_json:
                out_json({"file": file.name, "bytes": file.size, "items": file.items, "problem": file.problem})
            elif file.problem:
                out(f"fail  {file.name}: {file.problem}")
            else:
                out(f"ok    {size_text(file.size):>12}  {file.name}")
    note(f"{items:,} items in {files:,} files: {f'{failed:,} can not be read' if failed else 'all can be read'}")
    if failed:
        raise typer.Exit(1)


@group.command()
def rm(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/RUN/STEP", help="The folder of a checkpoint, or a run.")],
    step: Step = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", help="The URI is a run's folder: keep this many, the newest.", min=1),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Remove a checkpoint, or the old ones of a run. It asks before.

    The metadata goes first, so that what is left after Ctrl-C never looks like a checkpoint.

    Example: osstorch checkpoint rm --keep 3 oss://my-bucket/run-7
    """
    if keep is not None and step is not None:
        raise OssUsageError("--step and --keep: give one of them")
    run = _run_folder(uri)
    uris = [run.uri(old) for old in run.ordered()[:-keep]] if keep is not None else [_checkpoint_uri(uri, step)]
    if not uris:
        note(f"{uri} has no more checkpoints than that")
        return
    checkpoints = [_opened(each) for each in uris]
    for each in uris:
        out(each)
    confirm(f"Remove {'this checkpoint' if len(uris) == 1 else f'these {len(uris):,} checkpoints'}?", yes)
    with bar("removing", "checkpoints") as shown:
        shown.expect(len(checkpoints))
        for checkpoint in checkpoints:
            checkpoint.remove()
            shown.advance(1)
    note(f"{len(uris):,} removed")


@group.command()
def to_file(
    uri: Checkpoint,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A file, or oss://BUCKET/KEY.")],
    step: Step = None,
) -> None:
    """Turn a distributed checkpoint into one file, which `torch.load` reads. All of it must fit into memory.

    Example: osstorch checkpoint to-file oss://my-bucket/run-7/step-0000001000 model.pt
    """
    import torch

    where = _checkpoint_uri(uri, step)
    if place(target).is_folder():
        raise OssUsageError(f"{target} is a folder: name the file that is to be written")
    with bar("reading") as shown:
        state = _opened(where).load(shown.reach)
    with bar("writing") as shown, session().writing(place(target)) as file:
        watched: Any = _Watched(file, shown)
        torch.save(state, watched)
    note(f"{where} is in {target}")


class _Watched:
    """A file whose bytes are counted as they are written."""

    def __init__(self, file: OssWriter | IO[bytes], shown: Bar) -> None:
        self._file, self._shown = file, shown

    def write(self, data: bytes) -> int:
        self._shown.advance(memoryview(data).nbytes)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _run_folder(uri: str) -> RunFolder:
    from ..dcp.folder import checkpoint_uri
    from ..dcp.run import RunFolder

    return RunFolder(session().client, checkpoint_uri(str(remote(uri).uri)))


def _checkpoint_uri(uri: str, step: int | None) -> str:
    """Return the URI of a checkpoint: the one that is named, or a step of the run that is named."""
    if step is None:
        return uri
    run = _run_folder(uri)
    if step >= 0:
        return run.uri(step)
    latest = run.latest()
    if latest is None:
        raise OssUsageError(f"there is no whole checkpoint of a run in {uri}")
    return run.uri(latest)


def _opened(uri: str) -> WholeCheckpoint:
    from ..dcp import WholeCheckpoint

    try:
        return WholeCheckpoint(session().client, str(remote(uri).uri))
    except OssNotFoundError:
        if steps := _run_folder(uri).steps():
            raise OssUsageError(
                f"{uri} is a run with {len(steps):,} checkpoints: name one of them, or give --step {steps[-1]}"
            ) from None
        raise
