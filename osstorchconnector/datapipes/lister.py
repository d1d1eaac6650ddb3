"""Pipes of objects: listed below prefixes, or given by name."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice

from ..client.client import OssClient, as_client
from ..client.key_space import EvenCuts
from ..client.limiter import FIRST_LIMITS
from ..client.listing import PrefixPages
from ..client.paging import parallel_pages
from ..errors import OssConfigError, OssError, OssNotFoundError, OssUsageError
from ..index.classes import Classified
from ..index.filters import Filter, Filtered, Keep, all_filtered, as_keep, described, filtered
from ..index.fixed import FixedIndex
from ..index.info import ObjectInfo
from ..index.labels import LabelSource, are_folders, folder_below
from ..index.layout import UNKNOWN_SIZE, Batch
from ..index.shared import SharedIndex
from ..index.shared_file import Source, Wait
from ..protocol.answers import PageOrder
from ..protocol.values import ListPage
from ..uri import OssUri, object_paths, parse_uri
from .numbered_objects import NumberedObjects, functional, named, stream_source
from .torch_pipes import IterDataPipe

_MOST_SHOWN = 5
_SIMILAR = 0.6

_logger = logging.getLogger(__name__)


def no_objects(client: OssClient, prefix: OssUri, markers: int, wait: Wait) -> OssNotFoundError:
    """Return the error for a prefix without objects.

    Unless there are folder markers, one request looks for a similar prefix that the error can suggest.
    """
    if markers:
        found = f"no object under {prefix}, only markers of folders ({markers}), which keep_folder_markers=True keeps"
    else:
        found = f"no object under {prefix}"
    above, slash, _ = prefix.key.rstrip("/").rpartition("/")
    parent = OssUri(prefix.bucket, above + slash)
    near = "" if markers else described_near(prefix.key, parent, _below(client, parent, wait))
    return OssNotFoundError(f"{found}{near} (allow_empty=True accepts a prefix without objects)")


def described_near(key: str, parent: OssUri, below: ListPage | None) -> str:
    """Return the part of the error text about names near the prefix; empty if `below` is None."""
    if below is None:
        return ""
    names = [*below.prefixes, *below.keys]
    if not names:
        return f", and none under {parent}" if key else ": the bucket is empty"
    # The prefix "name/" can stand for an object only if the object's name is "name".
    folders = [*below.prefixes, *(name for name in below.keys if name == key.rstrip("/"))]
    # Compare only the names below the parent: in a deep folder, any two full names look similar.
    start = len(parent.key)
    by_fold = {name[start:].casefold(): name for name in (folders if key.endswith("/") else names)}
    close = difflib.get_close_matches(key[start:].casefold(), by_fold, n=1, cutoff=_SIMILAR)
    if close:
        return f"; did you mean {OssUri(parent.bucket, by_fold[close[0]])}?"
    more = ", ..." if len(names) > _MOST_SHOWN or below.next_token else ""
    return f"; under {parent} there are {', '.join(name[start:] for name in names[:_MOST_SHOWN])}{more}"


class Siblings:
    """Warns once if a prefix without a final `/` matches a folder of that name and also objects outside of it."""

    def __init__(self, prefix: OssUri, keep: Keep | None = None) -> None:
        self._prefix, self._keep = prefix, keep
        self._is_asked = bool(prefix.key) and not prefix.key.endswith("/")
        self._inside = self._outside = ""

    def see(self, batch: Batch) -> None:
        """Check the next batch of the listing, in order. Objects that the filter drops do not count as outside."""
        if not self._is_asked:
            return
        keys, folder = batch.tails, f"{self._prefix.key}/"
        place = bisect_left(keys, folder)
        if place < len(keys) and keys[place].startswith(folder):
            self._inside = keys[place]
        self._outside = self._outside or self._first_outside(batch, folder)
        if self._inside and self._outside:
            self._is_asked = False
            _logger.warning(
                "the prefix %s also takes objects outside of %s/, such as %s: end it with / to leave them out",
                self._prefix,
                self._prefix,
                OssUri(self._prefix.bucket, self._outside),
            )

    def _first_outside(self, batch: Batch, folder: str) -> str:
        for key, size in zip(batch.tails, batch.sizes, strict=True):
            if not key.startswith(folder):
                row = batch._replace(tails=[key], sizes=[size])
                if self._keep is None or filtered(row, self._keep).tails:
                    return key
        return ""


def _below(client: OssClient, parent: OssUri, wait: Wait) -> ListPage | None:
    try:
        page: ListPage = wait(client.submit(lambda operations: operations.list_page(parent, delimiter="/")))
    except OssError:
        return None  # the caller's error is more useful than one about its hint
    return page


BATCH_ROWS = 1000


class PrefixListing:
    """The objects below some prefixes: one prefix after the other, each in OSS's order, page by page.

    With `enableFastList` in the config the pages of a prefix are fetched in parallel; by default, if OSS is far and
    there are many. The order stays the same.

    Folder markers (empty objects whose key ends in `/`) are left out and counted, unless `keep_folder_markers` is set.
    A prefix without objects raises `OssNotFoundError`, unless `allow_empty` is set. `keep` is the filter that is
    applied to the rows later. Here it only keeps warnings from naming an object that it drops. With `folders`, the
    label of an object is the name of its folder below the prefix.
    """

    def __init__(
        self,
        client: OssClient,
        prefixes: tuple[OssUri, ...],
        *,
        keep_folder_markers: bool = False,
        allow_empty: bool = False,
        keep: Keep | None = None,
        folders: bool = False,
    ) -> None:
        self._client, self._prefixes, self._keep, self._folders = client, prefixes, keep, folders
        self._keep_folder_markers, self._allow_empty = keep_folder_markers, allow_empty

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        first, found, start_after = _unpack_cursor(cursor)
        for number in range(first, len(self._prefixes)):
            prefix, siblings, markers = self._prefixes[number], Siblings(self._prefixes[number], self._keep), 0
            with contextlib.closing(self._pages(prefix, start_after, wait)) as pages:
                for page in pages:
                    batch = self._batch(prefix, page)
                    found, markers = found or bool(batch.tails), markers + batch.skipped
                    siblings.see(batch)
                    if not page.next_token:
                        if not found and not self._allow_empty:
                            raise no_objects(self._client, prefix, markers, wait)
                        cursor = _pack_cursor(number + 1, False, "")
                    elif page.objects:
                        cursor = _pack_cursor(number, found, page.keys[-1])
                    yield batch._replace(cursor=cursor)
            found, start_after = False, ""

    def _pages(self, prefix: OssUri, start_after: str, wait: Wait) -> Generator[ListPage, None, None]:
        """Yield the pages of a listing. The next pages are requested ahead."""
        config = self._client.config
        if config.fast_list == "auto":
            workers, concurrency = config.list_worker, config.list_concurrency
            pages = PrefixPages(self._client, prefix, start_after=start_after, workers=workers, wait=wait)
            yield from pages.pages(concurrency)
            return
        if config.fast_list:
            ask = functools.partial(self._request_after, prefix, config.list_worker)
            # Each range costs about a request more, so their number stays as it is.
            concurrency = FIRST_LIMITS["pages"] if config.list_concurrency == "auto" else config.list_concurrency
            yield from parallel_pages(
                ask, prefix.key, start_after=start_after, concurrency=concurrency, wait=wait, cuts=EvenCuts()
            )
            return
        yield from self._client.list_pages(prefix, start_after=start_after, wait=wait)

    def _request_after(self, prefix: OssUri, workers: int, start_after: str) -> Future[ListPage]:
        return self._client.submit(
            lambda operations: operations.list_page(prefix, start_after=start_after, order=PageOrder(start_after)),
            workers=workers,
        )

    def _batch(self, prefix: OssUri, page: ListPage) -> Batch:
        keys, sizes = page.keys, page.sizes
        if not self._keep_folder_markers and 0 in sizes:
            kept = [row for row in zip(keys, sizes, strict=True) if not is_folder_marker(*row)]
            keys, sizes = [key for key, _ in kept], [size for _, size in kept]
        labels = [folder_below(key, prefix.key) for key in keys] if self._folders else None
        return Batch(f"{prefix.bucket}/", keys, sizes, labels, b"", len(page.objects) - len(keys))


def _as_folder(prefix: OssUri) -> OssUri:
    return prefix if not prefix.key or prefix.key.endswith("/") else prefix._replace(key=f"{prefix.key}/")


def is_folder_marker(key: str, size: int) -> bool:
    """Return whether an object only marks a folder. Web consoles create such objects."""
    return not size and key.endswith("/")


def object_batches(uris: Iterable[str]) -> Iterator[Batch]:
    """Yield the named objects as rows of an index. Raise `OssUriError` for a URI that is not an object's."""
    names = object_paths(uris)
    while tails := list(islice(names, BATCH_ROWS)):
        yield Batch("", tails, [UNKNOWN_SIZE] * len(tails))


