"""Manifests: files that name objects and their labels, and the parsers for them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

from ..client.client import OssClient, as_client
from ..errors import OssConfigError, OssError, OssManifestError, OssUriError, OssUsageError
from ..files.reader import OssReader
from ..index.classes import Classified
from ..index.filters import Filter, Filtered, as_keep, described
from ..index.info import ObjectInfo
from ..index.labels import LabelSource, are_folders, folder_below
from ..index.layout import UNKNOWN_SIZE, Batch
from ..index.shared import SharedIndex
from ..index.shared_file import Source, Wait
from ..uri import OssUri, checked_key, parse_object_uri, parse_uri
from .numbered_objects import NumberedObjects, functional, named, stream_source
from .torch_pipes import IterDataPipe

_logger = logging.getLogger(__name__)

ManifestParser = Callable[[io.IOBase], Iterable[Any]]

BATCH_ROWS = 1000
MAX_LINE_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_SHOWN_CHARACTERS = 80


def imagenet_manifest_parser(reader: io.IOBase) -> Iterator[tuple[str, str]]:
    """Yield (key, label) for each line `key<TAB>label` or `key` of `reader`, a binary file.

    Further columns and empty lines are ignored. A line without a label has the label `""`. The text is UTF-8. White
    space at the end of a line is ignored; use `jsonl_manifest_parser` for keys that end in white space. Raises
    `OssManifestError`, with file and line number, for a line that names no object or is longer than 4 MiB.
    """
    return (entry for _, entry in _imagenet_entries(reader))


def jsonl_manifest_parser(reader: io.IOBase) -> Iterator[tuple[str, Any]]:
    """Yield (key, label) for each line `{"key": ..., "label": ...}` of `reader`, a binary file.

    The label may be any JSON value; without one it is `""`. Every key that OSS allows can be written in this form.
    Empty lines are ignored. Raises `OssManifestError`, with file and line number, for a line that is not such an
    object or is longer than 4 MiB.
    """
    return (entry for _, entry in _jsonl_entries(reader))


class ManifestListing:
    """The objects that the manifests name, in the order of the manifests. An object's URI is `oss_base_uri + key`."""

    def __init__(
        self,
        client: OssClient,
        manifests: tuple[str, ...],
        manifest_parser: ManifestParser,
        oss_base_uri: str,
        *,
        folders: bool = False,
    ) -> None:
        if not callable(manifest_parser):
            raise OssConfigError(f"manifest_parser: {manifest_parser!r} can't be called")
        for manifest in manifests:
            if manifest.startswith("oss://"):
                parse_object_uri(manifest)
        self._fixed = _fixed_part(oss_base_uri)
        self._client, self._manifests = client, manifests
        self._parser, self._base, self._folders = manifest_parser, oss_base_uri, folders

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        first, done = map(int, cursor.split() or (0, 0))
        for number in range(first, len(self._manifests)):
            with contextlib.closing(self._rows(self._manifests[number])) as rows:
                next(islice(rows, done, done), None)
                while taken := list(islice(rows, BATCH_ROWS)):
                    done += len(taken)
                    names, labels = zip(*taken, strict=True)
                    yield Batch("", names, [UNKNOWN_SIZE] * len(names), labels, b"%d %d" % (number, done))
            if not done:
                _logger.warning("the manifest %s names no object", self._manifests[number])
            done = 0

    def _rows(self, manifest: str) -> Generator[tuple[str, Any], None, None]:
        """Yield `bucket/key` and label of each entry."""
        with _opened(self._client, manifest) as reader, contextlib.closing(self._parsed(manifest, reader)) as entries:
            for kind, number, entry in entries:
                try:
                    key, label = _key_and_label(entry)
                    name = self._name(key)
                except ValueError as error:
                    raise OssManifestError(f"manifest {manifest}, {kind} {number}: {error}") from None
                yield name, folder_below(key) if self._folders else label

    def _parsed(self, manifest: str, reader: io.IOBase) -> Generator[tuple[str, int, Any], None, None]:
        """Yield each entry of the manifest with its position: the line if the parser is ours, else the entry's number.

        If the parser raises, the `OssManifestError` names the manifest and the last entry that was good. `OssError`s
        of the parser are raised unchanged.
        """
        number = 0
        try:
            for parser, entries_with_lines in _WITH_LINES:
                if parser is self._parser:
                    for line, entry in entries_with_lines(reader):
                        yield "line", line, entry
                    return
            entries = self._parser(reader)
            if isinstance(entries, str | bytes) or not isinstance(entries, Iterable):
                raise TypeError(f"it returned a {type(entries).__name__}, not an iterable of (key, label)")
            for entry in entries:
                number += 1
                yield "entry", number, entry
        except OssError:
            raise
        except Exception as error:
            raise OssManifestError(
                f"manifest {manifest}: the parser failed after entry {number}: {type(error).__name__}: {error}"
            ) from error

    def _name(self, key: str) -> str:
        if self._fixed is None:
            return parse_object_uri(self._base + key).path[1:]
        bucket, key_base = self._fixed
        return f"{bucket}/{checked_key(key_base + key, key)}"


