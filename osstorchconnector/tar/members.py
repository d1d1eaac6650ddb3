"""The members of tars, in the bytes that ranges have brought: each is checked against its header, and cut out.

`outcomes` takes a `MemberRun` and what its range has brought, and yields members in the order in which they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

from ..client.client import OssClient
from ..errors import OssError, OssIntegrityError, OssTarError
from ..files.data_object import DataObject
from ..files.reader import OssReader
from ..files.span_reader import SpanReader
from ..index.info import ObjectInfo
from ..protocol.values import ByteSpan, Download
from ..uri import MemberUri
from .headers import BLOCK_BYTES, Read, TarEntry, is_plain_header, next_entry
from .ranges import Arrival
from .runs import Arrived, MemberRun
from .samples import split_name

Sample = dict[str, DataObject]
Outcome = tuple[ObjectInfo, DataObject | Sample | OssError]


def outcomes(client: OssClient, run: MemberRun, download: Download | OssError) -> Iterator[Outcome]:
    """Yield the members whose turn it is, now that `run` has arrived: what is known of each, and the member.

    A member that can't be had is an error in its place: `OssTarError` if it is not where it should be, and
    `OssIntegrityError` if the tar, of which the last range has come, is not what OSS says.
    """
    came = download if isinstance(download, OssError) else _checked_arrival(client, run, download)
    # A member is copied only when it is its turn: the memory of the one before it is free then, and in the cache.
    for info, arrived in _in_turn(run, came):
        if isinstance(arrived, OssError):
            yield info, arrived
        else:
            found = _cut(client, info, arrived)
            arrived.note_copied()
            yield info, found


def _in_turn(run: MemberRun, came: Arrival | OssError) -> Iterable[Arrived]:
    if run.window is None:
        return zip(run.infos, repeat(came))
    run.window.put(run.numbers, zip(run.infos, repeat(came)))
    return run.window.ready()


def _checked_arrival(client: OssClient, run: MemberRun, download: Download) -> Arrival | OssError:
    try:
        run.ranges.check(client, run.uri, download)
    except OssIntegrityError as error:
        return error
    return run.arrival(download)


def _cut(client: OssClient, info: ObjectInfo, arrived: Arrival) -> DataObject | Sample | OssError:
    _, key, _, start, stop, is_sample = info.uri  # type: ignore[misc]  # a MemberUri: its fields without calls
    try:
        if is_sample:
            return _sample(client, info, arrived)
        # Most members, with few calls of Python: there are many in a range.
        size = info.size
        if key and size is not None and 0 <= stop - start - BLOCK_BYTES - size < BLOCK_BYTES and stop <= arrived.stop:
            at = start - arrived.start
            if is_plain_header(bytes(arrived.body[at : at + BLOCK_BYTES]), key, size):
                at += BLOCK_BYTES
                body = bytes(arrived.body[at : at + size])
                return DataObject(info.uri, body, label=info.label, etag=arrived.download.stat.etag)
        return _member(client, info, arrived)
    except OssError as error:
        return error


def _member(client: OssClient, info: ObjectInfo, arrived: Arrival) -> DataObject:
    """Return a member of a tar, from bytes that have its headers and its body, or the beginning of a large one.

    Raises `OssTarError` if what stands there is not the member that it should be.
    """
    uri = _member_uri(info)
    try:
        entry = _checked(arrived.read, info, arrived.download)
    except OssTarError as error:
        raise _not_there(uri, error) from None
    return _data_object(client, uri if uri.key else uri.named(entry.name), info, arrived, entry)


def _sample(client: OssClient, info: ObjectInfo, arrived: Arrival) -> Sample:
    """Return the members of a sample by what their names have behind the first dot.

    Raises `OssTarError` if what stands there is not what should, or if two of them have the same name.
    """
    uri = _member_uri(info)
    try:
        if uri.stop <= arrived.stop:
            return _members_of_sample(client, info, arrived, arrived.read)
        with OssReader(client, uri.tar, transfer=client.config.dataset, first=arrived.download) as reader:

            def read(position: int, size: int) -> bytes:
                reader.seek(position)
                return reader.read(size)

            return _members_of_sample(client, info, arrived, read)
    except OssTarError as error:
        raise _not_there(uri, error) from None


def _members_of_sample(client: OssClient, info: ObjectInfo, arrived: Arrival, read: Read) -> Sample:
    uri, found, position = _member_uri(info), Sample(), _member_uri(info).start
    while position < uri.stop:
        entry = next_entry(read, position)
        if entry is None or entry.stop > uri.stop or entry.body + entry.size > arrived.download.stat.size:
            raise OssTarError("the tar ends in it")
        position = entry.stop
        if entry.is_member:
            base, extension = split_name(entry.name)
            if base != uri.key or extension in found:
                raise OssTarError(f"{entry.name!r:.200} stands there, and should not")
            found[extension] = _data_object(client, uri.named(entry.name), info, arrived, entry)
    return found


def _data_object(client: OssClient, uri: MemberUri, info: ObjectInfo, arrived: Arrival, entry: TarEntry) -> DataObject:
    download, stop, etag = arrived.download, entry.body + entry.size, arrived.download.stat.etag
    if stop <= download.span.stop:
        return DataObject(uri, arrived.read(entry.body, entry.size), label=info.label, etag=etag)
    reader = OssReader(client, uri.tar, transfer=client.config.dataset, first=download)
    return DataObject(uri, SpanReader(reader, uri, ByteSpan(entry.body, stop)), label=info.label, etag=etag)


def _not_there(uri: MemberUri, error: OssTarError) -> OssTarError:
    hint = "the index is not of this tar, or the tar is damaged: make the index again"
    return OssTarError(f"{uri.tar.shown}, the member at byte {uri.start}: {error}; {hint}")


def _member_uri(info: ObjectInfo) -> MemberUri:
    """Return where a member lies."""
    uri = info.uri
    assert isinstance(uri, MemberUri)
    return uri


def _check_behind(read: Read, entry: TarEntry, stop: int) -> None:
    """Raise `OssTarError` unless nothing but entries that are no members stands from `entry` to `stop`."""
    position = entry.stop
    while position < stop:
        following = next_entry(read, position)
        if following is None or following.is_member:
            raise OssTarError(f"another member stands before byte {stop}, where the next one should be")
        position = following.stop
    if position != stop:
        raise OssTarError(f"it ends at byte {position}, and not before the next one, at byte {stop}")


def _checked(read: Read, info: ObjectInfo, download: Download) -> TarEntry:
    """Return the entry at a member's place, if it is that member. `read` can read what was downloaded."""
    uri = _member_uri(info)
    entry = next_entry(read, uri.start)
    if entry is None:
        raise OssTarError("the tar ends before it")
    if not entry.is_member:
        raise OssTarError(f"{entry.name!r:.200} is no file")
    if (uri.key and entry.name != uri.key) or (info.size is not None and entry.size != info.size):
        raise OssTarError(f"it is {entry.name!r:.200} of {entry.size} bytes, and should be {uri.key!r:.200}")
    if entry.body + entry.size > download.stat.size:
        raise OssTarError(f"{entry.name!r:.200} is cut off: the tar ends in it")
    if entry.stop != uri.stop and (entry.stop > uri.stop or uri.stop <= download.span.stop):
        _check_behind(read, entry, uri.stop)
    return entry
