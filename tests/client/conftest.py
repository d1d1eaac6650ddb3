"""A client of a scripted server, through either transport."""

from __future__ import annotations

import json

import pytest
from client.scripted_server import QUICK_SETTINGS, ScriptedServer
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient


@pytest.fixture(params=["direct", "aiohttp"])
def settings(request):
    return QUICK_SETTINGS | {"transport": request.param}


@pytest.fixture
def connect(settings, tmp_path):
    """Return a function that opens a client for a scripted server; all are closed in the end."""
    clients = []
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))

    def open_client(server: ScriptedServer, **extra) -> OssClient:
        (tmp_path / "config.json").write_text(json.dumps(NO_LOGS | settings | extra))
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        clients.append(OssClient(server.endpoint, region="cn-test", **paths))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
