"""Nothing waits in silence: retries are logged and counted, also those of workers, and errors say what to do."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client.scripted_server import ScriptedServer, Visit, answer, reset
from scripts import NO_LOGS, run_python

from osstorchconnector import OssClient, OssConnectionError
from osstorchconnector.client import news
from osstorchconnector.client.traffic import shared
from osstorchconnector.testing import OssBucket

URI = "oss://bucket/dir/key"

Connect = Callable[..., OssClient]


@pytest.fixture(params=["direct", "aiohttp"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Return a function that opens a client for an endpoint; all are closed in the end."""
    clients = []
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))
    shared.forget()

    def open_client(endpoint: str, **settings: object) -> OssClient:
        config = NO_LOGS | {"transport": request.param, "retryBaseDelay": 0.001, "retryMaxDelay": 0.001} | settings
        (tmp_path / "config.json").write_text(json.dumps(config))
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        clients.append(OssClient(endpoint, region="cn-test", **paths))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def dead_endpoint() -> str:
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def retries_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "sent again" in record.getMessage()]


def test_the_first_retry_is_logged_with_what_why_and_how_long(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "osstorchconnector")
    good = answer(b"x", ETag='"E"', x_oss_request_id="R")
    busy = answer(b"<Error><Code>SlowDown</Code></Error>", status="503 Busy", x_oss_request_id="R")
    with ScriptedServer.in_turn(busy, busy, good) as server:
        client = connect(server.endpoint, operationTimeout=77)
        assert client.get(URI).body == b"x"
    (record,) = retries_in(caplog)
    assert record.levelno == logging.INFO
    assert "GetObject oss://bucket/dir/key: OSS answered 503 SlowDown" in record.getMessage()
    assert re.search(r"as attempt 2, for 7\d s at most", record.getMessage())
    assert client.retries == 2


def test_what_is_sent_again_because_an_idle_connection_had_died_is_not_told_of(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "osstorchconnector")
    good = answer(b"x", ETag='"E"', x_oss_request_id="R")
    with ScriptedServer([good, reset], [good]) as server:
        client = connect(server.endpoint)
        assert [client.get(URI).body, client.get(URI).body] == [b"x", b"x"]
    assert retries_in(caplog) == []


def test_who_waits_for_an_answer_is_told_and_told_again_when_it_comes(
    connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "LONG_SECONDS", 0.01)
    told = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: told.set() if "no answer from" in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("osstorchconnector").addHandler(handler)

    def late(visit: Visit) -> None:
        told.wait(60)
        visit.send(answer(b"x", ETag='"E"'))

    with ScriptedServer.in_turn(late) as server:
        client = connect(server.endpoint, connectTimeout=0.4, readTimeout=60)
        assert client.get(URI).body == b"x"
        host = server.host
    logging.getLogger("osstorchconnector").removeHandler(handler)
    first = next(message for message in caplog.messages if "no answer from" in message)
    assert first == f"no answer from {host} for 0 s to 1 requests; one that stays silent for 60 s is repeated"


def test_where_nothing_ever_answered_the_error_says_what_to_check(connect: Connect, dead_endpoint: str) -> None:
    # the first pause is drawn from an hour: longer than what is allowed
    client = connect(dead_endpoint, retryBaseDelay=3600, retryMaxDelay=3600, operationTimeout=3600)
    with pytest.raises(OssConnectionError) as caught:
        client.get(URI)
    text = str(caught.value)
    assert f"no connection to {dead_endpoint.removeprefix('http://')}: Connection refused" in text
    assert "nothing has ever answered there: check endpoint=" in text
    assert "ssl" not in text


def test_where_nothing_ever_answered_as_many_attempts_are_made_as_the_config_asks_for(
    connect: Connect, dead_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "osstorchconnector")
    client = connect(dead_endpoint, maxAttempts=7, operationTimeout=3600)
    with pytest.raises(OssConnectionError, match=r"\[7 attempts\]; nothing has ever answered there"):
        client.get(URI)
    (record,) = retries_in(caplog)
    assert re.search("as attempt 2, for 3[56]\\d\\d s at most", record.getMessage())


def test_who_was_reached_once_is_waited_for(connect: Connect) -> None:
    with ScriptedServer([answer(b"x", ETag='"E"', x_oss_request_id="R")]) as server:
        client = connect(server.endpoint, retryBaseDelay=3600, retryMaxDelay=3600, operationTimeout=20)
        client.get(URI)
    with pytest.raises(OssConnectionError, match="20 s \\(operationTimeout\\), leaves none"):
        client.get(URI)
    another = connect(server.endpoint, retryBaseDelay=3600, retryMaxDelay=3600, operationTimeout=20)
    with pytest.raises(OssConnectionError, match="20 s \\(operationTimeout\\), leaves none"):
        another.get(URI)


PROGRAM = """
import sys
from torch.utils.data import DataLoader
from osstorchconnector import OssIterableDataset
from osstorchconnector.client import news

news.LONG_SECONDS = 2.0  # in spawned workers too: they run this again

if __name__ == "__main__":
    method, uri, endpoint, cred_path, config_path, region = sys.argv[1:]
    dataset = OssIterableDataset.from_prefix(
        uri, endpoint, cred_path=cred_path, config_path=config_path, region=region
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method)
    assert sorted(item.key for item in loader) == [f"/{uri[6:]}{number}" for number in range(4)]
    print("retries", dataset.retries)
"""


@pytest.mark.parametrize(("method", "has_log_file"), [("fork", True), ("spawn", False)])
def test_a_workers_retries_are_counted_and_warned_of_on_stderr(
    oss_bucket: OssBucket, tmp_path: Path, method: str, has_log_file: bool
) -> None:
    for number in range(4):
        oss_bucket.put(f"{number}", b"data")
    config = {"auditPath": "", "logPath": str(tmp_path / "log") if has_log_file else "", "readTimeout": 2.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "program.py").write_text(PROGRAM)
    oss_bucket.server.fail("GetObject", "stall_head", times=1)
    options = oss_bucket.options
    arguments = [oss_bucket.uri, options["endpoint"], options["cred_path"], tmp_path / "config.json", options["region"]]
    printed, complaints = run_python(tmp_path / "program.py", method, *arguments)
    assert printed == "retries 1\n"
    assert "hardly a byte for 2.5 s" in complaints
    assert complaints.count("sent again") == 1
    assert complaints.count("it goes on: GetObject oss://") == 1
    if has_log_file:
        assert "WARNING" in (tmp_path / "log").read_text()
