"""Commands about manifests: manifest make, check. A name that ends in `.jsonl` is one of JSON lines, others of tabs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from ..client.operations import Operations
from ..errors import OssNotFoundError, OssUsageError
from ..index.labels import folder_below
from ..redaction import printable
from ..uri import OssUri, parse_object_uri
from .copies import Exclude, Include
from .places import place, remote
from .plans import Filter
from .run import app, session
from .show import bar, note, out

_JSON_LINES = ".jsonl"

group = typer.Typer(
    name="manifest",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Manifests, which name the objects of a dataset: make one, and check that all its objects exist.",
)
app.add_typer(group, rich_help_panel="Data")

Manifest = Annotated[str, typer.Argument(metavar="MANIFEST", help="A file, or oss://BUCKET/KEY.")]


@group.command()
def make(
    source: Annotated[str, typer.Argument(metavar="oss://BUCKET/FOLDER", help="Where the objects are.")],
    manifest: Manifest,
    labels: Annotated[
        bool, typer.Option("--labels-from-folders", help="The label is the folder's name: cat of cat/1.jpg.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
) -> None:
    """Write the keys of all objects of a folder, and their labels, for `from_manifest_file` of a dataset.

    A manifest whose name ends in .jsonl has a line of JSON for each object, any other KEY, a tab and LABEL.

    Example: osstorch manifest make --labels-from-folders oss://my-bucket/images/ oss://my-bucket/images.jsonl
    """
    folder, names = remote(source).folder().uri, Filter(include or (), exclude or ())
    spelled = _json_line if manifest.endswith(_JSON_LINES) else _tab_line
    count = 0
    with bar("listing", "objects") as shown, session().writing(place(manifest)) as file:
        for page in session().client.list_pages(folder):
            keys = [each.key[len(folder.key) :] for each in page.objects if each.size or not each.key.endswith("/")]
            keys = [key for key in keys if names.takes(key) and f"{folder}{key}" != manifest]
            file.write(b"".join(spelled(key, folder_below(key) if labels else "") for key in keys))
            count += len(keys)
            shown.advance(len(keys))
        if not count:
            raise OssNotFoundError(f"there is no object to name below {folder.shown}")
    parser = "jsonl_manifest_parser" if spelled is _json_line else "imagenet_manifest_parser"
    note(f"{count:,} objects in {manifest}, for from_manifest_file({manifest!r}, {parser}, {str(folder)!r}, ...)")


@group.command()
def check(
    manifest: Manifest,
    source: Annotated[str, typer.Argument(metavar="oss://BUCKET/FOLDER", help="What its keys are below.")],
) -> None:
    """Ask for each object of a manifest whether it exists, and list those that do not.

    Example: osstorch manifest check oss://my-bucket/images.jsonl oss://my-bucket/images/
    """
    client = session().client
    count = missing = 0
    there = client.map(
        _is_there,
        _named(manifest, str(remote(source).folder().uri)),
        concurrency=client.config.dataset.prefetch_concurrency,
        workers=client.config.dataset.prefetch_worker,
        kind="lookups",
    )
    with bar("checking", "objects") as shown:
        for is_there in there:
            count += 1
            shown.advance(1)
            if not is_there:
                missing += 1
                out(f"missing  {there.item.shown}")
    note(f"{count:,} objects, {missing:,} of them missing" if missing else f"all {count:,} objects are there")
    if missing or not count:
        raise typer.Exit(1)


def _json_line(key: str, label: str) -> bytes:
    return json.dumps({"key": key, "label": label} if label else {"key": key}, ensure_ascii=False).encode() + b"\n"


def _tab_line(key: str, label: str) -> bytes:
    if any(each in key for each in "\t\n\ufeff") or key != key.lstrip(" ").rstrip():
        raise OssUsageError(
            f"{printable(key)!r} can't stand in a line with tabs: let the manifest's name end in .jsonl"
        )
    return f"{key}\t{label}\n".encode() if label else f"{key}\n".encode()


def _named(manifest: str, base: str) -> Iterator[OssUri]:
    """Yield the objects that a manifest names. Raises `OssManifestError` with the number of a line that is wrong."""
    from ..datapipes.manifest import ManifestListing, imagenet_manifest_parser, jsonl_manifest_parser

    parser = jsonl_manifest_parser if manifest.endswith(_JSON_LINES) else imagenet_manifest_parser
    for batch in ManifestListing(session().client, (manifest,), parser, base).batches(b""):
        names: Iterable[str] = batch.tails
        yield from (parse_object_uri(f"/{name}") for name in names)


async def _is_there(operations: Operations, uri: OssUri) -> bool:
    try:
        await operations.head(uri)
    except OssNotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
        return False
    return True
