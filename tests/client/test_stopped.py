"""A process that is stopped for longer than an operation may take goes on when it is continued, as if nothing was."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from client.scripted_server import ScriptedServer, Step, Visit, answer, hang, reset
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.clocks import GRACE_SECONDS
from osstorchconnector.protocol.checksum import crc64

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

URI = "oss://bucket/key"
LARGE = bytes(20_000_000)  # more than the buffers of a connection take
OPERATION_SECONDS = 4.0
SETTINGS = {"operationTimeout": OPERATION_SECONDS, "readTimeout": 1.5, "maxAttempts": 1, "retryBudget": 0}
# Longer than an operation, and than what is taken for a busy machine.
STOPPED_SECONDS = max(OPERATION_SECONDS, GRACE_SECONDS + 1.0) + 1.0


@dataclass
class Scene:
    """What happens to a request of a process that is stopped as soon as the request has come."""

    name: str
    script: Callable[[Scene], list[list[Step]]]
    requests: int
    work: Callable[[OssClient], bool] = lambda client: client.get(URI).body == b"answer"
    child: int = 0
    is_stopped: threading.Event = field(default_factory=threading.Event)
    is_continued: threading.Event = field(default_factory=threading.Event)

    def meanwhile(self, then: Step) -> Step:
        return self._after(self.is_stopped, then)

    def afterwards(self, then: Step) -> Step:
        return self._after(self.is_continued, then)

    def _after(self, event: threading.Event, then: Step) -> Step:
        def step(visit: Visit) -> None:
            os.kill(self.child, signal.SIGSTOP)
            os.waitpid(self.child, os.WUNTRACED)
            self.is_stopped.set()
            event.wait(60)
            if isinstance(then, bytes):
                visit.send(then)
            else:
                then(visit)

        return step


def take(visit: Visit) -> None:
    assert len(visit.read_body()) == len(LARGE)
    visit.send(answer(x_oss_hash_crc64ecma=str(crc64(LARGE))))


def upload(client: OssClient) -> bool:
    client.put(URI, LARGE)
    return True


GOOD, BUSY = answer(b"answer"), answer(status="503 Service Unavailable")


def scenes() -> list[Scene]:
    return [
        Scene("the answer comes meanwhile", lambda scene: [[scene.meanwhile(GOOD)]], 1),
        Scene("the answer comes afterwards", lambda scene: [[scene.afterwards(GOOD)]], 1),
        Scene("the connection breaks meanwhile", lambda scene: [[scene.meanwhile(reset)]], 2),
        Scene("the connection has died", lambda scene: [[scene.meanwhile(hang)]], 2),
        Scene("the server is busy meanwhile", lambda scene: [[scene.meanwhile(BUSY)]], 2),
        Scene("the upload goes on afterwards", lambda scene: [[scene.afterwards(take)]], 1, upload),
    ]


def start(work: Callable[[], bool]) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if work() else 2
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


@pytest.mark.timeout(180)
@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
def test_operations_under_way_have_another_chance_after_a_stop(transport: str, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))
    (tmp_path / "config.json").write_text(json.dumps({**NO_LOGS, **SETTINGS, "transport": transport}))
    paths: Any = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
    played = scenes()
    # aiohttp's own timers may fire when they can: then the other chance is on a new connection
    other = [[take if scene.work is upload else GOOD] for scene in played]
    servers = [ScriptedServer(*scene.script(scene), then) for scene, then in zip(played, other, strict=True)]
    try:
        for scene, server in zip(played, servers, strict=True):  # before there are threads to fork beside
            client = OssClient(server.endpoint, region="cn-test", **paths)
            scene.child = start(lambda work=scene.work, client=client: work(client))
        for server in servers:
            server.__enter__()
        for scene in played:
            assert scene.is_stopped.wait(60)
        time.sleep(STOPPED_SECONDS)  # the fault itself: nothing else makes the clock go on
        for scene in played:
            os.kill(scene.child, signal.SIGCONT)
            scene.is_continued.set()
        ended = {scene.name: os.waitpid(scene.child, 0)[1] for scene in played}
        for scene in played:
            scene.child = 0
        assert ended == dict.fromkeys(ended, 0)
        for scene, server in zip(played, servers, strict=True):
            assert len(server.heads) == scene.requests or (transport == "aiohttp" and len(server.heads) <= 2), scene
    finally:
        for scene in played:
            if scene.child:
                os.kill(scene.child, signal.SIGKILL)
                os.waitpid(scene.child, 0)
        for server in servers:
            server.__exit__()
