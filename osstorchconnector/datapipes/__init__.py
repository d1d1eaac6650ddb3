"""Objects as torch DataPipes: list, parse a manifest, shard, fetch, save.

Importing this registers their functional forms. They need no particular torchdata. A graph by hand:

    objects = OssObjectLister("oss://bucket/prefix/", client).shard_oss_objects().fetch_oss_objects(client)

- which objects: `lister`, `manifest`, `saved`
- in which order, and whose: `shuffler`, `sharder`, `ranks`
- their bytes: `fetcher`, `table` for maps, with `batches` of them, `streams` for archive readers; and back: `saver`
- as a dataset that goes on where it was: `graph`, `resumable`, `state`
- `numbered_objects` is what all share
"""

from __future__ import annotations

from .fetcher import OssObjectFetcher
from .graph import OssPipeDataset
from .lister import OssObjectLister, OssObjectNames
from .manifest import OssManifestParser, imagenet_manifest_parser, jsonl_manifest_parser
from .saver import OssObjectSaver
from .sharder import OssObjectSharder
from .shuffler import OssObjectShuffler
from .state import merge_states
from .streams import OssNamedStreams
from .table import OssObjectMapFetcher, OssObjectTable

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
    "imagenet_manifest_parser",
    "jsonl_manifest_parser",
    "merge_states",
]
