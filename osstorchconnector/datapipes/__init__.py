"""Objects as torch DataPipes: list, parse a manifest, shard, fetch, save.

Importing this registers their functional forms. They need no torchdata. A graph by hand:

    objects = OssObjectLister("oss://bucket/prefix/", client).shard_oss_objects().fetch_oss_objects(client)

How a key flows:

    `lister`, `manifest`, `saved`     which objects: they fill a table (index/), in which each object has a number
        v
    `numbered_objects`                in which order, and whose: shuffled and shared out by arithmetic over numbers
        v                             `resumable` begins where an epoch was broken off, and counts what is given out
    `fetcher`                         their bytes, many requests in flight, in order; `table` does it by number
        v
    `DataObject`, or what a transform makes of it

- `tar_lister` lists the members of tars, in the same table
- `graph` makes a dataset of a graph of pipes; `state` is where an epoch stands, as a dictionary
- `job` is who this process is: which rank, which worker, and what all of them do together
- `saver` goes the other way: bytes into objects
- `torch_pipes` is what all of these take from torch's DataPipes; `own_pipes` stands in for them where torch has none
  (stages of your own can derive from `torch_pipes.IterDataPipe`, which is the right one of both)
"""

from __future__ import annotations

from . import own_pipes, torch_pipes
from .fetcher import OssObjectFetcher
from .graph import OssNamedStreams, OssPipeDataset
from .lister import OssObjectLister, OssObjectNames
from .manifest import OssManifestParser, imagenet_manifest_parser, jsonl_manifest_parser
from .numbered_objects import OssObjectSharder, OssObjectShuffler
from .saved import OssSavedObjects
from .saver import OssObjectSaver
from .state import merge_states
from .table import OssObjectMapFetcher, OssObjectTable
from .tar_lister import OssTarLister

__all__ = [
    "OssManifestParser",
    "OssNamedStreams",
    "OssObjectFetcher",
    "OssObjectLister",
    "OssObjectMapFetcher",
    "OssObjectNames",
    "OssObjectSaver",
    "OssObjectSharder",
    "OssObjectShuffler",
    "OssObjectTable",
    "OssPipeDataset",
    "OssSavedObjects",
    "OssTarLister",
    "imagenet_manifest_parser",
    "jsonl_manifest_parser",
    "merge_states",
    "own_pipes",
    "torch_pipes",
]
