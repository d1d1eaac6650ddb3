"""The pytest plugin, in test runs of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from scripts import run_pytest

from osstorchconnector.client.client import OssClient
from osstorchconnector.config import Config
from osstorchconnector.credentials.sources import FileCredentials
from osstorchconnector.errors import OssPermissionError
from osstorchconnector.testing import OssBucket, ScriptedAnswer, ScriptedFailure, ScriptedTransport, SentRequest

PROJECT = Path(__file__).parents[1]


def run(folder: Path, tests: str) -> str:
    (folder / "test_theirs.py").write_text(tests)
    return run_pytest(folder)


def test_each_test_gets_a_bucket_of_its_own_on_one_server(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
seen = set()

def check(oss_bucket, oss_server):
    assert oss_bucket.keys() == []
    assert oss_bucket.name not in seen
    assert oss_server.counters().requests == {}
    seen.add(oss_bucket.name)
    seen.add(oss_bucket.endpoint)
    assert oss_bucket.put("a/b", b"hello") == f"oss://{oss_bucket.name}/a/b"
    assert oss_bucket.get("a/b") == b"hello"
    assert oss_bucket.uri + "a/b" == f"oss://{oss_bucket.name}/a/b"
    oss_bucket.put("c", b"")
    oss_bucket.delete("a/b")
    assert oss_bucket.keys() == ["c"]
    oss_server.fail("GetObject", "500")
    oss_server.set_clock(9999)

def test_one(oss_bucket, oss_server):
    check(oss_bucket, oss_server)

def test_two(oss_bucket, oss_server):
    check(oss_bucket, oss_server)
    assert len(seen) == 3
""",
    )
    assert "2 passed" in printed


def test_our_classes_and_oss2_find_the_bucket(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
import oss2
import pytest
from osstorchconnector import OssClient

@pytest.mark.filterwarnings("ignore:.*utcnow")  # in oss2, from Python 3.12 on
def test_ours(oss_bucket):
    client = OssClient(**oss_bucket.options)
    client.put(oss_bucket.uri + "k", b"hello")
    client.close()
    credentials = oss_bucket.server.credentials
    auth = oss2.AuthV4(credentials.access_key_id, credentials.access_key_secret)
    bucket = oss2.Bucket(auth, oss_bucket.endpoint, oss_bucket.name, region=oss_bucket.region)
    assert bucket.get_object("k").read() == b"hello"
    bucket.session.session.close()
""",
    )
    assert "1 passed" in printed


SETTINGS_TEST = """
from osstorchconnector import OssClient

def test_settings(oss_bucket):
    config = OssClient(**oss_bucket.options).config
    assert (config.log_path, config.audit_path, config.max_attempts) == {expected}
"""


def test_theirs_are_neither_the_machines_settings_nor_its_log_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OSS_CONNECTOR_CONFIG")
    printed = run(tmp_path, SETTINGS_TEST.format(expected=("", "", Config().max_attempts)))
    assert "1 passed" in printed


def test_a_config_that_they_name_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.json").write_text('{"maxAttempts": 3, "logPath": "", "auditPath": ""}')
    monkeypatch.setenv("OSS_CONNECTOR_CONFIG", str(tmp_path / "mine.json"))
    printed = run(tmp_path, SETTINGS_TEST.format(expected=("", "", 3)))
    assert "1 passed" in printed


def test_type_checkers_let_the_options_stand_for_any_keyword() -> None:
    # dict[str, str] would have to fit every keyword of our classes, `transform` and others included.
    assert get_type_hints(OssBucket.options.fget)["return"] == dict[str, Any]


def test_a_run_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
import sys

def test_nothing_was_loaded():
    ours = {name.removeprefix("osstorchconnector") for name in sys.modules if name.startswith("osstorchconnector")}
    assert ours == {"", ".leftovers", ".testing", ".version"}
    assert not {"torch", "uvloop", "oss2", "aiohttp"} & set(sys.modules)
""",
    )
    assert "1 passed" in printed


def test_the_options_are_what_our_classes_take(oss_bucket: OssBucket) -> None:
    assert oss_bucket.options == {
        "endpoint": oss_bucket.server.endpoint,
        "cred_path": oss_bucket.cred_path,
        "region": oss_bucket.region,
    }
    credentials = FileCredentials(oss_bucket.cred_path).fetch()
    assert credentials == oss_bucket.server.credentials


def test_the_fixtures_serve_this_run_too(oss_bucket: OssBucket) -> None:
    assert oss_bucket.put("k", memoryview(b"hello")[1:]) == f"{oss_bucket.uri}k"
    assert oss_bucket.get("k") == b"ello"
    oss_bucket.delete("k")
    assert oss_bucket.keys() == []


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., tuple[OssClient, ScriptedTransport]]:
    """Return a function that makes a client of a script."""
    (tmp_path / "credentials").write_text('{"AccessKeyId": "AK", "AccessKeySecret": "SK"}')
    (tmp_path / "config.json").write_text('{"logPath": "", "auditPath": "", "retryBaseDelay": 0.001}')

    def make(script: Any) -> tuple[OssClient, ScriptedTransport]:
        transport = ScriptedTransport(script)
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        return OssClient("http://127.0.0.1", region="cn-test", transport=transport, **paths), transport

    return make


def test_a_script_answers_request_after_request(scripted: Any) -> None:
    client, transport = scripted(
        [
            ScriptedFailure("reset"),
            ScriptedAnswer.of_upload(b"body"),
            ScriptedAnswer.of_object(b"body"),
            ScriptedAnswer(204),
        ]
    )
    stored = client.put("oss://bucket/a key", b"body")
    assert client.get("oss://bucket/a key").stat.crc64 == stored.crc64
    client.delete("oss://bucket/a key")
    first, second, _, last = transport.requests
    assert (first.attempt, second.attempt) == (1, 2)
    assert (second.operation, second.bucket, second.key, second.body) == ("PutObject", "bucket", "a key", b"body")
    assert (second.method, second.target, second.headers["content-length"]) == ("PUT", "/bucket/a%20key", "4")
    assert (last.operation, last.byte_range) == ("DeleteObject", None)


def test_a_body_that_is_cut_off_is_resumed(scripted: Any) -> None:
    data = bytes(range(256)) * 1000

    def answer(request: SentRequest) -> ScriptedAnswer:
        cut_off_after = 100_000 if request.attempt == 1 else None
        return ScriptedAnswer.of_object(data, request.byte_range, cut_off_after=cut_off_after)

    client, transport = scripted(answer)
    assert client.get("oss://bucket/key").body == data
    assert [request.byte_range for request in transport.requests] == [None, (100_000, 256_000)]


def test_a_refusal_is_the_error_of_its_code(scripted: Any) -> None:
    client, _ = scripted([ScriptedAnswer.refusal(403, "AccessDenied", "not yours")])
    with pytest.raises(OssPermissionError, match="AccessDenied .not yours."):
        client.head("oss://bucket/key")


def test_a_request_that_the_script_does_not_have_is_told(scripted: Any) -> None:
    client, _ = scripted([])
    with pytest.raises(AssertionError, match="no answer for request 1, HeadObject oss://bucket/key"):
        client.head("oss://bucket/key")