@functional("parse_oss_manifest")
class OssManifestParser(NumberedObjects):
    """Yield an `ObjectInfo`, with its label, for each entry of `manifests` (functional form: `parse_oss_manifest`).

    A manifest is a local path or an `oss://bucket/key`; `manifests` is one, several, or a pipe of them.
    `manifest_parser` gets a manifest as a binary file and yields (key, label), or keys alone; an object's URI is
    `oss_base_uri + key`. Manifests given directly are parsed once: all copies of this pipe, in any process, read one
    table. Manifests that come through a pipe are parsed by each copy. `labels="folders"` is that of
    `OssMapDataset.from_prefix`, for manifests given directly.
    """

    def __init__(
        self,
        manifests: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        manifest_parser: ManifestParser,
        oss_base_uri: str,
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
    ) -> None:
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        self._parser, self._base, self._keep = manifest_parser, oss_base_uri, as_keep(filter)
        self._folders = bool(labels) and are_folders(labels)
        self._source: Iterable[str | os.PathLike[str]] = ()
        if isinstance(manifests, IterDataPipe):
            if self._folders:
                raise OssUsageError('labels="folders" needs all manifests at once: give them directly, not as a pipe')
            self._listing(())  # raises for a wrong parser or base now, not at the first manifest
            self._source = manifests
            super().__init__(None)
        else:
            paths = _paths(manifests)
            identity = f"in {[*paths]} {oss_base_uri} {described(self._keep)}{' folders' if self._folders else ''}"
            super().__init__(SharedIndex(self._listing(paths), folder=self._client.config.index_dir), identity)
            self.has_classes, self.where = self._folders, named(paths, "manifests")

    def stream(self) -> Iterator[ObjectInfo]:
        for manifest in self._source:
            yield from stream_source(self._listing(_paths(manifest)))

    def _listing(self, paths: tuple[str, ...]) -> Source:
        listing = ManifestListing(self._client, paths, self._parser, self._base, folders=self._folders)
        source: Source = listing if self._keep is None else Filtered(listing, self._keep)
        if not self._folders:
            return source
        return Classified(source, f"{self._base} in {', '.join(paths)}", folder=self._client.config.index_dir)


def _imagenet_entries(reader: io.IOBase) -> Iterator[tuple[int, tuple[str, str]]]:
    for number, line in _lines(reader):
        key, *more = line.lstrip(" ").rstrip().split("\t")
        if key:
            yield number, (key, more[0] if more else "")
        elif more:
            raise _line_error(reader, number, line, "there is no key before the tab")


