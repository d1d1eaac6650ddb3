"""`oss://` for everything that reads and writes through fsspec: `OssFileSystem`.

fsspec has the interface, the expansion of paths and what is common to all file systems. This room has the data path:
our client, readers and writers.

    access --> listings --> reading --.
       |          |                    >-- core: OssFileSystem
       |          '------> changes ---'
    settings

- `core`: the class, and how it opens files
- `access`: one client of ours under fsspec's class: its event loop, pickles, instances
- `settings`: endpoint, region and credentials, in our words and in those of ossfs
- `listings`: what is there: ls, info, find, walk, du
- `reading`: whole objects, many ranges at once (planned by `ranges`), downloads
- `changes`: writing, copying, moving and removing objects, uploads
- `opened`: the files that `open` returns; `appending` is the one for mode "ab"
- `paths`: names of objects as fsspec has them, and the entries of listings

fsspec is imported here and nowhere else in the package.
"""

from __future__ import annotations

from .appending import OssAppendFile
from .core import OssFileSystem
from .opened import OssCachedFile, OssReadFile, OssWriteFile

__all__ = ["OssAppendFile", "OssCachedFile", "OssFileSystem", "OssReadFile", "OssWriteFile"]
