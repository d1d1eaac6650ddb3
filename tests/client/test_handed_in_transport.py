"""`OssClient(transport=)`: a name, or a factory, which goes to other processes with the client if it pickles."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssProtocolError
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.testing import OssBucket, ScriptedAnswer, ScriptedTransport, SentRequest

OBJECTS = {"a": b"first", "b": b"second" * 100}


def answered(request: SentRequest) -> ScriptedAnswer:
    """Answer reads of two objects."""
    if request.key not in OBJECTS:
        return ScriptedAnswer.refusal(404, "NoSuchKey")
    return ScriptedAnswer.of_object(OBJECTS[request.key], request.byte_range)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))
    (tmp_path / "config.json").write_text(json.dumps(NO_LOGS))
    paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
    return {"endpoint": "http://nowhere.invalid", "region": "cn-test", **paths}


def test_every_operation_goes_through_the_transport_that_is_handed_in(options: dict[str, Any]) -> None:
    transport = ScriptedTransport(answered)
    client = OssClient(**options, transport=transport)
    assert client.get("oss://bucket/a").body == b"first"
    assert client.get("oss://bucket/b", ByteSpan(590, 700)).body == OBJECTS["b"][590:]
    assert client.head("oss://bucket/b").size == 600
    with pytest.raises(OssNotFoundError):
        client.get("oss://bucket/c")
    assert [request.operation for request in transport.requests] == [
        "GetObject",
        "GetObject",
        "HeadObject",
        "GetObject",
    ]


def test_nothing_is_opened_ahead_through_a_transport_that_is_handed_in(options: dict[str, Any]) -> None:
    client = OssClient(**options, transport=ScriptedTransport(answered))
    client.open_ahead("bucket", 4, workers=2)
    assert client.get("oss://bucket/a").body == b"first"
    client.close()


@pytest.mark.parametrize("name", ["direct", "aiohttp"])
def test_a_name_goes_before_the_configuration(oss_bucket: OssBucket, tmp_path: Path, name: str) -> None:
    oss_bucket.put("key", b"body")
    (tmp_path / "config.json").write_text(json.dumps(NO_LOGS | {"transport": "aiohttp"}))
    client = OssClient(**oss_bucket.options, config_path=str(tmp_path / "config.json"), transport=name)
    assert client.config.transport == name
    assert client.get(oss_bucket.uri + "key").body == b"body"
    assert pickle.loads(pickle.dumps(client)).config.transport == name
    client.close()


@pytest.mark.parametrize("wrong", ["curl", 5, None])
def test_anything_else_is_an_error_at_once(options: dict[str, Any], wrong: Any) -> None:
    with pytest.raises(OssConfigError, match="transport: expected"):
        OssClient(**options, transport=wrong)


def test_a_factory_travels_with_the_client(options: dict[str, Any]) -> None:
    client = OssClient(**options, transport=ScriptedTransport(answered))
    for copy in (pickle.loads(pickle.dumps(client)), pickle.loads(client.reference().recipe)):
        assert copy.identity == client.identity
        assert copy.get("oss://bucket/a").body == b"first"


def test_a_factory_that_does_not_pickle_says_so_where_it_is_sent(options: dict[str, Any]) -> None:
    client = OssClient(**options, transport=ScriptedTransport(lambda request: ScriptedAnswer.of_object(b"first")))
    with pytest.raises(OssConfigError, match="its transport= can't be pickled"):
        pickle.dumps(client)
    stranded = pickle.loads(client.reference().recipe)
    with pytest.raises(OssConfigError, match="its transport= can't be pickled"):
        stranded.get("oss://bucket/a")
    assert client.get("oss://bucket/a").body == b"first"


def test_a_transport_that_gives_up_on_answers_without_a_length_is_not_asked_for_ever(options: dict[str, Any]) -> None:
    from osstorchconnector.client.transport.base import UnsizedBody

    class Unsized(ScriptedTransport):
        async def exchange(self, *args: Any, **more: Any) -> Any:
            raise UnsizedBody

    with pytest.raises(OssProtocolError, match="does not tell its length"):
        OssClient(**options, transport=Unsized([])).get("oss://bucket/a")
