"""What is probably a mistake in a prefix: nothing lies under it, or more than was meant."""

from __future__ import annotations

import difflib
import functools
import logging
from bisect import bisect_left

from ..client.client import OssClient
from ..client.operations import Operations
from ..errors import OssError, OssNotFoundError
from ..index.filling import Wait
from ..index.filters import Keep, filtered
from ..index.layout import Batch
from ..protocol.values import ListPage
from ..uri import OssUri

_MOST_SHOWN = 5
_SIMILAR = 0.6

_logger = logging.getLogger(__name__)


def no_objects(client: OssClient, prefix: OssUri, markers: int, wait: Wait) -> OssNotFoundError:
    """Return the error about a prefix without objects; one request looks for the prefix that was meant."""
    if markers:
        found = f"no object under {prefix}, only markers of folders ({markers}), which keep_folder_markers=True keeps"
    else:
        found = f"no object under {prefix}"
    above, slash, _ = prefix.key.rstrip("/").rpartition("/")
    parent = OssUri(prefix.bucket, above + slash)
    near = "" if markers else described_near(prefix.key, parent, _below(client, parent, wait))
    return OssNotFoundError(f"{found}{near} (allow_empty=True accepts a prefix without objects)")


def described_near(key: str, parent: OssUri, below: ListPage | None) -> str:
    """Return what to say about the names that lie beside a prefix; nothing if they are not known. Pure."""
    if below is None:
        return ""
    names = [*below.prefixes, *below.keys]
    if not names:
        return f", and none under {parent}" if key else ": the bucket is empty"
    # An object is meant by "name/" only if it is called "name".
    folders = [*below.prefixes, *(name for name in below.keys if name == key.rstrip("/"))]
    # Only the last parts are compared: in a deep folder any two whole names look alike.
    start = len(parent.key)
    by_fold = {name[start:].casefold(): name for name in (folders if key.endswith("/") else names)}
    close = difflib.get_close_matches(key[start:].casefold(), by_fold, n=1, cutoff=_SIMILAR)
    if close:
        return f"; did you mean {OssUri(parent.bucket, by_fold[close[0]])}?"
    more = ", ..." if len(names) > _MOST_SHOWN or below.next_token else ""
    return f"; under {parent} there are {', '.join(name[start:] for name in names[:_MOST_SHOWN])}{more}"


class Siblings:
    """Says once that a prefix without `/` at its end takes in a folder of that name, and others besides."""

    def __init__(self, prefix: OssUri, keep: Keep | None = None) -> None:
        self._prefix, self._keep = prefix, keep
        self._is_asked = bool(prefix.key) and not prefix.key.endswith("/")
        self._inside = self._outside = ""

    def see(self, batch: Batch) -> None:
        """Look at objects that are listed, in their order; those that the filter leaves out don't count."""
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
        page: ListPage = wait(client.submit(functools.partial(Operations.list_page, uri=parent, delimiter="/")))
    except OssError:
        return None  # the hint is not worth an error of its own
    return page
