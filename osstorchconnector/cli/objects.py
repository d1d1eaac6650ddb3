"""Commands about what is there: ls, du, stat, cat, mb, rm, sign, clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from typing import Annotated

import typer

from ..errors import OssNotFoundError, OssUsageError
from ..filesystem.paths import moment_of
from ..protocol.values import ListedObject
from ..uri import OssUri
from .places import Local, Place, Remote, place, remote
from .run import app, at_once, confirm, finish, session
from .show import bar, note, out, out_json, size_text, time_text
from .transfer import Job, run_jobs
from .unfinished import unfinished_copies

_PIECE_BYTES = 8 << 20
_ALL = "oss://"

Uri = Annotated[str, typer.Argument(metavar="oss://BUCKET/KEY", help="An object or a prefix.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document for each line.")]


@app.command(rich_help_panel="Look")
def ls(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/PREFIX", help="Nothing for all buckets.")] = _ALL,
    folders: Annotated[
        bool, typer.Option("--directory", "-d", help="One level: folders and objects, not what is below.")
    ] = False,
    limit: Annotated[int, typer.Option(help="The largest number of entries to list; 0 for all.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List buckets, or the objects of a prefix: size, time, name.

    Example: osstorch ls -d oss://my-bucket/images/
    """
    if uri == _ALL:
        for entry in session().fs.ls("", detail=True):
            out_json({"name": entry["name"]}) if as_json else out(f"oss://{entry['name']}/")
        return
    place = remote(uri)
    entries: Iterable[ListedObject] = session().client.list(place.uri, delimiter="/" if folders else "")
    count = total = 0
    for entry in islice(entries, limit or None):
        count, total = count + 1, total + entry.size
        _show_entry(place.uri.bucket, entry, as_json)
    if not as_json:
        note(f"{count:,} entries, {size_text(total)}")


def _show_entry(bucket: str, entry: ListedObject, as_json: bool) -> None:
    name = f"oss://{bucket}/{entry.key}"
    if as_json:
        known = {} if entry.is_prefix() else {"size": entry.size, "modified": entry.last_modified, "etag": entry.etag}
        out_json({"name": name, **known})
    elif entry.is_prefix():
        out(f"{'folder':>12}  {'':20}  {name}")
    else:
        moment = moment_of(entry.last_modified)
        out(f"{size_text(entry.size):>12}  {time_text(moment.timestamp() if moment else None)}  {name}")


@app.command(rich_help_panel="Look")
def du(uri: Uri, as_json: Json = False) -> None:
    """Count the objects and bytes of a prefix.

    Example: osstorch du oss://my-bucket/images/
    """
    count = total = 0
    with bar("counting", "objects") as shown:
        for entry in session().client.list(remote(uri).uri):
            count, total = count + 1, total + entry.size
            shown.advance(1)
    if as_json:
        out_json({"objects": count, "bytes": total})
    else:
        out(f"{count:,} objects, {size_text(total)} ({total:,} bytes)")


@app.command(rich_help_panel="Look")
def stat(uri: Uri, as_json: Json = False) -> None:
    """Show what OSS knows about an object.

    Example: osstorch stat oss://my-bucket/images/1.jpg
    """
    place = remote(uri)
    known = session().client.head(place.uri)
    facts = {
        "name": str(place.uri),
        "size": known.size,
        "modified": time_text(known.last_modified).strip(),
        "etag": known.etag,
        "crc64": known.crc64,
        "content_type": known.content_type,
        "type": known.object_type,
    }
    if as_json:
        out_json(facts)
        return
    for name, value in facts.items():
        out(f"{name:<13} {value}")


@app.command(rich_help_panel="Look")
def cat(
    uri: Uri,
    part: Annotated[
        str, typer.Option("--range", metavar="START-END", help="Bytes to print, the last one included: 0-99, 100-.")
    ] = "",
) -> None:
    """Print an object to the standard output.

    Example: osstorch cat --range 0-99 oss://my-bucket/labels.csv
    """
    fs, name = session().fs, str(remote(uri).uri)
    if part:
        start, stop = _range(part)
        sys.stdout.buffer.write(fs.cat_file(name, start, stop))
        return
    with fs.open(name) as file:
        while piece := file.read(_PIECE_BYTES):
            sys.stdout.buffer.write(piece)


def _range(text: str) -> tuple[int, int | None]:
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and (not last or (last.isdecimal() and int(last) >= int(first))):
        return int(first), int(last) + 1 if last else None
    raise OssUsageError(f"--range {text!r}: write START-END, such as 0-99, or START- for the rest")


@app.command(rich_help_panel="Change")
def rm(
    uri: Uri,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All objects of the prefix.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Don't ask.")] = False,
) -> None:
    """Remove an object, or with -r all objects of a prefix. It asks before.

    Example: osstorch rm -r oss://my-bucket/old/
    """
    place, client = remote(uri), session().client
    if not recursive:
        if place.is_folder():
            raise OssUsageError(f"{place} is a prefix: -r removes its objects")
        client.head(place.uri)  # an error if it does not exist
        confirm(f"Remove {place}?", yes)
        client.delete(place.uri)
        return
    if not place.uri.key:
        raise OssUsageError(f"{place} is a whole bucket: remove its prefixes, or use the console")
    confirm(f"Remove all objects of {place}*?", yes)
    tally = run_jobs(_removals(place), "removing", at_once(), "objects")
    finish(f"{tally.size:,} objects removed", tally.failures)