@functional("list_oss_objects")
class OssObjectLister(NumberedObjects):
    """Yield an `ObjectInfo` for each object below `prefixes` (functional form: `list_oss_objects`).

    `prefixes` is one `oss://bucket/prefix`, several, or a pipe of them. Prefixes given directly are listed only once:
    all copies of this pipe, in any process, read one table. A pipe of prefixes is listed by each copy, since each may
    get other prefixes. An object that `filter` drops has no number in the order. A prefix without objects raises
    `OssNotFoundError`, unless `allow_empty` is set. `labels="folders"` is that of `OssMapDataset.from_prefix`, for
    prefixes given directly.
    """

    def __init__(
        self,
        prefixes: str | Iterable[str],
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        keep_folder_markers: bool = False,
        allow_empty: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
    ) -> None:
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        self._keep_folder_markers, self._allow_empty = keep_folder_markers, allow_empty
        self._keep, self._folders = as_keep(filter), bool(labels) and are_folders(labels)
        self._source: Iterable[str] = ()
        if isinstance(prefixes, IterDataPipe):
            if self._folders:
                raise OssUsageError('labels="folders" needs all prefixes at once: give them directly, not as a pipe')
            self._source = prefixes
            super().__init__(None)
        else:
            parsed = tuple(map(parse_uri, [prefixes] if isinstance(prefixes, str) else prefixes))
            if self._folders:
                parsed = tuple(map(_as_folder, parsed))
            identity = f"below {[str(uri) for uri in parsed]} {keep_folder_markers} {described(self._keep)}"
            identity += " folders" if self._folders else ""
            index = SharedIndex(self._listing(parsed), folder=self._client.config.index_dir)
            super().__init__(index, identity, parsed[0].bucket if parsed else "")
            self.has_classes, self.where = self._folders, named([uri.shown for uri in parsed], "prefixes")

    def stream(self) -> Iterator[ObjectInfo]:
        for prefix in self._source:
            yield from stream_source(self._listing((parse_uri(prefix),)))

    def _listing(self, prefixes: tuple[OssUri, ...]) -> Source:
        listing = PrefixListing(
            self._client,
            prefixes,
            keep_folder_markers=self._keep_folder_markers,
            allow_empty=self._allow_empty,
            keep=self._keep,
            folders=self._folders,
        )
        source: Source = listing if self._keep is None else Filtered(listing, self._keep)
        if not self._folders:
            return source
        return Classified(source, ", ".join(uri.shown for uri in prefixes), folder=self._client.config.index_dir)


class OssObjectNames(NumberedObjects):
    """Yield an `ObjectInfo` for each named object, in the order given; nothing is listed.

    Spawned processes read a long list of names from a file in `folder`. For listings it is the config key `indexDir`.
    """

    def __init__(self, object_uris: str | Iterable[str], *, filter: Filter = None, folder: str = "") -> None:
        if not isinstance(object_uris, Iterable):
            raise OssConfigError(f"object_uris: a URI or several, not a {type(object_uris).__name__}")
        batches, keep = object_batches([object_uris] if isinstance(object_uris, str) else object_uris), as_keep(filter)
        index = FixedIndex(batches if keep is None else all_filtered(batches, keep), folder=folder)
        super().__init__(index, f"named {index.digest()}")
        self.where = "named objects"


def _pack_cursor(number: int, found: bool, last_key: str) -> bytes:
    """Return where a listing resumes: prefix, whether an object was found under it, and the last key listed."""
    return f"{number} {found:d} {last_key}".encode()


def _unpack_cursor(cursor: bytes) -> tuple[int, bool, str]:
    number, found, last_key = (cursor or b"0 0 ").decode().split(" ", 2)
    return int(number), found == "1", last_key
