"""`anonymous=True` reads what is public, unsigned, wherever credentials can be given."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import oss2
import pytest
import torch
import torch.distributed.checkpoint as dcp
from loaders import needs_torch

import osstorchconnector
from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfigError,
    OssDCPFileSystem,
    OssFileSystem,
    OssIterableDataset,
    OssMapDataset,
    OssPermissionError,
    OssStorageReader,
)
from osstorchconnector.testing import OssBucket


@pytest.fixture
def public(oss_bucket: OssBucket) -> OssBucket:
    """A bucket that everybody may read, with an object."""
    keys = json.loads(Path(oss_bucket.cred_path).read_text())
    auth = oss2.AuthV4(keys["AccessKeyId"], keys["AccessKeySecret"])
    oss2.Bucket(auth, oss_bucket.endpoint, oss_bucket.name, region=oss_bucket.region).put_bucket_acl("public-read")
    oss_bucket.put("data/key", b"data")
    return oss_bucket


def loaded(reader: OssStorageReader) -> list[float]:
    state = {"weight": torch.zeros(3)}
    dcp.load(state, storage_reader=reader)
    return state["weight"].tolist()


READERS: dict[str, Callable[[OssBucket, dict[str, Any]], object]] = {
    "client": lambda oss, access: OssClient(**access).get(f"{oss.uri}data/key").body,
    "iterable": lambda oss, access: next(iter(OssIterableDataset.from_prefix(f"{oss.uri}data/", **access))).read(),
    "map": lambda oss, access: OssMapDataset.from_objects([f"{oss.uri}data/key"], **access)[0].read(),
    "checkpoint": lambda oss, access: OssCheckpoint(**access).reader(f"{oss.uri}data/key").read(),
    "files": lambda oss, access: OssFileSystem(**access, skip_instance_cache=True).cat(f"{oss.uri}data/key"),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_public_is_read_without_credentials(public: OssBucket, name: str) -> None:
    access = {"endpoint": public.endpoint, "region": public.region, "anonymous": True}
    assert READERS[name](public, access) == b"data"


@needs_torch(2, 3)
def test_a_public_checkpoint_is_loaded_without_credentials(public: OssBucket) -> None:
    storage = OssDCPFileSystem(**public.options)
    dcp.save({"weight": torch.ones(3)}, storage_writer=storage.writer(f"{public.uri}step/"))
    access = {"endpoint": public.endpoint, "region": public.region, "anonymous": True}
    assert loaded(OssDCPFileSystem(**access).reader(f"{public.uri}step/")) == [1.0] * 3
    assert loaded(OssStorageReader(f"{public.uri}step/", **access)) == [1.0] * 3


def test_storage_options_take_the_name_of_other_file_systems_too(public: OssBucket) -> None:
    options = {"endpoint": public.endpoint, "region": public.region, "anon": True}
    with fsspec.open(f"{public.uri}data/key", **options) as file:
        assert file.read() == b"data"
    files = OssFileSystem(**options)
    assert OssFileSystem.from_json(files.to_json()).cat(f"{public.uri}data/key") == b"data"
    with pytest.raises(OssConfigError, match="key and secret are given, and cred_path, cred_provider or anonymous too"):
        OssFileSystem(**options, key="K", secret="S")


def test_what_is_private_stays_so(oss_bucket: OssBucket) -> None:
    oss_bucket.put("key", b"data")
    client = OssClient(oss_bucket.endpoint, region=oss_bucket.region, anonymous=True)
    with pytest.raises(OssPermissionError, match="AccessDenied"):
        client.get(f"{oss_bucket.uri}key")
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        OssCheckpoint(client, anonymous=True)


def test_whatever_takes_a_credential_file_takes_anonymous() -> None:
    found = []
    for public_name in osstorchconnector.__all__:
        value = getattr(osstorchconnector, public_name)
        calls = [value] if callable(value) else []
        if inspect.isclass(value) and not issubclass(value, BaseException):
            calls = [call for name, call in inspect.getmembers(value, callable) if name == "__init__" or name[0] != "_"]
        for call in calls:
            try:
                parameters = inspect.signature(call).parameters
            except ValueError:  # a class in C
                continue
            if "cred_path" in parameters:
                found.append(public_name)
                assert parameters["anonymous"].kind is inspect.Parameter.KEYWORD_ONLY, call
    assert {"OssClient", "OssCheckpoint", "OssDCPFileSystem", "OssFileSystem", "OssMapDataset"} <= set(found)


def test_whatever_takes_a_credential_file_takes_all_that_a_client_takes() -> None:
    """Also what belongs to frameworks that are not installed here. A few have another kind of provider."""
    others, found = {"run.py": "profile", "msc.py": "credentials_provider"}, set()
    for path in Path(osstorchconnector.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = {each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                if "cred_path" in names and "endpoint" in names:
                    found.add(path.name)
                    missing = {others.get(path.name, "cred_provider"), "anonymous", "region"} - names
                    assert not missing and names & {"config_path", "connector_config"}, (path.name, node.name, missing)
    assert {"checkpoint_io.py", "client.py", "msc.py", "ray.py"} <= found
