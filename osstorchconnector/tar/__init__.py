"""Tars of samples: their headers, their index, their members. Nothing here imports torch.

    tar, and its index if there is one -> `listing`: members as rows of the table of objects (index/)
    rows in the order in which they are wanted -> `runs`: a range for neighbours -> `members`, cut out and checked

- `headers`: what a tar's blocks say, read from any bytes within bounds
- `index_file`: the file that lists where members are, in the C++ connector's format
- `scan`: the headers of a tar without an index
- `ranges`: memory of ranges that is used again, and what has come in it
- `samples`: members that are one sample
- `archive`: objects or files are packed into tars, with their indexes: `sources` are what is packed, in order, and
  `packing` writes a tar of them
"""

from __future__ import annotations

from .archive import generate_tar_archive
from .headers import TarEntry, entries
from .index_file import TarIndex, index_of, pack_index, unpack_index
from .listing import TarFile, TarListing
from .members import Sample

__all__ = [
    "Sample",
    "TarEntry",
    "TarFile",
    "TarIndex",
    "TarListing",
    "entries",
    "generate_tar_archive",
    "index_of",
    "pack_index",
    "unpack_index",
]
