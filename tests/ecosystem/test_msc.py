"""NVIDIA's multi-storage-client on OSS: the client's own functions, through our provider."""

from __future__ import annotations

import http.client
import io
import json
import multiprocessing
import os
import pickle
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osstorchconnector.errors import OssConfigError, OssCredentialsError, OssUsageError
from osstorchconnector.testing import OssBucket

msc = pytest.importorskip("multistorageclient")

from multistorageclient.types import (  # noqa: E402
    Credentials,
    CredentialsProvider,
    PreconditionFailedError,
    Range,
    RetryableError,
    SignerType,
)

from osstorchconnector.integrations.msc import OssProviderBundle, OssStorageProvider  # noqa: E402

KEYS = ["data/a.bin", "data/b/1.bin", "data/b/2.bin", "data/c.txt", "database"]
MIB = 1 << 20


@pytest.fixture
def config(oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The client's configuration, with a profile that has the name of the bucket."""
    bundle = {
        "type": "osstorchconnector.integrations.msc.OssProviderBundle",
        "options": {"base_path": f"{oss_bucket.name}/root", **oss_bucket.options},
    }
    mapping = {f"oss://{oss_bucket.name}/root/": f"msc://{oss_bucket.name}/"}
    settings = {"profiles": {oss_bucket.name: {"provider_bundle": bundle}}, "path_mapping": mapping}
    path = tmp_path / "msc.json"
    path.write_text(json.dumps(settings))
    monkeypatch.setenv("MSC_CONFIG", str(path))
    return settings


@pytest.fixture
def url(oss_bucket: OssBucket, config: dict[str, Any]) -> str:
    return f"msc://{oss_bucket.name}"


@pytest.fixture
def filled(oss_bucket: OssBucket, url: str) -> str:
    for key in KEYS:
        oss_bucket.put(f"root/{key}", key.encode())
    return url


@pytest.fixture
def provider(oss_bucket: OssBucket) -> Iterator[OssStorageProvider]:
    made = OssStorageProvider(f"{oss_bucket.name}/root", **oss_bucket.options)
    yield made
    made._client.close()


def names(found: Any, url: str) -> list[str]:
    return [each.key.removeprefix(f"{url}/") for each in found]


# --- the client's functions


def test_files_are_written_and_read(oss_bucket: OssBucket, url: str) -> None:
    data = os.urandom(3 * MIB)
    with msc.open(f"{url}/a/one.bin", "wb") as file:
        file.write(data)
    assert oss_bucket.get("root/a/one.bin") == data
    with msc.open(f"{url}/a/one.bin", "rb") as file:
        assert file.read(10) == data[:10]
        file.seek(-5, io.SEEK_END)
        assert file.read() == data[-5:]
    with msc.open(f"{url}/a/text", "w") as file:
        file.write("Grüße\n")
    with msc.open(f"{url}/a/text", "r") as file:
        assert file.read() == "Grüße\n"
    with msc.open(f"{url}/a/text", "ab") as file:
        file.write(b"more")
    assert oss_bucket.get("root/a/text") == "Grüße\nmore".encode()
    msc.write(f"{url}/bytes", b"whole")
    assert oss_bucket.get("root/bytes") == b"whole"
    with msc.open(f"oss://{oss_bucket.name}/root/bytes") as file:
        assert file.read() == b"whole"
    with pytest.raises(FileNotFoundError):
        msc.open(f"{url}/nothing", "rb")


def test_a_large_file_is_read_by_ranges(oss_bucket: OssBucket, url: str) -> None:
    data = os.urandom(4 * MIB)
    oss_bucket.put("root/large", data)
    oss_bucket.server.reset_counters()
    with msc.open(f"{url}/large", "rb", memory_load_limit=MIB) as file:
        file.seek(2 * MIB)
        assert file.read(1000) == data[2 * MIB : 2 * MIB + 1000]
    got = [call for call in oss_bucket.server.counters().log if call.operation == "GetObject"]
    assert [call.bytes_out for call in got] == [1000]


def test_listings(oss_bucket: OssBucket, filled: str) -> None:
    oss_bucket.put("root/data/marked/", b"")
    every = ["data/a.bin", "data/b/1.bin", "data/b/2.bin", "data/c.txt"]
    assert names(msc.list(f"{filled}/data"), filled) == every
    assert names(msc.list_recursive(f"{filled}/data"), filled) == every
    found = list(msc.list(f"{filled}/data/", include_directories=True))
    assert [(each.key.removeprefix(f"{filled}/"), each.type) for each in found] == [
        ("data/a.bin", "file"),
        ("data/b", "directory"),
        ("data/c.txt", "file"),
        ("data/marked", "directory"),
    ]
    assert (found[0].content_length, bool(found[0].etag), found[0].last_modified.year > 2000) == (10, True, True)
    between = msc.list(f"{filled}/data", start_after="data/a.bin", end_at="data/b/2.bin")
    assert names(between, filled) == ["data/b/1.bin", "data/b/2.bin"]
    assert sorted(msc.glob(f"{filled}/data/**/*.bin")) == [f"{filled}/{key}" for key in every[:3]]
    assert names(msc.list(f"{filled}/nothing"), filled) == []


def test_a_listing_ends_with_the_last_key_that_is_wanted(oss_bucket: OssBucket, url: str) -> None:
    oss_bucket.server.fill(oss_bucket.name, "root/many/{:05}", 9500, b"x")
    oss_bucket.server.reset_counters()
    found = msc.list(f"{url}/many/", end_at="many/00999")
    assert len(names(found, url)) == 1000
    assert oss_bucket.server.counters().requests["ListObjectsV2"] <= 6  # of 10 and one that looks at the directory
    assert len(names(msc.list(f"{url}/many/"), url)) == 9500


def test_a_directory_that_ends_a_listing_is_in_it(oss_bucket: OssBucket, url: str) -> None:
    for key in ("d/a!", "d/a/1", "d/b"):
        oss_bucket.put(f"root/{key}", b"x")
    found = msc.list(f"{url}/d/", include_directories=True, end_at="d/a")
    assert names(found, url) == ["d/a"]


def test_what_is_known_of_objects(oss_bucket: OssBucket, filled: str) -> None:
    known = msc.info(f"{filled}/data/a.bin")
    assert (known.key, known.type, known.content_length) == ("data/a.bin", "file", 10)
    assert (known.content_type, known.metadata) == ("application/octet-stream", None)
    assert known.last_modified.tzinfo is not None
    assert [msc.info(f"{filled}/{path}").type for path in ("data", "data/", "data/b")] == ["directory"] * 3
    assert msc.is_file(f"{filled}/data/a.bin") and not msc.is_file(f"{filled}/data")
    assert not msc.is_empty(f"{filled}/data/") and msc.is_empty(f"{filled}/dat/")
    for path in ("nothing", "dat", "nothing/"):
        with pytest.raises(FileNotFoundError):
            msc.info(f"{filled}/{path}")


def test_removing(oss_bucket: OssBucket, filled: str) -> None:
    msc.delete(f"{filled}/data/a.bin")
    with pytest.raises(FileNotFoundError):
        msc.delete(f"{filled}/data/a.bin")
    client, _ = msc.resolve_storage_client(filled)
    client.delete_many(["data/c.txt", "never was"])
    assert oss_bucket.keys() == ["root/data/b/1.bin", "root/data/b/2.bin", "root/database"]
    msc.delete(f"{filled}/data", recursive=True)
    assert oss_bucket.keys() == ["root/database"]


@pytest.mark.parametrize("size", [0, 10, 70 * MIB])
def test_files_of_this_machine(oss_bucket: OssBucket, url: str, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "local").write_bytes(data)
    msc.upload_file(f"{url}/k", str(tmp_path / "local"))
    assert oss_bucket.get("root/k") == data
    msc.download_file(f"{url}/k", str(tmp_path / "new" / "folder" / "back"))
    assert (tmp_path / "new" / "folder" / "back").read_bytes() == data
    memory = io.BytesIO()
    msc.download_file(f"{url}/k", memory)
    assert memory.getvalue() == data
    msc.upload_file(f"{url}/again", memory)
    assert oss_bucket.get("root/again") == data


def test_a_directory_is_no_file_to_download(filled: str, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        msc.download_file(f"{filled}/data", str(tmp_path / "new"))
    with pytest.raises(IsADirectoryError):
        msc.download_file(f"{filled}/data", io.BytesIO())
    assert not (tmp_path / "new").exists()


def test_folders_are_synchronised(oss_bucket: OssBucket, filled: str, tmp_path: Path) -> None:
    msc.sync(f"{filled}/data", str(tmp_path / "here"))
    assert (tmp_path / "here" / "b" / "1.bin").read_bytes() == b"data/b/1.bin"
    (tmp_path / "here" / "new.bin").write_bytes(b"new")
    msc.sync(str(tmp_path / "here"), f"{filled}/data")
    assert oss_bucket.get("root/data/new.bin") == b"new"


# --- torch and numpy


def test_tensors_and_arrays(oss_bucket: OssBucket, url: str) -> None:
    state = {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}
    msc.torch.save(state, f"{url}/model.pt")
    loaded = msc.torch.load(f"{url}/model.pt")
    assert torch.equal(loaded["weight"], state["weight"]) and loaded["step"] == 7
    array = np.arange(10)
    msc.numpy.save(f"{url}/array.npy", array)
    assert np.array_equal(msc.numpy.load(f"{url}/array.npy"), array)


def test_distributed_checkpoints(oss_bucket: OssBucket, url: str) -> None:
    import torch.distributed.checkpoint as dcp

    state = {"weight": torch.arange(1000.0), "bias": torch.ones(3)}
    dcp.save(state, storage_writer=msc.torch.MultiStorageFileSystemWriter(f"{url}/ckpt"), no_dist=True)
    assert "root/ckpt/.metadata" in set(oss_bucket.keys())
    loaded = {"weight": torch.zeros(1000), "bias": torch.zeros(3)}
    dcp.load(loaded, storage_reader=msc.torch.MultiStorageFileSystemReader(f"{url}/ckpt"), no_dist=True)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


# --- attributes, links, signed URLs


def test_attributes(oss_bucket: OssBucket, url: str, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"data")
    with msc.open(f"{url}/d/a", "wb", attributes={"Model": "large", "step": 7}) as file:
        file.write(b"data")
    msc.upload_file(f"{url}/d/b", str(tmp_path / "local"), attributes={"model": "small"})
    msc.write(f"{url}/d/c", b"data")
    assert msc.info(f"{url}/d/a").metadata == {"model": "large", "step": "7"}
    assert names(msc.list(f"{url}/d/", attribute_filter_expression='model = "small"'), url) == ["d/b"]
    assert msc.glob(f"{url}/d/*", attribute_filter_expression='model = "large"') == [f"{url}/d/a"]
    with pytest.raises(OssUsageError, match="letters, digits and '-'"):
        msc.write(f"{url}/d/a", b"", attributes={"not_a_name": "x"})
    with pytest.raises(ValueError, match="exceeds maximum length"):
        msc.write(f"{url}/d/a", b"", attributes={"a": "x" * 129})
    assert oss_bucket.get("root/d/a") == b"data"


def test_symbolic_links(oss_bucket: OssBucket, filled: str, tmp_path: Path) -> None:
    msc.make_symlink(f"{filled}/links/one", f"{filled}/data/a.bin")
    assert msc.info(f"{filled}/links/one").symlink_target == "../data/a.bin"
    with msc.open(f"{filled}/links/one", "rb") as file:
        assert file.read() == b"data/a.bin"
    msc.download_file(f"{filled}/links/one", str(tmp_path / "local"))
    assert (tmp_path / "local").read_bytes() == b"data/a.bin"
    oss_bucket.put("root/links/empty", b"")
    found = list(msc.list(f"{filled}/links/"))
    assert [each.symlink_target for each in found] == [None, "../data/a.bin"]
    assert msc.resolve_storage_client(filled)[0].read("links/empty") == b""


def test_signed_urls(oss_bucket: OssBucket, filled: str, provider: OssStorageProvider) -> None:
    signed = msc.generate_presigned_url(f"{filled}/data/a.bin", signer_options={"expires_in": 60})
    with urllib.request.urlopen(signed) as answer:
        assert answer.read() == b"data/a.bin"
    place = urllib.parse.urlsplit(provider.generate_presigned_url("new", method="PUT"))
    connection = http.client.HTTPConnection(place.netloc)
    connection.request("PUT", f"{place.path}?{place.query}", b"sent")
    assert connection.getresponse().status == 200
    connection.close()
    assert oss_bucket.get("root/new") == b"sent"
    with pytest.raises(ValueError, match="cloudfront"):
        provider.generate_presigned_url("new", signer_type=SignerType.CLOUDFRONT)


# --- the provider alone


def test_conditions(oss_bucket: OssBucket, provider: OssStorageProvider) -> None:
    provider.put_object("k", b"first", if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        provider.put_object("k", b"second", if_none_match="*")
    for refused in (
        lambda: provider.put_object("k", b"second", if_match="etag"),
        lambda: provider.put_object("k", b"second", if_none_match="etag"),
        lambda: provider.delete_object("k", if_match="etag"),
    ):
        with pytest.raises(NotImplementedError):
            refused()
    assert oss_bucket.get("root/k") == b"first"


def test_ranges_and_copies(oss_bucket: OssBucket, provider: OssStorageProvider) -> None:
    oss_bucket.put("root/k", b"0123456789")
    assert provider.get_object("k", Range(3, 4)) == b"3456"
    assert provider.get_object("/k", Range(8, 100)) == b"89"
    provider.copy_object("k", "copy")
    assert oss_bucket.get("root/copy") == b"0123456789"
    for missing in (lambda: provider.copy_object("none", "copy"), lambda: provider.get_object("none")):
        with pytest.raises(FileNotFoundError):
            missing()


def test_failures_that_may_pass_are_for_the_client_to_repeat(oss_bucket: OssBucket, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"maxAttempts": 1}))
    provider = OssStorageProvider(oss_bucket.name, config_path=str(tmp_path / "config.json"), **oss_bucket.options)
    oss_bucket.server.fail("PutObject", "503", bucket=oss_bucket.name)
    with pytest.raises(RetryableError, match="503"):
        provider.put_object("k", b"")
    oss_bucket.server.fail("GetObject", "403", bucket=oss_bucket.name)
    with pytest.raises(PermissionError):
        provider.get_object("k")


class Keys(CredentialsProvider):
    """Keys that expire, and are renewed."""

    def __init__(self, key: str, secret: str) -> None:
        self._key, self._secret, self.expiration = key, secret, "2001-01-01T00:00:00Z"

    def get_credentials(self) -> Credentials:
        return Credentials(self._key, self._secret, None, self.expiration)

    def refresh_credentials(self) -> None:
        self.expiration = "2999-01-01T00:00:00Z"


def test_credentials_of_the_clients_own_kind(oss_bucket: OssBucket) -> None:
    keys = json.loads(Path(oss_bucket.cred_path).read_text())
    renewed = Keys(keys["AccessKeyId"], keys["AccessKeySecret"])
    options = {"endpoint": oss_bucket.endpoint, "region": oss_bucket.region}
    provider = OssStorageProvider(oss_bucket.name, credentials_provider=renewed, **options)
    provider.put_object("k", b"signed")
    assert oss_bucket.get("k") == b"signed" and renewed.expiration.startswith("2999")
    wrong = OssStorageProvider(oss_bucket.name, credentials_provider=Keys("", "secret"), **options)
    with pytest.raises(OssCredentialsError, match="access_key is missing"):
        wrong.get_object("k")


# --- processes


def _read(client: Any, path: str) -> bytes:
    return bytes(client.read(path))


def test_a_client_goes_to_other_processes_without_secrets(oss_bucket: OssBucket, filled: str) -> None:
    client, _ = msc.resolve_storage_client(filled)
    keys = json.loads(Path(oss_bucket.cred_path).read_text())
    assert keys["AccessKeySecret"].encode() not in pickle.dumps(client)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (client, "data/a.bin")) == b"data/a.bin"
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_read, (client, "data/a.bin")) == b"data/a.bin"


def test_a_provider_pickles_without_secrets(oss_bucket: OssBucket, provider: OssStorageProvider) -> None:
    oss_bucket.put("root/k", b"data")
    assert pickle.loads(pickle.dumps(provider)).get_object("k") == b"data"


def test_secrets_do_not_belong_into_the_configuration(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="no option 'secret'"):
        OssProviderBundle(oss_bucket.name, secret="hidden")
    replicas = [{"replica_profile": "far", "read_priority": 2}, {"replica_profile": "near", "read_priority": 1}]
    bundle = OssProviderBundle(oss_bucket.name, replicas=replicas)
    assert [replica.replica_profile for replica in bundle.replicas] == ["near", "far"]
    assert bundle.credentials_provider is None and bundle.metadata_provider is None
