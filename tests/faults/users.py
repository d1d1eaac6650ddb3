"""Who sends requests: each does a whole piece of work on a bucket and says whether all of it was right."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save
from torch.utils.data import DataLoader

from osstorchconnector import OssCheckpoint, OssClient, OssFileSystem, OssIterableDataset, OssMapDataset, OssSafetensor
from osstorchconnector.credentials import Credentials
from osstorchconnector.dcp import OssStorageReader, OssStorageWriter
from osstorchconnector.emulator.handle import EmulatorError, write_credentials
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import parse_object_uri

PART = 100 * 1024
DATA = bytes(range(256)) * 12
LARGE = bytes(range(251)) * (3 * PART // 251)
SAMPLES = {f"samples/{number:02}": bytes([number]) * (100 + number) for number in range(12)}
TENSORS = {"weight": torch.arange(40_000.0)}
TENSORS_FILE = save(TENSORS)
STATE = {**TENSORS, "step": 7}
CROWD = [f"crowd/{number:04}" for number in range(1100)]  # more than a page

# Quick to retry, quick to give up: what "in time" means here.
SETTINGS = {
    "retryBaseDelay": 0.001,
    "retryMaxDelay": 0.005,
    "maxAttempts": 3,
    "connectTimeout": 2,
    "readTimeout": 0.4,
    "operationTimeout": 3,
    "partSize": PART,
    "retryBudget": 100_000,
    "auditPath": "",
}
# Temporary credentials, whose token is sent with each request.
CREDENTIALS = Credentials(
    access_key_id="STS.FAULTS", access_key_secret="SECRET7of7the7key", security_token="TOKEN7of7the7session"
)
SECRETS = (str(CREDENTIALS.access_key_secret), str(CREDENTIALS.security_token))
PATIENT = {"maxAttempts": 20, "readTimeout": 20, "connectTimeout": 20, "operationTimeout": 50}


@dataclass(frozen=True)
class Site:
    """A bucket with everything in it that the users work on, and how they get there."""

    bucket: OssBucket
    config: Path
    endpoint: str = ""  # another than the bucket's
    shared: OssClient | None = None  # for all that is done, with its connections

    @property
    def options(self) -> dict[str, Any]:
        if self.shared is not None:
            return {"endpoint": self.shared}
        endpoint = self.endpoint or self.bucket.endpoint
        return {**self.bucket.options, "config_path": str(self.config), "endpoint": endpoint}

    def uri(self, key: str) -> str:
        return self.bucket.uri + key

    def configure(self, **settings: object) -> None:
        self.config.write_text(json.dumps({**SETTINGS, **settings}))

    def client(self) -> OssClient:
        return self.shared or OssClient(**self.options)


# Distributed checkpoints need torch 2.3.
HAS_DCP = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 3)


def furnish(bucket: OssBucket, folder: Path) -> Site:
    site = Site(bucket, folder / "config.json")
    bucket.server.accept(CREDENTIALS)
    write_credentials(Path(bucket.cred_path), CREDENTIALS)
    site.configure(**PATIENT)
    for key, data in {"data": DATA, "old": b"old", "large": LARGE, **SAMPLES}.items():
        bucket.put(key, data)
    bucket.server.fill(bucket.name, "crowd/{:04}", len(CROWD), b"")
    model = io.BytesIO()
    torch.save(STATE, model)
    bucket.put("model", model.getvalue())
    bucket.put("tensors", TENSORS_FILE)
    if HAS_DCP:
        save_dcp(site, "ckpt")
    site.configure()
    return site


def is_state(found: dict[str, Any]) -> bool:
    return bool(found["step"] == 7 and torch.equal(found["weight"], STATE["weight"]))


def save_dcp(site: Site, name: str) -> None:
    dcp.save(dict(STATE), storage_writer=OssStorageWriter(site.uri(name), **site.options))


# --- one operation of the client each


def get(site: Site) -> bool:
    return site.client().get(site.uri("data")).body == DATA


def get_range(site: Site) -> bool:
    return site.client().get(site.uri("data"), ByteSpan(100, 1100)).body == DATA[100:1100]


def head(site: Site) -> bool:
    return site.client().head(site.uri("data")).size == len(DATA)


def list_all(site: Site) -> bool:
    return [listed.key for listed in site.client().list(site.uri("crowd/"))] == CROWD


def put(site: Site) -> bool:
    site.client().put(site.uri("old"), LARGE)
    return site.bucket.get("old") == LARGE


def delete(site: Site) -> bool:
    site.client().delete(site.uri("old"))
    return "old" not in set(site.bucket.keys())


def delete_many(site: Site) -> bool:
    site.client().delete_many(site.bucket.name, ["old", "crowd/0000"])
    return not {"old", "crowd/0000"} & set(site.bucket.keys())


def copy(site: Site) -> bool:
    site.client().copy(site.uri("data"), site.uri("old"))
    return site.bucket.get("old") == DATA


def upload(site: Site) -> bool:
    client, uri = site.client(), site.uri("old")
    upload_id = client.create_upload(uri)
    parts = [client.upload_part(uri, upload_id, 1, LARGE[:PART]), client.upload_part(uri, upload_id, 2, LARGE[PART:])]
    assert [part[:4] for part in client.list_parts(uri, upload_id)] == [part[:4] for part in parts]
    client.complete_upload(uri, upload_id, parts)
    return site.bucket.get("old") == LARGE


def abort(site: Site) -> bool:
    client = site.client()
    client.abort_upload(site.uri("old"), client.create_upload(site.uri("old")))
    return not site.bucket.server.uploads(site.bucket.name) and site.bucket.get("old") == b"old"


# --- the library's users


def iterable(site: Site) -> bool:
    return seen(OssIterableDataset.from_prefix(site.uri("samples/"), **site.options)) == SAMPLES


def mapped(site: Site) -> bool:
    dataset = OssMapDataset.from_prefix(site.uri("samples/"), **site.options)
    return seen(dataset[number] for number in range(len(dataset))) == SAMPLES


def batched(site: Site) -> bool:
    dataset = OssMapDataset.from_prefix(site.uri("samples/"), **site.options)
    loader = DataLoader(dataset, batch_size=4, collate_fn=list)
    return seen(item for batch in loader for item in batch) == SAMPLES


def workers(site: Site) -> bool:
    dataset = OssIterableDataset.from_prefix(site.uri("samples/"), **site.options)
    loader = DataLoader(dataset, num_workers=2, batch_size=None, multiprocessing_context="fork")
    return seen(loader) == SAMPLES


def reader(site: Site) -> bool:
    with OssCheckpoint(**site.options).reader(site.uri("model")) as stream:
        return is_state(torch.load(stream, weights_only=True))


def writer(site: Site) -> bool:
    with OssCheckpoint(**site.options).writer(site.uri("old")) as stream:
        stream.write(LARGE)
    return site.bucket.get("old") == LARGE


def small_writer(site: Site) -> bool:
    with OssCheckpoint(**site.options).writer(site.uri("old")) as stream:
        stream.write(DATA)
    return site.bucket.get("old") == DATA


def safetensors_load(site: Site) -> bool:
    found = OssSafetensor(**site.options).load_file(site.uri("tensors"))
    return list(found) == list(TENSORS) and torch.equal(found["weight"], TENSORS["weight"])


def safetensors_save(site: Site) -> bool:
    OssSafetensor(**site.options).save_file(TENSORS, site.uri("old"))
    return site.bucket.get("old") == TENSORS_FILE


def dcp_save(site: Site) -> bool:
    save_dcp(site, "fresh")
    site.bucket.server.clear_faults()
    return load_dcp(site, "fresh")


def dcp_load(site: Site) -> bool:
    return load_dcp(site, "ckpt")


def load_dcp(site: Site, name: str) -> bool:
    state = {"weight": torch.zeros(40_000), "step": 0}
    dcp.load(state, storage_reader=OssStorageReader(site.uri(name), **site.options))
    return is_state(state)


# --- users of fsspec


def file_system(site: Site) -> OssFileSystem:
    return OssFileSystem(**site.options, skip_instance_cache=True)


def fs_read(site: Site) -> bool:
    fs, path = file_system(site), site.uri("data")
    with fs.open(path) as stream:
        return bool(stream.read() == fs.cat_file(path) == DATA)


def fs_ranges(site: Site) -> bool:
    starts = [0, 200, 1500]
    ends = [start + 100 for start in starts]
    found = file_system(site).cat_ranges([site.uri("data")] * 3, starts, ends, max_gap=0, on_error="raise")
    return bool(found == [DATA[start:end] for start, end in zip(starts, ends, strict=True)])


def fs_write(site: Site) -> bool:
    with file_system(site).open(site.uri("old"), "wb") as stream:
        stream.write(LARGE)
    return site.bucket.get("old") == LARGE


def fs_find(site: Site) -> bool:
    return bool(file_system(site).find(site.uri("crowd")) == [f"{site.bucket.name}/{key}" for key in CROWD])


def fs_copy(site: Site) -> bool:
    file_system(site).cp_file(site.uri("data"), site.uri("old"))
    return site.bucket.get("old") == DATA


def fs_remove(site: Site) -> bool:
    with contextlib.suppress(EmulatorError):  # not while the server is down: then nothing was removed
        for key, data in SAMPLES.items():  # a calamity has it remove them twice
            site.bucket.put(key, data)
    file_system(site).rm(site.uri("samples"), recursive=True)
    return not set(SAMPLES) & set(site.bucket.keys())


def seen(items: Any) -> dict[str, bytes]:
    """Return the samples by key; one that comes twice is an error."""
    found: dict[str, bytes] = {}
    for item in items:
        key = parse_object_uri(item.key).key
        assert key not in found, f"{key} came twice"
        found[key] = item.read()
    return found


@dataclass(frozen=True)
class User:
    """Who does what, and which operations that takes."""

    name: str
    work: Callable[[Site], bool]
    operations: tuple[str, ...]
    in_workers: bool = False
    through_dcp: bool = False


LISTED = ("ListObjectsV2",)
PARTS = ("InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
CLIENT = [
    User("get", get, ("GetObject",)),
    User("range", get_range, ("GetObject",)),
    User("head", head, ("HeadObject",)),
    User("list", list_all, ("ListObjectsV2",)),
    User("put", put, ("PutObject",)),
    User("delete", delete, ("DeleteObject",)),
    User("delete many", delete_many, ("DeleteMultipleObjects",)),
    User("copy", copy, ("CopyObject",)),
    User("upload", upload, ("InitiateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload")),
    User("abort", abort, ("AbortMultipartUpload",)),
]
LIBRARY = [
    User("iterable", iterable, (*LISTED, "GetObject")),
    User("map", mapped, (*LISTED, "GetObject")),
    User("map in batches", batched, (*LISTED, "GetObject")),
    User("workers", workers, (*LISTED, "GetObject"), in_workers=True),
    User("reader", reader, ("GetObject",)),
    User("writer", writer, PARTS),
    User("small writer", small_writer, ("PutObject",)),
    User("safetensors load", safetensors_load, ("GetObject",)),
    User("safetensors save", safetensors_save, PARTS),
    User("DCP save", dcp_save, (*LISTED, *PARTS, "PutObject", "HeadObject"), through_dcp=True),
    User("DCP load", dcp_load, ("GetObject",), through_dcp=True),
    User("fs read", fs_read, ("GetObject",)),
    User("fs ranges", fs_ranges, ("GetObject",)),
    User("fs write", fs_write, PARTS),
    User("fs find", fs_find, LISTED),
    User("fs copy", fs_copy, ("HeadObject", "CopyObject")),
    User("fs remove", fs_remove, (*LISTED, "DeleteMultipleObjects", "DeleteObject")),
]
if not HAS_DCP:
    LIBRARY = [user for user in LIBRARY if not user.through_dcp]
USERS = [*CLIENT, *LIBRARY]
