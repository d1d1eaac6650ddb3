"""Readers and writers with the real client on the emulator: what their tests share."""

from __future__ import annotations

import json
import random
from pathlib import Path

from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.files.read_plan import MIB
from osstorchconnector.files.reader import OssReader
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

DATA = random.Random(9).randbytes(20 * MIB + 333)
SETTINGS = NO_LOGS | {"retryBaseDelay": 0.001, "retryMaxDelay": 0.01, "maxAttempts": 12, "readTimeout": 5}


def config_file(folder: Path, **settings: object) -> str:
    """Write a config file with quick retries and `settings`; return its path."""
    path = folder / "config.json"
    path.write_text(json.dumps(SETTINGS | settings))
    return str(path)


def client_of(bucket: OssBucket, folder: Path, **settings: object) -> OssClient:
    return OssClient(config_path=config_file(folder, **settings), **bucket.options)


def reader_of(client: OssClient, uri: OssUri) -> OssReader:
    return OssReader(client, uri, transfer=client.config.checkpoint)


def writer_of(client: OssClient, uri: OssUri) -> OssWriter:
    return OssWriter(client, uri, transfer=client.config.checkpoint)
