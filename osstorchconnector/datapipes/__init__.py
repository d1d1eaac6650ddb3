"""Objects as torch DataPipes: list, parse a manifest, shard, fetch, save.

Importing this registers their functional forms. They need no particular torchdata. A graph by hand:

    objects = OssObjectLister("oss://bucket/prefix/", client).shard_oss_objects().fetch_oss_objects(client)
"""

from __future__ import annotations

from .fetcher import OssObjectFetcher, OssObjectMapFetcher, OssObjectTable
from .lister import OssObjectLister, OssObjectNames
from .manifest import OssManifestParser, imagenet_manifest_parser, jsonl_manifest_parser
from .saver import OssObjectSaver
from .sharder import OssObjectSharder

__all__ = [
    "OssManifestParser",
    "OssObjectFetcher",
    "OssObjectLister",
    "OssObjectMapFetcher",
    "OssObjectNames",
    "OssObjectSaver",
    "OssObjectSharder",
    "OssObjectTable",
    "imagenet_manifest_parser",
    "jsonl_manifest_parser",
]