def _jsonl_entries(reader: io.IOBase) -> Iterator[tuple[int, tuple[str, Any]]]:
    for number, line in _lines(reader):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
            raise _line_error(reader, number, line, f"not JSON: {error}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str) or not entry["key"]:
            raise _line_error(reader, number, line, 'not of the form {"key": "...", "label": ...}')
        yield number, (entry["key"], entry.get("label", ""))


# For our own parsers, functions that also give the line of each entry. Other parsers do not give it.
_WITH_LINES: tuple[tuple[ManifestParser, Callable[[io.IOBase], Iterator[tuple[int, Any]]]], ...] = (
    (imagenet_manifest_parser, _imagenet_entries),
    (jsonl_manifest_parser, _jsonl_entries),
)


def _paths(manifests: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    several = [manifests] if isinstance(manifests, str | bytes | os.PathLike) else manifests
    try:
        paths: tuple[object, ...] = tuple(os.fspath(path) for path in several)
    except TypeError:
        paths = (None,)
    found = tuple(path for path in paths if isinstance(path, str))
    if len(found) < len(paths):
        raise OssConfigError(f"manifest_file_path: {_shown(manifests)} is no path or oss://bucket/key")
    return found


def _key_and_label(entry: Any) -> tuple[str, Any]:
    """Return key and label of a parser's entry. Raise `ValueError` if it is neither (key, label) nor a key."""
    if isinstance(entry, str):
        key, label = entry, ""
    elif isinstance(entry, tuple | list) and len(entry) == 2:
        key, label = entry
    else:
        raise ValueError(f"the parser yielded {_shown(entry)}, not (key, label)")
    if not isinstance(key, str):
        raise ValueError(f"the key that the parser yielded is not a string: {_shown(key)}")
    if not key:
        raise ValueError("the key is empty")
    return key, label


def _fixed_part(oss_base_uri: str) -> OssUri | None:
    """Return `oss_base_uri` parsed, or None if it does not contain the whole bucket name.

    If it is parsed, only the key of each entry needs a check.
    """
    if oss_base_uri == "":
        return None
    if not isinstance(oss_base_uri, str) or not oss_base_uri.startswith(("oss://", "/")):
        raise OssUriError(f"oss_base_uri: {oss_base_uri!r} does not begin a URI (write oss://bucket/prefix/)")
    has_bucket = "/" in oss_base_uri.removeprefix("oss:/")[1:]
    return parse_uri(oss_base_uri) if has_bucket else None


@contextlib.contextmanager
def _opened(client: OssClient, manifest: str) -> Iterator[io.IOBase]:
    if manifest.startswith("oss://"):
        with OssReader(client, parse_object_uri(manifest), transfer=client.config.dataset) as reader:
            yield reader
        return
    try:
        file = open(manifest, "rb")
    except OSError as error:
        raise OssManifestError(f"manifest {manifest} can't be opened: {error.strerror}") from error
    with file:
        yield file


def _lines(reader: io.IOBase) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line, without its line end. Any kind of binary file is read in large pieces.

    Raises `OssManifestError` for a line longer than `MAX_LINE_BYTES`: a file without line ends must not fill memory.
    """
    number, rest = 0, b""
    read: Callable[[int], bytes] = reader.read
    while piece := read(_READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        _check_length(reader, number + 1, lines[0] if lines else rest)
        for line in lines:
            number += 1
            yield number, _decoded(reader, number, line)
    if rest:
        yield number + 1, _decoded(reader, number + 1, rest)


def _check_length(reader: io.IOBase, number: int, line: bytes) -> None:
    if len(line) > MAX_LINE_BYTES:
        begin = line[:_SHOWN_CHARACTERS].decode("utf-8", "replace")
        raise _line_error(reader, number, begin, f"longer than {MAX_LINE_BYTES >> 20} MiB")


def _decoded(reader: io.IOBase, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _line_error(reader, number, repr(line), f"not UTF-8: {error.reason}") from error


def _line_error(reader: io.IOBase, number: int, line: str, reason: str) -> OssManifestError:
    name = getattr(reader, "uri", None) or getattr(reader, "name", "manifest")
    return OssManifestError(f"{name}, line {number}: {reason}: {_shown(line)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
