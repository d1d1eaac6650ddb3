"""A pipe of the members of tars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..client.client import OssClient, as_client
from ..errors import OssConfigError
from ..index.chunks import Chunks
from ..index.classes import Classified
from ..index.filters import Filter, Filtered, as_keep, described
from ..index.labels import LabelSource, are_folders
from ..index.shared import SharedIndex
from ..index.shared_file import Source
from ..tar.listing import TarIndexes, TarListing, tar_files
from .numbered_objects import NumberedObjects, functional, named

GroupBy = Literal["", "basename"]

# So many neighbours go to one worker, then as many to the next one: what one request brings, of small members.
_SHARE_ROWS = 128


@functional("list_tar_members")
class OssTarLister(NumberedObjects):
    """Yield an `ObjectInfo` for each member of tars (functional form: `list_tar_members`), for `fetch_oss_objects`.

    `tars` is one `oss://bucket/name.tar`, a prefix that ends in `/` (all below it that end in `.tar`), several of both,
    or pairs of a tar and its index. `indexes` is the index of one tar, or a list of as many as there are tars: a URI or
    a local path each. Where there is none, it is `NAME.tar.idx` beside the tar. If that is not there, the headers of
    the tar are read, and `keep_index` stores an index there. Raises `OssTarError` if an index is of another tar.

    Only regular files are members. Their labels are their numbers in the tar, as text. `group_by="basename"` makes one
    sample of neighbours whose names differ only behind the first dot. With `labels="folders"`, a member's label is the
    number of the folder that holds it, as for `OssMapDataset.from_tar`.
    """

    def __init__(
        self,
        tars: str | Iterable[str | tuple[str, str | None]],
        endpoint: str | OssClient,
        *,
        indexes: TarIndexes = None,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        group_by: GroupBy = "",
        keep_index: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
    ) -> None:
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        if group_by not in ("", "basename"):
            raise OssConfigError(f'group_by: {group_by!r:.80} is neither "" nor "basename"')
        files, keep, folders = tar_files(tars, indexes), as_keep(filter), bool(labels) and are_folders(labels)
        source: Source = TarListing(
            client,
            files,
            names=keep is not None or folders,
            samples=group_by == "basename",
            keep_index=keep_index,
            folders=folders,
        )
        if keep is not None:
            source = Filtered(source, keep)
        where = [str(file.uri) for file in files]
        if folders:
            source = Classified(source, ", ".join(where), folder=client.config.index_dir)
        identity = f"in tars {where} {group_by} {described(keep)}{' folders' if folders else ''}"
        super().__init__(SharedIndex(source, folder=client.config.index_dir), identity, files[0].uri.bucket)
        self.chunking, self.has_classes, self.where = Chunks(_SHARE_ROWS), folders, named(where, "tars")
