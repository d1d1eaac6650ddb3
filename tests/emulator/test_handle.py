"""`serve()`: the process behind the handle, what outlives it, and what the handle can do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import oss2
import pytest
from emulator.raw import connected, put, request

from osstorchconnector import emulator
from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator import Emulator, EmulatorError, write_credentials

CANARY = "canary-secret-9f8e7d"
CANARY_TOKEN = "canary-token-1a2b3c"


def status(oss: Emulator, key: str = "k") -> int:
    """Return the status of a signed GET."""
    with connected(oss) as peer:
        peer.send(request(oss, "GET", key))
        return peer.answer()[0].status


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_objects_stay_in_a_root_and_are_served_again(tmp_path: Path) -> None:
    with emulator.serve(tmp_path, buckets=["photos"]) as oss:
        oss.put("photos", "a b/é", b"hello")
    with emulator.serve(tmp_path) as oss:
        assert oss.get("photos", "a b/é") == b"hello"
        assert oss.root == tmp_path


def test_a_temporary_root_goes_with_the_handle() -> None:
    with emulator.serve() as oss:
        assert oss.root.is_dir()
    assert not oss.root.exists()


def test_a_stopped_server_refuses_connections_and_comes_back_on_the_same_port() -> None:
    with emulator.serve(buckets=["photos"]) as oss:
        oss.put("photos", "k", b"x")
        endpoint, pid = oss.endpoint, oss.pid
        oss.stop()
        oss.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", oss.port))
        with pytest.raises(EmulatorError, match="not running"):
            oss.keys("photos")
        with pytest.raises(EmulatorError, match="not running"):
            _ = oss.pid
        oss.start()
        with pytest.raises(EmulatorError, match="running already"):
            oss.start()
        assert (oss.endpoint, status(oss)) == (endpoint, 200)
        oss.restart()
        assert (oss.endpoint, status(oss)) == (endpoint, 200)
        assert oss.pid != pid


def test_a_kill_at_any_moment_leaves_old_or_new_objects_and_no_litter(tmp_path: Path) -> None:
    old, new = b"old" * 50_000, b"new" * 50_000
    with emulator.serve(tmp_path, buckets=["photos"]) as oss:
        for number in range(20):
            oss.put("photos", f"k{number}", old)
        with connected(oss) as peer:
            overwrites = [put(oss, f"k{number}", len(new)) + new for number in range(20)]
            sender = threading.Thread(target=_send_as_long_as_possible, args=(peer.socket, overwrites))
            sender.start()
            for _ in range(5):
                assert peer.answer()[0].status == 200
            oss.kill()
            sender.join()
        oss.start()
        found = [oss.get("photos", f"k{number}") for number in range(20)]
        assert found[:5] == [new] * 5
        assert {*found} <= {old, new}
        assert len(list((tmp_path / "blobs").glob("*/*"))) == 20


def _send_as_long_as_possible(sock: socket.socket, requests: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        for data in requests:
            sock.sendall(data)


@pytest.mark.parametrize("is_temporary", [True, False])
def test_the_server_ends_when_its_parent_is_killed(tmp_path: Path, is_temporary: bool) -> None:
    program = f"""
        import signal
        from osstorchconnector import emulator
        oss = emulator.serve({None if is_temporary else str(tmp_path)!r})
        print(oss.pid, oss.root, flush=True)
        signal.pause()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, root = parent.stdout.readline().decode().split()
        assert is_alive(int(pid))
        assert Path(root).is_dir()
        parent.send_signal(signal.SIGKILL)
    while is_alive(int(pid)):  # the limit of the test ends this
        pass
    assert Path(root).exists() is not is_temporary


def test_a_forked_child_does_not_take_the_server_with_it() -> None:
    with emulator.serve(buckets=["photos"]) as oss:
        child = os.fork()
        if child == 0:
            oss.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert oss.keys("photos") == []


