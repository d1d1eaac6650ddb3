"""Commands about datasets and checkpoints: index, tar, checkpoints; and the emulator.

Each imports what it needs when it runs: other commands must not wait for torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .places import remote
from .run import app, session
from .show import bar, note, out, out_json, size_text


@app.command(rich_help_panel="Data")
def index(
    source: Annotated[str, typer.Argument(metavar="oss://BUCKET/PREFIX", help="What the dataset consists of.")],
    target: Annotated[str, typer.Argument(metavar="INDEX", help="A file, or oss://BUCKET/KEY.")],
) -> None:
    """List a prefix once and save the result, from which `from_index` of a dataset begins without listing.

    Example: osstorch index oss://my-bucket/images/ oss://my-bucket/images.index
    """
    from ..datasets import OssMapDataset

    dataset = OssMapDataset.from_prefix(str(remote(source).uri), session().client)
    count = len(dataset)
    dataset.save_index(target)
    note(f"{count:,} objects in {target}")


@app.command(rich_help_panel="Data")
def tar(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="oss://BUCKET/PREFIX, or a folder.")],
    target: Annotated[str, typer.Argument(metavar="TARGET.tar", help="oss://BUCKET/KEY, or a file.")],
    shard_bytes: Annotated[
        int, typer.Option(help="Make several tars, each of about this size in bytes; 0 for one tar.", min=0)
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run with --resume has stopped.")
    ] = False,
    index_only: Annotated[bool, typer.Option("--index-only", help="Only index the tar that is at TARGET.")] = False,
) -> None:
    """Pack objects or files into a tar, with the index TARGET.tar.idx, for `from_tar` of a dataset.

    Example: osstorch tar --shard-bytes 1000000000 oss://my-bucket/images/ oss://my-bucket/images.tar
    """
    from ..tar import generate_tar_archive

    with bar("packing") as shown:
        seen = 0

        def told(done: int, total: int) -> None:
            nonlocal seen
            if not seen:
                shown.expect(total)
            shown.advance(done - seen)
            seen = done

        generate_tar_archive(
            session().client,
            "",
            "",
            target,
            f"{target}.idx",
            source,
            index_only,
            shard_bytes=shard_bytes,
            resume=resume,
            progress=told,
        )
    note(f"indexed {target}" if index_only else f"packed {size_text(seen)} into {target}")


@app.command(rich_help_panel="Data")
def checkpoints(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/RUN", help="The folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document for each line.")] = False,
) -> None:
    """List the whole checkpoints of an `OssCheckpointManager`, and mark the one that a job would load.

    Example: osstorch checkpoints oss://my-bucket/run-7
    """
    from ..dcp import OssCheckpointManager

    manager = OssCheckpointManager(str(remote(uri).uri), endpoint=session().client)
    latest = manager.latest()
    for step in manager.steps():
        where = manager.uri(step)
        sizes = [listed.size for listed in session().client.list(f"{where}/")]
        if as_json:
            out_json({"step": step, "uri": where, "bytes": sum(sizes), "objects": len(sizes), "latest": step == latest})
        else:
            out(f"{size_text(sum(sizes)):>12}  {where}{'  (latest)' if step == latest else ''}")
    if latest is None:
        note(f"there is no whole checkpoint in {uri}")
        raise typer.Exit(1)


@app.command(
    rich_help_panel="Data",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def emulator(context: typer.Context) -> None:
    """Serve a folder as OSS on this machine: `osstorch emulator --help` lists its options.

    Example: osstorch emulator --root data --port 8080 --network oss
    """
    from ..emulator.__main__ import main

    sys.exit(main(context.args))
