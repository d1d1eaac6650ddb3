"""Copies of large files in parts, which go on where they were cut off.

    upload      parts of a multipart upload: OSS lists those that it has, and each is compared with the file
    download    the beginning of the object, in a file beside the target: its length says what is there

Both are checked by CRC-64 as a whole before they get their name. If the source has changed, they begin anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO, TypeVar

from ..client.client import OssClient
from ..client.memory import fresh_memory
from ..client.operations import Operations
from ..errors import OssIntegrityError, OssNotFoundError, OssPermissionError
from ..local_files import check_replaceable, create_draft, draft_beside, is_draft, name_draft
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, combine_crc64, crc64
from ..protocol.values import ByteSpan, Download, ObjectStat, UploadedPart
from ..transfer.single import opened_unchanged
from ..uri import OssUri
from .records import CopyRecord, Facts
from .unfinished import my_file
from .watch import Watch

_MOST_PARTS = 10_000
# More in flight take memory and gain nothing.
_MOST_IN_FLIGHT = 32

R = TypeVar("R")


def _in_flight(client: OssClient, at_once: int) -> int:
    """Return how many parts of one file may be in flight, if `at_once` files share the memory."""
    config = client.config
    return min(max(config.upload_memory_bytes // at_once // config.part_bytes, 2), _MOST_IN_FLIGHT)


def _in_order(begun: Iterator[Future[R]], most: int, told: Watch) -> Generator[R, None, None]:
    """Yield the results of requests, which `begun` begins, in their order; `most` of them are in flight."""
    flying: list[Future[R]] = []

    def give_up() -> None:
        for future in flying.copy():
            future.cancel()

    try:
        with told.stop.giving_up(give_up):
            for future in begun:
                flying.append(future)
                told.stop.check()
                if len(flying) == most:
                    yield _first_of(flying)
            while flying:
                yield _first_of(flying)
    finally:
        give_up()


def _first_of(flying: list[Future[R]]) -> R:
    """Wait for the first result. It stays in the list until then, so that it can be given up."""
    result = flying[0].result()
    del flying[0]
    return result


# --- uploads


def upload_in_parts(
    client: OssClient,
    path: Path,
    target: OssUri,
    record: CopyRecord,
    told: Watch,
    at_once: int = 1,
    *,
    replaces: bool = True,
) -> None:
    """Copy a file to OSS. An upload of this very file that was cut off goes on.

    What OSS has of it is compared with the file by CRC-64, so it is read again and not sent again. Raises `OssError`
    if the file is changed meanwhile, `OssExistsError` without `replaces` if the object is there, and the errors of
    requests.
    """
    with opened_unchanged(path) as file:
        status = os.fstat(file.fileno())
        part_bytes = max(client.config.part_bytes, -(-status.st_size // _MOST_PARTS))
        copy = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "part_bytes": part_bytes}
        upload_id, there = _unfinished_upload(client, target, record, copy)
        begun = _begun_parts(client, file, status.st_size, part_bytes, target, upload_id, there)
        parts = list[UploadedPart]()
        with contextlib.closing(_in_order(begun, _in_flight(client, at_once), told)) as uploaded:
            for part in uploaded:
                parts.append(part)
                told.relative_update(part.size)
    complete = partial(_complete_upload, uri=target, upload_id=upload_id, parts=parts, replaces=replaces)
    client.submit(complete).result()
    record.remove()


def _unfinished_upload(
    client: OssClient, target: OssUri, record: CopyRecord, copy: Facts
) -> tuple[str, Mapping[int, UploadedPart]]:
    """Return the upload to go on with and its parts by number: the one that the record knows, or a new one."""
    known, progress = record.read()
    upload_id = progress.get("upload_id")
    if isinstance(upload_id, str):
        # Completed, or cleaned away; or this user may send parts, but neither list nor abort them.
        with contextlib.suppress(OssNotFoundError, OssPermissionError):
            if known == copy:
                return upload_id, {part.number: part for part in client.list_parts(target, upload_id)}
            client.abort_upload(target, upload_id)
    upload_id = client.create_upload(target)
    record.write(copy, {"upload_id": upload_id})
    return upload_id, {}


def _begun_parts(
    client: OssClient,
    file: FileIO,
    size: int,
    part_bytes: int,
    target: OssUri,
    upload_id: str,
    there: Mapping[int, UploadedPart],
) -> Iterator[Future[UploadedPart]]:
    for number, start in enumerate(range(0, size, part_bytes), 1):
        body, crc = _read(file, min(part_bytes, size - start))
        stored = there.get(number)
        if stored is not None and (stored.size, stored.crc64) == (len(body), crc):
            done: Future[UploadedPart] = Future()
            done.set_result(stored)
            yield done
        else:
            send = partial(_send, uri=target, upload_id=upload_id, number=number, body=body, crc=crc)
            yield client.submit(send, workers=client.config.checkpoint.prefetch_worker)


def _read(file: FileIO, size: int) -> tuple[memoryview, int]:
    """Return the next bytes of a file, `size` of them unless it is shorter by now, and their CRC-64."""
    memory, filled, crc = fresh_memory(size).getbuffer(), 0, 0
    while count := file.readinto(memory[filled : filled + CHECKSUM_BLOCK_BYTES]):
        crc = crc64(memory[filled : filled + count], crc)
        filled += count
    return memory[:filled], crc


async def _send(
    operations: Operations, *, uri: OssUri, upload_id: str, number: int, body: memoryview, crc: int
) -> UploadedPart:
    return await operations.upload_part(uri, upload_id, number, body, crc64=crc)


async def _complete_upload(
    operations: Operations, *, uri: OssUri, upload_id: str, parts: list[UploadedPart], replaces: bool
) -> None:
    await operations.complete_upload(uri, upload_id, parts, forbid_overwrite=not replaces)


# --- downloads


def download_in_parts(
    client: OssClient,
    source: OssUri,
    target: Path,
    record: CopyRecord,
    told: Watch,
    at_once: int = 1,
    *,
    replaces: bool = True,
) -> None:
    """Copy an object to a file, which gets it whole or not at all. A copy of this very object that was cut off goes on.

    Raises `OssObjectChangedError` if the object is replaced meanwhile, `OssIntegrityError` for wrong bytes, `OSError`
    if the file can't be written, `FileExistsError` without `replaces` if it is there, and the errors of requests.
    """
    check_replaceable(target)
    known = client.head(source)
    draft = _unfinished_download(target, record, {"size": known.size, "etag": known.etag})
    with draft.open("r+b") as file:
        if not _complete(client, source, known, file, told, at_once):
            file.truncate(0)
            if not _complete(client, source, known, file, told, at_once):
                file.truncate(0)
                raise OssIntegrityError(f"{source.shown}: what came has another CRC-64 than OSS has: copy it again")
    name_draft(draft, target, replaces=replaces)
    record.remove()


def _unfinished_download(target: Path, record: CopyRecord, copy: Facts) -> Path:
    """Return the file to go on with: the one that the record knows, or a new one."""
    known, progress = record.read()
    name = progress.get("draft")
    if isinstance(name, str) and is_draft(name):
        draft = target.with_name(name)
        if known == copy and my_file(draft) is not None:
            return draft
        draft.unlink(missing_ok=True)
    draft = draft_beside(target)
    record.write(copy, {"draft": draft.name})
    os.close(create_draft(draft))
    return draft


def _complete(client: OssClient, source: OssUri, known: ObjectStat, file: IO[bytes], told: Watch, at_once: int) -> bool:
    """Append to the file what it has not of the object; say whether it then is the object, by CRC-64.

    If OSS has no CRC-64, as of objects of its early years, nothing could tell that what is there is wrong: all comes.
    """
    there, crc = _what_is_there(file, known.size if known.crc64 is not None else 0, told)
    step = client.config.part_bytes
    begun = (
        client.submit(
            partial(_fetch, uri=source, span=ByteSpan(start, min(start + step, known.size)), etag=known.etag),
            workers=client.config.checkpoint.prefetch_worker,
        )
        for start in range(there, known.size, step)
    )
    with contextlib.closing(_in_order(begun, _in_flight(client, at_once), told)) as downloads:
        for download in downloads:
            file.write(download.body)
            file.flush()  # what is there after a kill needs not come again
            crc = combine_crc64(crc, download.crc64, len(download.body))
            told.relative_update(len(download.body))
    return known.crc64 in (None, crc)


def _what_is_there(file: IO[bytes], size: int, told: Watch) -> tuple[int, int]:
    """Return how many bytes the file has, and their CRC-64; it stands behind them then. Too many are none."""
    if os.fstat(file.fileno()).st_size > size:
        file.truncate(0)
    file.seek(0)
    there = crc = 0
    while piece := file.read(CHECKSUM_BLOCK_BYTES):
        crc, there = crc64(piece, crc), there + len(piece)
        told.relative_update(len(piece))
    return there, crc


async def _fetch(operations: Operations, *, uri: OssUri, span: ByteSpan, etag: str) -> Download:
    return await operations.get(uri, span, if_match=etag)
