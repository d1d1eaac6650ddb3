"""Commands that move bytes: cp, mv, sync."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ..errors import OssError, OssNotFoundError, OssUsageError
from .places import Item, Local, Place, Remote, place, target_of
from .plans import Filter, OverwriteRule, decisions, superfluous
from .run import app, at_once, finish, session
from .show import out, size_text
from .transfer import Failure, Job, Tally, copy_job, is_there_already, items_of, remove_job, run_jobs
from .watch import Watch

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="oss://BUCKET/KEY, a file or a folder.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="oss://BUCKET/KEY, a file or a folder.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="All that is below SOURCE.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there.")]
Update = Annotated[bool, typer.Option("--update", "-u", help="Replace what is older, or of another size.")]
Include = Annotated[
    list[str] | None, typer.Option("--include", metavar="PATTERN", help="Only such names, below SOURCE.")
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="No such names.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


@app.command(rich_help_panel="Copy")
def cp(
    source: Source,
    target: Target,
    recursive: Recursive = False,
    force: Force = False,
    update: Update = False,
    include: Include = None,
    exclude: Exclude = None,
    dry_run: DryRun = False,
) -> None:
    """Copy files to OSS, from OSS, or within OSS on the server.

    Large files are copied in parts, and every copy is checked by its CRC-64. A target has the old content or the new,
    never half. What is there already is kept and counted as failed, unless -f or -u is given. Run it again to go on
    where it was cut off, also in the middle of a file; with -u if it is a folder.

    Example: osstorch cp -r images/ oss://my-bucket/images/
    """
    rule = OverwriteRule.REPLACE if force else OverwriteRule.UPDATE if update else OverwriteRule.REFUSE
    names = Filter(include or (), exclude or ())
    if recursive:
        _finish(_copy_all(place(source), place(target), rule, names, dry_run), "copied")
    else:
        _finish(_copy_one(place(source), place(target), rule, dry_run), "copied")


@app.command(rich_help_panel="Copy")
def mv(source: Source, target: Target, recursive: Recursive = False, force: Force = False) -> None:
    """Copy, then remove what was copied from SOURCE. Until all is copied both exist. What changes meanwhile stays.

    Example: osstorch mv oss://my-bucket/a.bin oss://my-bucket/b.bin
    """
    first, second = place(source), place(target)
    if first == second or (recursive and _is_below(second, first)):
        raise OssUsageError(f"{first} can't be moved onto or into itself")
    rule = OverwriteRule.REPLACE if force else OverwriteRule.REFUSE
    moved = list[Copied]()
    copied = (
        _copy_all(first, second, rule, Filter(), False, moved)
        if recursive
        else _copy_one(first, second, rule, False, moved)
    )
    failed = {failure.name for failure in copied.failures}
    removed = run_jobs((_removal(each) for each in moved if str(each.source) not in failed), "removing", at_once())
    copied.failures.extend(removed.failures)
    _finish(copied, "moved")


@app.command(rich_help_panel="Copy")
def sync(
    source: Source,
    target: Target,
    delete: Annotated[bool, typer.Option("--delete", help="Remove from TARGET what SOURCE has not.")] = False,
    include: Include = None,
    exclude: Exclude = None,
    dry_run: DryRun = False,
) -> None:
    """Make TARGET like SOURCE: copy what is missing, older, or of another size.

    Example: osstorch sync --delete --dry-run oss://my-bucket/images/ images/
    """
    first, second, names = place(source), place(target), Filter(include or (), exclude or ())
    tally = _copy_all(first, second, OverwriteRule.UPDATE, names, dry_run)
    if delete and not tally.failures:
        there = [item.name for item in _items(second)]
        wanted = [item.name for item in items_of(session().fs, first)]
        if there and not wanted:  # a typing error, or a disk that is not mounted
            raise OssUsageError(f"nothing is in {first}, so nothing is removed from {second}: rm -r does that")
        gone = superfluous(wanted, there, names)
        tally.failures.extend(_remove(second, gone, dry_run).failures)
    _finish(tally, "copied")


class Copied(NamedTuple):
    """What was copied, and what was known of it before."""

    source: Place
    item: Item


def _removal(moved: Copied) -> Job:
    """Return the removal of what was copied. It fails if that is another file or object by now."""
    job = remove_job(session().fs, moved.source)

    def run(told: Watch) -> None:
        now = _item(moved.source)
        if now is None:
            return  # somebody else has removed it
        if _version(moved.source, now) != _version(moved.source, moved.item):
            raise OssError(f"{moved.source} has changed since it was copied, or just before: it stays")
        job.run(told)

    return job._replace(run=run)


def _version(where: Place, item: Item) -> tuple[int, float]:
    """Return what tells whether a file or object was replaced; the time of an object comes in whole seconds."""
    return item.size, item.modified if isinstance(where, Local) else int(item.modified)


def _is_below(where: Place, folder: Place) -> bool:
    if isinstance(where, Local) or isinstance(folder, Local):
        return False  # files are not moved between folders of this machine
    inside = folder.folder().uri
    return where.folder().uri.bucket == inside.bucket and where.folder().uri.key.startswith(inside.key)


def _copy_all(
    source: Place, target: Place, rule: OverwriteRule, names: Filter, dry_run: bool, copied: list[Copied] | None = None
) -> Tally:
    if isinstance(source, Remote):
        source = source.folder()
    if isinstance(target, Remote):
        target = target.folder()
    conflicts = list[Failure]()
    there = {} if rule is OverwriteRule.REPLACE else {item.name: item for item in _items(target)}

    def jobs() -> Iterator[Job]:
        for decision in decisions(
            filter(lambda item: names.takes(item.name), items_of(session().fs, source)), there, rule
        ):
            item = decision.item
            try:
                if decision.conflict:
                    raise is_there_already(target.below(item.name))
                if copied is not None and _is_below(target.below(item.name), source):
                    raise OssUsageError(f"{target.below(item.name)} is in {source}, which is moved: move it elsewhere")
                if decision.transfers:
                    yield _told(
                        source.below(item.name), target.below(item.name), item, at_once(), rule, dry_run, copied
                    )
            except OssUsageError as error:
                conflicts.append(Failure(str(item.name), error))

    tally = run_jobs(jobs(), "copying", at_once())
    tally.failures[:0] = conflicts
    return tally


def _copy_one(
    source: Place, target: Place, rule: OverwriteRule, dry_run: bool, copied: list[Copied] | None = None
) -> Tally:
    item = _item(source)
    if item is None:
        raise OssUsageError(f"{source} is no single file or object: -r copies what is below it")
    final = target_of(target, source)
    if final == source:
        raise OssUsageError(f"{source} can't be copied or moved onto itself")
    there = _item(final)
    decision = next(decisions([item], {item.name: there} if there is not None else {}, rule))
    if decision.conflict:
        raise is_there_already(final)
    jobs = [_told(source, final, item, 1, rule, dry_run, copied)] if decision.transfers else []
    return run_jobs(jobs, "copying", 1)


def _told(
    source: Place,
    target: Place,
    item: Item,
    jobs_at_once: int,
    rule: OverwriteRule,
    dry_run: bool,
    copied: list[Copied] | None,
) -> Job:
    replaces = rule is not OverwriteRule.REFUSE
    job = copy_job(session().fs, source, target, item.size, jobs_at_once, replaces=replaces)
    if dry_run:
        out(f"{size_text(item.size):>12}  {source} -> {target}")
        return job._replace(run=lambda told: None)
    if copied is not None:
        copied.append(Copied(source, item))
    return job


def _remove(target: Place, names: list[str], dry_run: bool) -> Tally:
    folder = target.folder() if isinstance(target, Remote) else target
    places = [folder.below(name) for name in names]
    if dry_run:
        for each in places:
            out(f"{'remove':>12}  {each}")
        return Tally()
    return run_jobs((remove_job(session().fs, each) for each in places), "removing", at_once())


def _items(target: Place) -> Iterator[Item]:
    """Yield what is below a target, which need not exist."""
    if isinstance(target, Local) and not Path(target.path).exists():
        return iter(())
    return items_of(session().fs, target)


def _item(where: Place) -> Item | None:
    """Return the single file or object at a place, `None` if there is none."""
    if isinstance(where, Local):
        path = Path(where.path)
        return Item(path.name, path.stat().st_size, path.stat().st_mtime) if path.is_file() else None
    if where.is_folder():
        return None
    try:
        known = session().client.head(where.uri)
    except OssNotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
        return None
    return Item(where.name, known.size, known.last_modified or 0.0)


def _finish(tally: Tally, verb: str) -> None:
    finish(f"{tally.done:,} {verb}, {size_text(tally.size)}", tally.failures)
