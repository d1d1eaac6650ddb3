"""Commands that make datasets: index, tar.

They import torch when they run: other commands must not wait for it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .places import remote
from .run import app, session
from .show import bar, note, size_text


@app.command(rich_help_panel="Data")
def index(
    source: Annotated[str, typer.Argument(metavar="oss://BUCKET/PREFIX", help="What the dataset consists of.")],
    target: Annotated[str, typer.Argument(metavar="INDEX", help="A file, or oss://BUCKET/KEY.")],
    labels: Annotated[
        bool, typer.Option("--labels-from-folders", help="Labels are the numbers of the first folders below PREFIX.")
    ] = False,
) -> None:
    """List a prefix once and save the result, from which `from_index` of a dataset begins without listing.

    Example: osstorch index oss://my-bucket/images/ oss://my-bucket/images.index
    """
    from ..datasets import OssMapDataset

    prefix = str(remote(source).uri)
    dataset = OssMapDataset.from_prefix(prefix, session().client, labels="folders" if labels else "")
    with bar("listing", "objects") as shown:
        count = len(dataset)
        shown.reach(count, count)
        dataset.save_index(target)
    note(f"{count:,} objects in {target}")


@app.command(rich_help_panel="Data")
def tar(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="oss://BUCKET/PREFIX, or a folder.")],
    target: Annotated[str, typer.Argument(metavar="TARGET.tar", help="oss://BUCKET/KEY, or a file.")],
    shard_bytes: Annotated[
        int, typer.Option(help="Make several tars, each of about this size in bytes; 0 for one tar.", min=0)
    ] = 0,
    shard_members: Annotated[
        int, typer.Option(help="Make several tars, each with this many members at most; 0 for one tar.", min=0)
    ] = 0,
    manifest: Annotated[
        str, typer.Option(metavar="MANIFEST", help="A file for the list of the tars, or oss://BUCKET/KEY.")
    ] = "",
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
            seen = done
            shown.reach(done, total)

        generate_tar_archive(
            session().client,
            "",
            "",
            target,
            f"{target}.idx",
            source,
            index_only,
            shard_bytes=shard_bytes,
            shard_members=shard_members,
            manifest_uri=manifest,
            resume=resume,
            progress=told,
        )
    note(f"indexed {target}" if index_only else f"packed {size_text(seen)} into {target}")
