"""`oss://` in webdataset: `wds.WebDataset("oss://bucket/shards/{000..099}.tar")` and `wds.TarWriter("oss://...")`.

    from osstorchconnector.integrations.webdataset import OssOpener

    opener = OssOpener(endpoint="https://oss-cn-beijing.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
    opener.register()
    dataset = wds.WebDataset("oss://bucket/shards/{000..099}.tar", shardshuffle=100)

webdataset opens a URL by a function for its scheme. `register` makes ours the one for `oss`, in this process and in
those that it forks. Workers that are spawned need it too: `DataLoader(..., worker_init_fn=opener.register)`.
"""

from __future__ import annotations

from typing import Any

from ..filesystem import OssFileSystem
from ..optional import needed


class OssOpener:
    """Opens objects for webdataset. `options` are those of `OssFileSystem`; without any, the environment has them.

    Objects are read as streams that fetch the next bytes ahead. One that is written is stored when it is closed. It can
    be pickled: secrets stay out of the pickle.
    """

    def __init__(self, **options: Any) -> None:
        self._fs = OssFileSystem(**options)

    def __call__(self, url: str, mode: str = "rb", bufsize: int = 8192, **_: Any) -> Any:
        """Open an object for reading ("rb") or writing ("wb"); `bufsize` is not needed."""
        return self._fs.open(url, mode)

    def register(self, worker_id: int = 0) -> None:
        """Make this the opener of `oss://` URLs in this process; a DataLoader's worker may call it.

        Raises `OssConfigError` where webdataset is missing.
        """
        try:
            from webdataset.gopen import gopen_schemes
        except Exception as error:  # missing, too old or broken
            raise needed(__name__, "webdataset>=1", error) from error
        gopen_schemes["oss"] = self