def test_a_server_listens_on_loopback_unless_told_otherwise() -> None:
    with emulator.serve() as oss:
        assert oss.endpoint == f"http://127.0.0.1:{oss.port}"
    with emulator.serve(host="0.0.0.0") as oss:
        assert oss.endpoint == f"http://127.0.0.1:{oss.port}"
        oss.reset()
    with emulator.serve(host="::1") as oss:
        assert oss.endpoint == f"http://[::1]:{oss.port}"
        oss.reset()


def test_a_port_is_not_one_that_clients_are_given(oss: Emulator) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 < oss.port < first


def test_credentials_are_written_for_their_owner_only(oss: Emulator, tmp_path: Path) -> None:
    path = Path(oss.credentials_file(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "AccessKeyId": oss.credentials.access_key_id,
        "AccessKeySecret": oss.credentials.access_key_secret,
    }
    write_credentials(path, replace(oss.credentials, security_token="t", expires_at=1741964966.0))
    assert json.loads(path.read_text())["SecurityToken"] == "t"
    assert json.loads(path.read_text())["Expiration"] == "2025-03-14T15:09:26Z"
    assert list(tmp_path.iterdir()) == [path]


def test_credentials_come_expire_and_go(oss: Emulator) -> None:
    own = oss.credentials
    guest = Credentials(access_key_id="guest", access_key_secret="s", security_token="t")
    oss.put("photos", "k", b"x")
    try:
        oss.credentials = guest
        assert status(oss) == 403
        oss.accept(guest)
        assert status(oss) == 200
        oss.accept(replace(guest, expires_at=time.time() - 1))
        assert status(oss) == 403
        assert oss.counters().log[-1].code == "SecurityTokenExpired"
        oss.accept(guest)
        oss.revoke("guest")
        assert status(oss) == 403
    finally:
        oss.credentials = own
    oss.revoke(own.access_key_id)
    assert status(oss) == 403
    oss.reset()
    assert status(oss) == 200


def test_the_clock_can_be_wrong(oss: Emulator) -> None:
    oss.set_clock(3600)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        head, body = peer.answer()
    assert b"<Code>RequestTimeTooSkewed</Code>" in body
    shown = time.mktime(time.strptime(head.get("date"), "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert 3500 < shown - time.time() < 3700
    oss.reset()
    assert status(oss) == 404


def test_rules_can_be_changed_while_it_runs(oss: Emulator) -> None:
    auth = oss2.Auth(oss.credentials.access_key_id, oss.credentials.access_key_secret)
    bucket = oss2.Bucket(auth, oss.endpoint, "photos")
    bucket.put_object("k", b"x")
    oss.set_policy(accept_v1=False)
    with pytest.raises(oss2.exceptions.AccessDenied):
        bucket.get_object("k")
    with pytest.raises(EmulatorError, match="nonsense"):
        oss.set_policy(nonsense=1)
    bucket.session.session.close()


def test_faults_are_switched_on_and_off(oss: Emulator) -> None:
    oss.put("photos", "k", b"x")
    oss.fail("GetObject", "503", key="k", times=1)
    assert [status(oss), status(oss)] == [503, 200]
    oss.script(["500", None, {"fault": "answer", "status": 299, "data": b"\x00\xff"}], "GetObject")
    assert [status(oss) for _ in range(4)] == [500, 200, 299, 200]
    oss.fail("GetObject", "429")
    oss.clear_faults()
    assert status(oss) == 200
    with pytest.raises(EmulatorError, match="no fault 'nonsense'"):
        oss.fail("GetObject", "nonsense")
    with pytest.raises(EmulatorError, match=r"has no option \['second'\]"):
        oss.fail("GetObject", "latency", second=1)


def test_what_was_done_is_counted_and_the_handles_own_requests_are_not(oss: Emulator) -> None:
    oss.put("photos", "k", b"12345")
    for _ in range(3):
        assert status(oss) == 200
    counters = oss.counters()
    assert counters.requests == {"GetObject": 3}
    assert (counters.bytes_out, counters.max_concurrency["GetObject"]) == (15, 1)
    assert [(entry.key, entry.status) for entry in counters.log] == [("k", 200)] * 3
    assert oss.counters(with_log=False).log == ()
    oss.reset_counters()
    assert oss.counters().requests == {}


def test_objects_go_in_and_out_by_the_back_door(oss: Emulator) -> None:
    keys = ["a b+c", "../../x", "nul\0", "é" * 511, "%2F"]
    for key in keys:
        oss.put("photos", key, key.encode())
    assert oss.keys("photos") == sorted(keys)
    assert [oss.get("photos", key) for key in keys] == [key.encode() for key in keys]
    oss.delete("photos", "%2F")
    with pytest.raises(KeyError, match="oss://photos/%2F"):
        oss.get("photos", "%2F")
    oss.put("photos", "view", memoryview(b"abc")[1:])
    assert oss.get("photos", "view") == b"bc"
    with pytest.raises(EmulatorError, match="NoSuchBucket"):
        oss.put("nowhere", "k", b"x")
    with pytest.raises(EmulatorError, match="InvalidBucketName"):
        oss.create_bucket("../escape")


def test_many_objects_are_made_at_once(oss: Emulator) -> None:
    oss.fill("photos", "train/{:04}", 1234, b"same")
    assert oss.keys("photos") == [f"train/{number:04}" for number in range(1234)]
    assert oss.get("photos", "train/0007") == b"same"
    oss.restart()
    assert oss.get("photos", "train/1233") == b"same"
    oss.remove_bucket("photos")
    oss.create_bucket("photos")
    assert list((oss.root / "blobs").glob("*/*")) == []


def test_objects_too_large_to_be_made_at_once_are_refused_by_name(oss: Emulator) -> None:
    with pytest.raises(EmulatorError, match="POST fill.*more than 8388608 bytes"):
        oss.fill("bucket", "many/{:03d}", 2, bytes(7 << 20))


def test_unfinished_uploads_can_be_seen(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "POST", "k", [("uploads", "")], [("content-length", "0")]))
        upload_id = peer.answer()[1].decode().partition("<UploadId>")[2].partition("<")[0]
        query = [("partNumber", "3"), ("uploadId", upload_id)]
        peer.send(request(oss, "PUT", "k", query, [("content-length", "1")]) + b"x")
        assert peer.answer()[0].status == 200
    assert oss.uploads("photos") == [("k", upload_id, [3])]


def test_control_requests_need_the_token(oss: Emulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", oss.port)
    for headers in ({}, {"x-emulator-token": "guess"}):
        connection.request("DELETE", "/-/bucket?bucket=photos", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:23]) == (403, b"no such control request")
    connection.close()
    assert oss.keys("photos") == []


def test_no_secret_is_in_the_process_list_the_root_or_the_counters(tmp_path: Path) -> None:
    with emulator.serve(tmp_path, access_key_secret=CANARY, security_token=CANARY_TOKEN, buckets=["photos"]) as oss:
        oss.put("photos", "k", b"x")
        assert status(oss) == 200
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        shown = [Path(f"/proc/{oss.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        shown.append(json.dumps(oss.counters().dump()).encode())
        shown.append(repr((oss, oss.credentials)).encode())
        for text in written + shown:
            assert CANARY.encode() not in text
            assert CANARY_TOKEN.encode() not in text


def test_why_it_did_not_start_is_in_the_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, emulator.serve(tmp_path / "used"):
        port = taken.getsockname()[1]
        for settings, reason in (
            ({"buckets": ["b"]}, r"InvalidBucketName: The specified bucket is not valid. \(b\): 3 to 63 lower-case"),
            ({"buckets": ["fine-one", "Bad_Name"]}, r"\(Bad_Name\)"),
            ({"buckets": ["../escape"]}, r"\(\.\./escape\)"),
            ({"port": port}, "in use"),
            ({"root": tmp_path / "used"}, "is in use by another emulator"),
            ({"certfile": str(tmp_path / "missing.pem")}, "missing.pem"),
        ):
            with pytest.raises(EmulatorError, match=f"did not start: .*{reason}"):
                emulator.serve(**settings)  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""


def test_a_bucket_that_can_not_be_made_is_named(oss: Emulator) -> None:
    with pytest.raises(EmulatorError, match=r"InvalidBucketName.*\(b\)"):
        oss.create_bucket("b")
