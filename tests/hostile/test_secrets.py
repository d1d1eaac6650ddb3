"""Canary secrets are planted; whatever is written, shown or pickled anywhere is then searched for them."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
import torch
import torch.distributed.checkpoint as dcp
from loaders import needs_torch
from torch.utils.data import DataLoader

from osstorchconnector import (
    OssCheckpoint,
    OssCheckpointManager,
    OssClient,
    OssDCPFileSystem,
    OssError,
    OssIterableDataset,
    OssMapDataset,
)
from osstorchconnector.credentials import Credentials
from osstorchconnector.datapipes.lister import OssObjectLister
from osstorchconnector.dcp import OssStorageReader, OssStorageWriter
from osstorchconnector.emulator import Emulator, serve

SECRET, TOKEN = "CANARY7secret7of7the7key", "CANARY7token7of7the7session"
NEW = Credentials(access_key_id="LTAI-NEW", access_key_secret="CANARY7secret7that7comes7later")
FAULTS = ["500", "expired_token", "garbage", "reset_body", "403", "html"]


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with serve(access_key_id="LTAI-CANARY", access_key_secret=SECRET, security_token=TOKEN) as running:
        running.create_bucket("bucket")
        for number in range(4):
            running.put("bucket", f"samples/{number}", b"data")
        yield running


@pytest.fixture
def place(server: Emulator, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The options of a client that logs all it can, into the test's folder."""
    server.reset()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    config = {
        "logLevel": 0,
        "logPath": str(tmp_path / "connector.log"),
        "auditPath": str(tmp_path / "audit.log"),
        "indexDir": str(tmp_path),
        "retryBaseDelay": 0.001,
        "retryMaxDelay": 0.001,
        "maxAttempts": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = {"endpoint": server.endpoint, "region": server.region, "config_path": str(tmp_path / "config.json")}
    yield {**options, "cred_path": server.credentials_file(secrets)}
    logging.getLogger("osstorchconnector").handlers.clear()


def everything(options: dict[str, str]) -> list[Callable[[], object]]:
    """Return pieces of work that send every kind of request."""
    state = {"weight": torch.zeros(3)}

    def write() -> None:
        with OssCheckpoint(**options).writer("oss://bucket/model") as writer:
            torch.save(state, writer)

    return [
        lambda: [item.read() for item in OssIterableDataset.from_prefix("oss://bucket/samples/", **options)],
        lambda: OssMapDataset.from_prefix("oss://bucket/samples/", **options)[0].size,
        write,
        lambda: OssCheckpoint(**options).reader("oss://bucket/model").read(),
        lambda: dcp.save(state, storage_writer=OssStorageWriter("oss://bucket/dcp", **options)),
        lambda: dcp.load(state, storage_reader=OssStorageReader("oss://bucket/dcp", **options)),
        lambda: OssClient(**options).create_upload("oss://bucket/upload"),
        lambda: OssClient(**options).delete_many("bucket", ["upload"]),
    ]


def shown(error: BaseException) -> str:
    """Return all that is told of an error, and of what led to it."""
    text, found = "", error
    while found is not None:
        text += "".join(traceback.format_exception(found)) + repr(found) + repr(vars(found))
        if isinstance(found, OssError):
            text += repr(pickle.dumps(found))
        found = found.__cause__ or found.__context__  # type: ignore[assignment]
    return text


def assert_clean(text: str | bytes, where: str) -> None:
    found = b"CANARY7" in (text.encode(errors="replace") if isinstance(text, str) else text)
    assert not found, f"a secret in {where}"


def test_no_secret_is_written_or_shown_whatever_happens(
    place: dict[str, str], server: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    failed = 0
    for fault in [None, *FAULTS]:
        server.clear_faults()
        if fault is not None:
            server.fail("", fault, bucket="bucket")
        for work in everything(place):
            try:
                work()
            except BaseException as error:
                failed += 1
                assert_clean(shown(error), "an error")
    assert failed > len(FAULTS)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    for path in (*written, *(path for path in server.root.rglob("*") if path.is_file())):
        assert_clean(path.read_bytes(), str(path))
    assert_clean(caplog.text, "the log")


def things_made_with(options: dict[str, Any]) -> list[Any]:
    """Return one of each kind of thing that holds a client, after it was used."""
    client = OssClient(**options)
    iterable = OssIterableDataset.from_prefix("oss://bucket/samples/", **options)
    things = [
        client,
        iterable,
        iterable.datapipe(),
        OssMapDataset.from_prefix("oss://bucket/samples/", **options),
        OssObjectLister("oss://bucket/samples/", client),
        OssStorageWriter("oss://bucket/dcp", **options),
        OssStorageReader("oss://bucket/dcp", **options),
        OssCheckpoint(**options),
        OssDCPFileSystem(**options),
        OssCheckpointManager("oss://bucket/run", **options),
    ]
    client.head("oss://bucket/samples/0")  # has read the credentials now
    return [*things, next(iter(iterable)), iterable.state_dict()]


@needs_torch(2, 3)
@pytest.mark.parametrize("source", ["a file", "a provider"])
def test_no_secret_is_in_a_repr_or_a_pickle(place: dict[str, str], server: Emulator, source: str) -> None:
    options: dict[str, Any] = dict(place)
    if source == "a provider":
        del options["cred_path"]
        options["cred_provider"] = oss2.credentials.StaticCredentialsProvider("LTAI-CANARY", SECRET, TOKEN)
    for thing in things_made_with(options):
        assert_clean(repr(thing) + str(thing), f"the repr of {type(thing)}")
        assert_clean(pickle.dumps(thing), f"the pickle of {type(thing)}")
    assert_clean(repr(server) + repr(server.credentials) + repr(options.get("cred_provider")), "the server")


def test_no_secret_is_in_what_a_worker_tells_of_its_failure(place: dict[str, str], server: Emulator) -> None:
    server.fail("GetObject", "403")
    loader = DataLoader(OssIterableDataset.from_prefix("oss://bucket/samples/", **place), None, num_workers=1)
    with pytest.raises(PermissionError) as caught:
        list(loader)
    assert_clean(shown(caught.value), "a worker's error")


def test_no_secret_is_in_the_state_of_dataloader2(place: dict[str, str]) -> None:
    dataloader2 = pytest.importorskip("torchdata.dataloader2")
    pipe = OssObjectLister(
        "oss://bucket/samples/", place["endpoint"], cred_path=place["cred_path"], region=place["region"]
    )
    loader = dataloader2.DataLoader2(pipe)
    next(iter(loader))
    assert_clean(pickle.dumps(loader.state_dict()), "the state of DataLoader2")
    loader.shutdown()


def test_no_secret_is_seen_by_ps(server: Emulator) -> None:
    pids = server.pid, os.getpid()
    for pid in pids:
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{pid}/{name}")
            if path.exists():
                assert_clean(path.read_bytes(), f"{name} of {pid}")
    seen = subprocess.run(["ps", "eww", "-p", ",".join(map(str, pids))], check=True, capture_output=True).stdout
    assert str(server.pid).encode() in seen
    assert_clean(seen, "ps")


def test_what_the_emulator_tells_of_requests_holds_no_secret(place: dict[str, str], server: Emulator) -> None:
    server.accept(NEW)
    OssClient(**place).head("oss://bucket/samples/0")
    assert_clean(json.dumps(server.counters().dump()), "the counters")


HOSTILE = [
    "a\r\nX-Injected: 1",
    "a\nb",
    "../../etc/passwd",
    "a/../b",
    "\x1b[31mred",
    "a%0d%0ab",
    "\u2028line",
    "a\x00b",
]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_makes_no_header_log_line_or_path(
    place: dict[str, str], server: Emulator, tmp_path: Path, key: str
) -> None:
    server.reset()
    prefix = f"hostile/{HOSTILE.index(key)}/"
    server.put("bucket", f"{prefix}{key}", b"data")
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    found = list(OssIterableDataset.from_prefix(f"oss://bucket/{prefix}", **place))
    assert [item.key for item in found] == [f"/bucket/{prefix}{key}"]
    assert found[0].read() == b"data"
    server.fail("GetObject", "403")
    with pytest.raises(PermissionError) as caught:
        OssClient(**place).get(f"oss://bucket/{prefix}{key}")
    assert str(caught.value).isprintable()
    entry = server.counters().log[-1]
    assert entry.key == f"{prefix}{key}"
    assert "x-injected" not in entry.headers
    for name in ("connector.log", "audit.log"):
        path = tmp_path / name
        lines = path.read_text().splitlines() if path.exists() else []
        assert all(line.isprintable() and not line.startswith("X-Injected") for line in lines)
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} <= before


def test_pickles_hold_no_open_files(place: dict[str, str]) -> None:
    client = OssClient(**place)
    client.head("oss://bucket/samples/0")
    copy = pickle.load(io.BytesIO(pickle.dumps(client)))
    assert copy.head("oss://bucket/samples/0").size == 4
