"""Files and folders to OSS and back: what a general client has beyond single requests.

`client`    the methods of `OssClient`: upload, download, exists, sign, and what `put` takes beside bytes
   v
`folders`   many files at a time, what they have done so far, and how they end together
   v
`single`    one file, by a writer or a reader: whole or not at all, its CRC-64 checked
"""

from __future__ import annotations

from .client import TransferClient
from .folders import Transferred

__all__ = ["TransferClient", "Transferred"]
