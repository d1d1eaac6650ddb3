"""Options, credentials, instances, pickles, processes and event loops."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from files.on_oss import config_file
from scripts import ROOT, run_python

from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssConfigError, OssCredentialsError, OssTimeoutError
from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.filesystem.settings import endpoint_of
from osstorchconnector.testing import OssBucket

KEYS = ["k", "a/1", "a/2"]


@pytest.fixture
def keys(oss_bucket: OssBucket) -> dict[str, str]:
    """Credentials in the words of ossfs."""
    found = json.loads(Path(oss_bucket.cred_path).read_text())
    return {"key": found["AccessKeyId"], "secret": found["AccessKeySecret"], "token": found.get("SecurityToken", "")}


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    OssFileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("endpoint", "region", "environ", "expected"),
    [
        ("https://e", "", {"OSS_ENDPOINT": "https://other"}, ("https://e", "")),
        ("https://e", "", {"OSS_REGION": "cn-a"}, ("https://e", "cn-a")),
        (None, "", {"OSS_ENDPOINT": "https://e", "OSS_REGION": "cn-a"}, ("https://e", "cn-a")),
        (None, "cn-a", {"OSS_ENDPOINT": "https://e"}, ("https://oss-cn-a.aliyuncs.com", "cn-a")),
        ("", "oss-cn-a", {}, ("https://oss-cn-a.aliyuncs.com", "oss-cn-a")),
        (None, "", {"OSS_REGION": "cn-b"}, ("https://oss-cn-b.aliyuncs.com", "cn-b")),
    ],
)
def test_the_endpoint(endpoint, region, environ, expected) -> None:
    assert endpoint_of(endpoint, region, environ) == expected


def test_without_endpoint_and_region_the_error_says_what_to_give(monkeypatch) -> None:
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    monkeypatch.delenv("OSS_REGION", raising=False)
    with pytest.raises(OssConfigError, match="OSS_ENDPOINT"):
        OssFileSystem()


def test_the_environment_is_enough(bucket: OssBucket, keys: dict[str, str], monkeypatch) -> None:
    for name, value in (
        ("OSS_ENDPOINT", bucket.endpoint),
        ("OSS_REGION", bucket.region),
        ("OSS_ACCESS_KEY_ID", keys["key"]),
        ("OSS_ACCESS_KEY_SECRET", keys["secret"]),
        ("OSS_SESSION_TOKEN", keys["token"]),
    ):
        monkeypatch.setenv(name, value)
    fs = OssFileSystem()
    assert fs.cat_file(f"{bucket.name}/k") == b"k"
    assert OssFileSystem() is fs
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
    assert OssFileSystem() is not fs


def test_options_of_ossfs(bucket: OssBucket, keys: dict[str, str]) -> None:
    fs = OssFileSystem(bucket.endpoint, **keys, region=bucket.region, default_cache_type="readahead")
    assert fs.cat_file(f"{bucket.name}/k") == b"k"
    with fs.open(f"{bucket.name}/k") as file:
        assert file.cache.name == "readahead" and file.read() == b"k"
    for wrong in ({"key": "a"}, {"secret": "a"}, {**keys, "cred_path": "a"}, {"nonsense": 1}):
        with pytest.raises(OssConfigError):
            OssFileSystem(bucket.endpoint, region=bucket.region, **wrong)
    with pytest.raises(OssConfigError, match="one positional"):
        OssFileSystem(bucket.endpoint, "key")


def test_a_block_size_is_the_default_one_and_none_if_it_is_zero(bucket: OssBucket) -> None:
    assert OssFileSystem(**bucket.options, block_size=0) is OssFileSystem(**bucket.options)
    assert OssFileSystem(**bucket.options, block_size=4096).default_block_size == 4096


def test_defaults_from_fsspecs_configuration(bucket: OssBucket, monkeypatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "oss", dict(bucket.options))
    assert OssFileSystem().cat_file(f"{bucket.name}/k") == b"k"


# --- instances and pickles


def test_instances_are_shared_by_their_settings(bucket: OssBucket, keys: dict[str, str]) -> None:
    where = {"endpoint": bucket.endpoint, "region": bucket.region}
    fs = OssFileSystem(**where, **keys)
    assert OssFileSystem(**where, **keys) is fs
    assert OssFileSystem(**fs.storage_options) is fs
    assert OssFileSystem(**where, **{**keys, "secret": "other"}) is not fs
    assert OssFileSystem(**where, **keys, skip_instance_cache=True) is not fs
    client = OssClient(**bucket.options)
    assert OssFileSystem(client) is OssFileSystem(endpoint=client)
    assert OssFileSystem(client).client is client
    assert OssFileSystem(OssClient(**bucket.options)) is not OssFileSystem(client)


@pytest.mark.parametrize(
    "setting",
    [
        {"cred_path": "/credentials"},
        {"cred_provider": lambda: ("k", "s")},
        {"anonymous": True},
        {"anon": True},
        {"config_path": "/config"},
        {"region": "cn-b"},
        {"key": "k", "secret": "s"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_client_has_its_settings_already(bucket: OssBucket, setting, monkeypatch) -> None:
    client = OssClient(**bucket.options)
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        OssFileSystem(client, **setting)
    monkeypatch.setitem(fsspec.config.conf, "oss", {"endpoint": client, **setting})
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        OssFileSystem()


def test_a_client_counts_more_than_what_fsspec_is_configured_for(bucket: OssBucket, keys, monkeypatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "oss", {**keys, "endpoint": "http://127.0.0.1:1", "region": "cn-b"})
    client = OssClient(**bucket.options)
    fs = OssFileSystem(client)
    assert fs.client is client and fs.cat_file(f"{bucket.name}/k") == b"k"
    assert OssFileSystem(endpoint=client, region="", anon=False) is fs
    assert pickle.loads(pickle.dumps(fs)) is fs


def test_no_text_and_no_pickle_has_a_secret(bucket: OssBucket, keys: dict[str, str]) -> None:
    fs = OssFileSystem(bucket.endpoint, region=bucket.region, key="AKID", secret="sEcReT-123", token="tOkEn-456")
    shown = [repr(fs), str(fs.storage_options), fs.to_json(), str(fs.to_dict()), pickle.dumps(fs).decode("latin-1")]
    assert not [text for text in shown if "sEcReT" in text or "tOkEn" in text]
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()).client is fs.client


def test_a_description_in_json_is_enough_where_no_secret_was_given(bucket: OssBucket) -> None:
    fs = OssFileSystem(**bucket.options)
    program = (
        "import sys, fsspec\n"
        "fs = fsspec.AbstractFileSystem.from_json(sys.argv[1])\n"
        "print(fs.cat_file(sys.argv[2]).decode())"
    )
    assert run_python("-c", program, fs.to_json(), f"{bucket.name}/k")[0] == "k\n"


def test_a_description_without_the_secret_says_so_elsewhere(bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="pickle the file system"):
        OssFileSystem(client_identity="of another process")


def read_in_child(fs: OssFileSystem, path: str) -> bytes:
    return fs.cat_file(path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes(bucket: OssBucket, keys: dict[str, str], method: str) -> None:
    fs = OssFileSystem(bucket.endpoint, region=bucket.region, **keys)
    fs.ls(bucket.name)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(read_in_child, (fs, f"{bucket.name}/k")) == b"k"


def test_a_bare_fork(bucket: OssBucket) -> None:
    fs = OssFileSystem(**bucket.options)
    assert fs.find(f"{bucket.name}/a") == [f"{bucket.name}/a/1", f"{bucket.name}/a/2"]
    child = os.fork()
    if not child:
        status = 1
        try:
            same = fs.cat_file(f"{bucket.name}/k") == b"k" and len(fs.find(bucket.name)) == 3
            with OssFileSystem(**bucket.options).open(f"{bucket.name}/child", "wb") as file:
                file.write(b"x")
            status = 0 if same else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bucket.get("child") == b"x"
    assert fs.cat_file(f"{bucket.name}/k") == b"k"


# --- event loops


def test_coroutines_are_awaited_on_the_users_loop(bucket: OssBucket, tmp_path: Path) -> None:
    root = bucket.name

    async def work() -> None:
        fs = OssFileSystem(asynchronous=True, **bucket.options)
        assert fs.asynchronous
        assert await fs._cat_file(f"{root}/k") == b"k"
        await fs._pipe_file(f"{root}/new", b"new")
        assert [entry["name"] for entry in await fs._ls(f"{root}/a")] == [f"{root}/a/1", f"{root}/a/2"]
        assert await fs._cat_ranges([f"{root}/k"] * 3, 0, 1) == [b"k"] * 3
        assert await fs._find(root) == [f"{root}/{key}" for key in ("a/1", "a/2", "k", "new")]
        assert [names async for _, _, names in fs._walk(f"{root}/a")] == [["1", "2"]]
        await fs._get_file(f"{root}/k", str(tmp_path / "k"))
        await fs._put_file(str(tmp_path / "k"), f"{root}/up")
        await fs._cp_file(f"{root}/k", f"{root}/copy")
        await fs._rm(f"{root}/a", recursive=True)
        assert (await fs._sign(f"{root}/k")).startswith(bucket.endpoint)
        await fs._touch(f"{root}/touched")

    asyncio.run(work())
    asyncio.run(work_again(bucket))
    assert bucket.keys() == ["copy", "k", "new", "touched", "up"]


async def work_again(bucket: OssBucket) -> None:
    fs = OssFileSystem(asynchronous=True, **bucket.options)
    assert await asyncio.gather(*(fs._cat_file(f"{bucket.name}/k") for _ in range(20))) == [b"k"] * 20


def test_calls_from_a_thread_that_runs_a_loop_as_jupyter_does(bucket: OssBucket) -> None:
    async def cell() -> bytes:
        return OssFileSystem(**bucket.options).cat_file(f"{bucket.name}/k")

    assert asyncio.run(cell()) == b"k"


def test_many_threads(bucket: OssBucket) -> None:
    fs = OssFileSystem(**bucket.options)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(fs.cat_file(f"{bucket.name}/k"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"k"] * 16


def test_a_call_that_is_given_up_gives_its_request_up(bucket: OssBucket, tmp_path: Path) -> None:
    fs = OssFileSystem(config_path=config_file(tmp_path, maxAttempts=1), **bucket.options)
    bucket.server.fail("GetObject", "stall_head", bucket=bucket.name, times=1)

    async def work() -> bytes:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(fs._cat_file(f"{bucket.name}/k"), 0.2)
        return await fs._cat_file(f"{bucket.name}/k")

    assert asyncio.run(work()) == b"k"


def test_errors_are_ours(bucket: OssBucket, tmp_path: Path) -> None:
    fs = OssFileSystem(config_path=config_file(tmp_path, maxAttempts=1, readTimeout=0.1), **bucket.options)
    bucket.server.fail("GetObject", "stall_head", bucket=bucket.name, times=1)
    with pytest.raises(OssTimeoutError, match="GetObject"):
        fs.cat_file(f"{bucket.name}/k")
    fs = OssFileSystem(bucket.endpoint, region=bucket.region, cred_path=str(tmp_path / "nothing"))
    with pytest.raises(OssCredentialsError):
        fs.cat_file(f"{bucket.name}/k")


# --- fsspec's registry

FIND = """
import sys, fsspec
cls = fsspec.get_filesystem_class("oss")
print(cls.__module__, cls.__name__, "torch" in sys.modules)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="paths")
def test_fsspec_finds_it_before_its_own_entry_for_ossfs(tmp_path: Path) -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = project["entry-points"]["fsspec.specs"]["oss"]
    about = tmp_path / "ours-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[fsspec.specs]\noss = {place}\n")
    found, _ = run_python("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{FIND}")
    assert found == "osstorchconnector.filesystem.core OssFileSystem False\n"


def test_importing_the_package_does_not_import_fsspec() -> None:
    program = "import sys, osstorchconnector, osstorchconnector.client.client\nprint('fsspec' in sys.modules)"
    assert run_python("-c", program)[0] == "False\n"