def _removals(place: Remote) -> Iterator[Job]:
    client, bucket = session().client, place.uri.bucket
    for page in client.list_pages(place.uri):
        keys = [entry.key for entry in page.objects]
        if keys:
            yield Job(f"{keys[0]} ...", len(keys), lambda told, keys=keys: client.delete_many(bucket, keys))  # type: ignore[misc]


class StorageClass(str, Enum):
    """Where new objects of a bucket go, as OSS names it."""

    STANDARD = "Standard"
    IA = "IA"
    ARCHIVE = "Archive"
    COLD_ARCHIVE = "ColdArchive"
    DEEP_COLD_ARCHIVE = "DeepColdArchive"


class Redundancy(str, Enum):
    """Whether a bucket is kept in one zone (LRS) or in several (ZRS)."""

    LRS = "LRS"
    ZRS = "ZRS"


@app.command(rich_help_panel="Change")
def mb(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET", help="The name of the new bucket.")],
    storage_class: Annotated[
        StorageClass | None, typer.Option("--storage-class", help="That of its objects; Standard if left out.")
    ] = None,
    redundancy: Annotated[
        Redundancy | None, typer.Option("--redundancy-type", help="LRS: one zone, as if left out. ZRS: several.")
    ] = None,
) -> None:
    """Make a bucket, in the endpoint's region; only its owner can read it. One that you have stays as it is.

    Example: osstorch mb --region cn-beijing oss://my-new-bucket
    """
    place = remote(uri)
    if place.uri.key:
        raise OssUsageError(f"{place} is below a bucket: folders need not be made, name the bucket alone")
    bucket, chosen = place.uri.bucket, storage_class.value if storage_class is not None else ""
    kept = redundancy.value if redundancy is not None else ""
    session().client.submit(
        lambda operations: operations.create_bucket(bucket, storage_class=chosen, redundancy=kept)
    ).result()
    note(f"oss://{bucket}/ is there")


@app.command(rich_help_panel="Change")
def sign(
    uri: Uri,
    seconds: Annotated[
        int, typer.Option("--timeout", help="How long the URL is valid, in seconds, up to 7 days.", min=1, max=604800)
    ] = 3600,
) -> None:
    """Print a URL with which anybody can read the object for a while.

    Example: osstorch sign --timeout 600 oss://my-bucket/images/1.jpg
    """
    out(session().fs.sign(str(remote(uri).uri), seconds))


@app.command(rich_help_panel="Change")
def clean(
    where: Annotated[str, typer.Argument(metavar="PLACE", help="oss://BUCKET/PREFIX, or a folder.")],
    older_than_hours: Annotated[
        float, typer.Option("--older-than", metavar="HOURS", help="Leave younger ones.", min=0)
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")] = False,
) -> None:
    """Remove what interrupted copies and uploads have left, if nobody has gone on with them for a day.

    Of a prefix, these are multipart uploads (they cost storage, and no listing shows them), and what this machine has
    kept of copies. In a folder, these are hidden files of downloads, and parts of uploads of `OssClient("")`.

    Example: osstorch clean --older-than 48 oss://my-bucket/checkpoints/
    """
    target = place(where)
    if isinstance(target, Remote):
        aborted = _abort_uploads(target, older_than_hours * 3600, dry_run)
        note(f"{aborted:,} uploads {'would be aborted' if dry_run else 'aborted'}")
    removed = _remove_unfinished(target, time.time() - older_than_hours * 3600, dry_run)
    if removed or isinstance(target, Local):
        note(f"{removed:,} unfinished copies {'would be removed' if dry_run else 'removed'} from this machine")


def _abort_uploads(where: Remote, older_than_seconds: float, dry_run: bool) -> int:
    client, aborted = session().client, 0
    newest = client.server_time(OssUri(where.uri.bucket, "")) - older_than_seconds
    for upload in client.list_uploads(where.uri):
        begun = moment_of(upload.initiated)
        if begun is None or begun.timestamp() > newest:
            continue
        aborted += 1
        out(f"{upload.initiated}  oss://{where.uri.bucket}/{upload.key}  {upload.upload_id}")
        if not dry_run:
            _abort(OssUri(where.uri.bucket, upload.key), upload.upload_id)
    return aborted


def _remove_unfinished(where: Place, before: float, dry_run: bool) -> int:
    removed = 0
    for found in unfinished_copies(where, before):
        removed += 1
        out(f"{time_text(found.changed)}  {found.path}  {size_text(found.size)}")
        if not dry_run:
            found.remove()
    return removed


def _abort(uri: OssUri, upload_id: str) -> None:
    try:
        session().client.abort_upload(uri, upload_id)
    except OssNotFoundError:
        note(f"{uri.shown}: completed or aborted in the meantime")
