"""Connections as sockets see them, against a server in its own process."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator.raw import connected, put, request

from osstorchconnector.emulator import Emulator

MIB = 1024 * 1024
DATA = os.urandom(300_000)
WAIT_SECONDS = 200


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return once `is_so()`; it depends on another process, which nothing here can wait for."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline


def test_requests_sent_at_once_are_answered_in_order(oss: Emulator) -> None:
    for number in range(5):
        oss.put("photos", f"k{number}", DATA[: number * 60_000])
    with connected(oss) as peer:
        peer.send(b"".join(request(oss, "GET", f"k{number}") for number in range(5)))
        assert [peer.answer()[1] for _ in range(5)] == [DATA[: number * 60_000] for number in range(5)]


def test_more_requests_wait_than_fit_into_the_buffer(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    padding = [("x-padding", "p" * 8000)]
    with connected(oss) as peer:
        peer.send(b"".join(request(oss, "GET", "k", headers=padding) for _ in range(20)))
        assert [peer.answer()[1] == DATA for _ in range(20)] == [True] * 20


def test_bodies_and_requests_may_share_a_packet(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(put(oss, "a", 5) + b"12345" + put(oss, "b", 3) + b"678" + request(oss, "GET", "a"))
        assert [peer.answer()[0].status for _ in range(2)] == [200, 200]
        assert peer.answer()[1] == b"12345"
    assert oss.get("photos", "b") == b"678"


def test_a_head_may_come_byte_by_byte(oss: Emulator) -> None:
    oss.put("photos", "k", b"x")
    with connected(oss) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(oss, "GET", "k"):
            peer.send(bytes([byte]))
        assert peer.answer()[1] == b"x"


def test_a_body_may_come_in_pieces(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(put(oss, "k", len(DATA)) + DATA[:10])
        for start in range(10, len(DATA), 50_000):
            peer.send(DATA[start : start + 50_000])
        assert peer.answer()[0].status == 200
    assert oss.get("photos", "k") == DATA


def test_a_body_may_come_in_chunks(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "PUT", "k", headers=[("transfer-encoding", "chunked")]))
        for start in range(0, len(DATA), 70_000):
            piece = DATA[start : start + 70_000]
            peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        peer.send(b"0\r\n\r\n" + request(oss, "GET", "k"))
        assert peer.answer()[0].status == 200
        assert peer.answer()[1] == DATA


def test_chunks_that_are_none_end_the_connection(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "PUT", "k", headers=[("transfer-encoding", "chunked")]) + b"nonsense\r\n")
        head, body = peer.answer()
        assert head.status == 400
        assert b"<Code>BadRequest</Code>" in body
        assert peer.rest() == b""
    assert oss.keys("photos") == []


def test_a_client_that_asks_first_is_told_to_go_on(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "PUT", "k", headers=[("content-length", "5"), ("expect", "100-continue")]))
        assert peer.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"12345")
        assert peer.answer()[0].status == 200


def test_a_refused_upload_is_read_to_its_end_and_the_connection_kept(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(put(oss, "k", len(DATA)).replace(b"Signature=", b"Signature=0") + DATA + request(oss, "GET", "k"))
        assert peer.answer()[0].status == 403
        assert peer.answer()[0].status == 404


def test_a_client_may_close_or_speak_http_1_0(oss: Emulator) -> None:
    oss.put("photos", "k", b"x")
    for old, new in ((b"\r\nhost", b"\r\nconnection: close\r\nhost"), (b" HTTP/1.1", b" HTTP/1.0")):
        with connected(oss) as peer:
            peer.send(request(oss, "GET", "k").replace(old, new))
            head, body = peer.answer()
            assert (head.status, head.get("connection"), body) == (200, "close", b"x")
            assert peer.rest() == b""


@pytest.mark.parametrize("data", [b"\x16\x03\x01 hello\r\n\r\n", b"GET\r\n\r\n", b"x" * 70_000])
def test_what_is_not_http_is_told_so(oss: Emulator, data: bytes) -> None:
    with connected(oss) as peer:
        peer.send(data)
        head = peer.head()
        assert (head.status, head.get("connection")) == (400, "close")


@pytest.mark.parametrize("data", [b"GET\r\n\r\n", b"x" * 70_000, b"PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n"])
def test_what_is_not_http_is_told_so_while_more_of_it_comes(oss: Emulator, data: bytes) -> None:
    with connected(oss) as peer:
        peer.send(data)
        for _ in range(32):
            peer.send(b"y" * 65_536)
        assert peer.head().status == 400
        assert peer.rest() == b""


def test_chunks_that_are_none_are_told_of_while_more_of_them_come(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "PUT", "k", headers=[("transfer-encoding", "chunked")]) + b"nonsense\r\n")
        for _ in range(32):
            peer.send(b"y" * 65_536)
        assert peer.answer()[0].status == 400
        assert peer.rest() == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("announced", [("content-length", "5"), ("transfer-encoding", "chunked")])
def test_a_request_that_announces_a_body_and_sends_none_is_answered(
    oss: Emulator, method: str, announced: tuple[str, str]
) -> None:
    oss.put("photos", "k", b"x")
    with connected(oss) as peer:
        peer.send(request(oss, method, "k", headers=[announced]))
        head, body = peer.answer(method)
        assert (head.status, head.get("connection")) == (204 if method == "DELETE" else 200, "close")
        assert body == (b"x" if method == "GET" else b"")
        assert peer.rest() == b""


def test_a_get_whose_body_comes_late_has_its_whole_answer(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k", headers=[("content-length", str(len(DATA)))]))
        peer.send(DATA)
        assert peer.answer()[1] == DATA
        assert peer.rest() == b""


def test_a_get_whose_body_is_there_keeps_its_connection(oss: Emulator) -> None:
    oss.put("photos", "k", b"x")
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k", headers=[("content-length", "5")]) + b"12345" + request(oss, "GET", "k"))
        assert peer.answer()[1] == b"x"
        assert peer.answer()[1] == b"x"


def test_an_upload_with_length_and_chunks_is_read_by_its_chunks(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(request(oss, "PUT", "k", headers=[("content-length", "5"), ("transfer-encoding", "chunked")]))
        peer.send(b"5\r\nhello\r\n0\r\n\r\n")
        head, _ = peer.answer()
        assert (head.status, head.get("connection")) == (200, "close")
        assert peer.rest() == b""
    assert oss.get("photos", "k") == b"hello"


def test_a_head_answer_has_no_body(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    with connected(oss) as peer:
        peer.send(request(oss, "HEAD", "k") + request(oss, "HEAD", "missing") + request(oss, "GET", "k"))
        assert peer.answer("HEAD")[0].content_length == len(DATA)
        assert peer.answer("HEAD")[0].status == 404
        assert peer.answer()[1] == DATA


def test_an_object_deleted_while_it_is_sent_is_sent_whole(oss: Emulator) -> None:
    data = os.urandom(16 * MIB)
    oss.put("photos", "k", data)
    with connected(oss, receive_buffer=4096) as peer:
        peer.send(request(oss, "GET", "k"))
        assert peer.head().content_length == len(data)
        oss.delete("photos", "k")
        assert peer.take(len(data)) == data
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        assert peer.answer()[0].status == 404


def test_a_slow_reader_holds_nobody_up(oss: Emulator) -> None:
    oss.put("photos", "large", bytes(32 * MIB))
    oss.put("photos", "k", b"x")
    with connected(oss, receive_buffer=4096) as slow, connected(oss) as quick:
        slow.send(request(oss, "GET", "large"))
        slow.head()
        quick.send(request(oss, "GET", "k"))
        assert quick.answer()[1] == b"x"
        assert oss.counters().concurrency["GetObject"] == 1
    wait_until(lambda: oss.counters().concurrency["GetObject"] == 0)


def test_a_client_that_goes_away_while_sending_leaves_nothing(oss: Emulator) -> None:
    oss.put("photos", "k", b"old")
    with connected(oss) as peer:
        peer.send(put(oss, "k", MIB) + DATA)
        wait_until(lambda: oss.counters().concurrency["PutObject"] == 1)
    wait_until(lambda: oss.counters().concurrency["PutObject"] == 0)
    assert oss.get("photos", "k") == b"old"
    assert len(list((oss.root / "blobs").glob("*/*"))) == 1
    entry = oss.counters().log[-1]
    assert (entry.operation, entry.status) == ("PutObject", 0)


@pytest.mark.parametrize("sent", [0, 2000, len(DATA)])
def test_a_client_that_resets_its_connection_leaves_nothing(oss: Emulator, sent: int) -> None:
    with_reset = struct.pack("ii", 1, 0)
    for _ in range(20):
        with connected(oss) as peer:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_reset)
            peer.send(put(oss, "k", MIB) + DATA[:sent])
    wait_until(lambda: oss.counters().connections >= 20)
    wait_until(lambda: oss.counters().concurrency["PutObject"] == 0)
    wait_until(lambda: oss.counters().open_connections == 1)  # by which this is asked


@pytest.mark.parametrize("fault", ["stall_head", "stall", "drip"])
def test_a_client_that_gives_up_waiting_is_noticed(oss: Emulator, fault: str) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("GetObject", fault)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        wait_until(lambda: oss.counters().concurrency["GetObject"] == 1)
    wait_until(lambda: oss.counters().concurrency["GetObject"] == 0)


def test_a_client_that_gives_up_sending_is_noticed(oss: Emulator) -> None:
    oss.fail("PutObject", "stall_upload", at=1000)
    with connected(oss) as peer:
        peer.send(put(oss, "k", MIB) + DATA[:2000])
        wait_until(lambda: oss.counters().concurrency["PutObject"] == 1)
    wait_until(lambda: oss.counters().concurrency["PutObject"] == 0)


def test_a_reset_of_the_server_ends_what_is_stalled(oss: Emulator) -> None:
    oss.fail("PutObject", "stall_upload", at=1000)
    with connected(oss) as peer:
        peer.send(put(oss, "k", MIB) + DATA)
        wait_until(lambda: oss.counters().concurrency["PutObject"] == 1)
        oss.reset()
        assert oss.counters().concurrency["PutObject"] == 0


@pytest.mark.parametrize("fault", ["stall_upload", "drip_upload"])
def test_an_upload_that_was_held_up_goes_on(oss: Emulator, fault: str) -> None:
    oss.fail("PutObject", fault, seconds=0.02)
    with connected(oss) as peer:
        peer.send(put(oss, "k", len(DATA)) + DATA)
        assert peer.answer()[0].status == 200
    assert oss.get("photos", "k") == DATA


def test_an_upload_that_came_in_one_packet_with_its_head_is_held_up_too(oss: Emulator) -> None:
    oss.fail("PutObject", "stall_upload", times=1)
    with connected(oss) as peer:
        peer.send(put(oss, "k", 3) + b"abc")
        wait_until(lambda: oss.counters().faults["stall_upload"] == 1)
        with connected(oss) as other:
            other.send(request(oss, "GET", "k"))
            assert other.answer()[0].status == 404
        assert oss.counters().concurrency["PutObject"] == 1
    wait_until(lambda: oss.counters().concurrency["PutObject"] == 0)
    assert oss.keys("photos") == []


def test_what_was_held_up_goes_on_with_the_request_behind_it(oss: Emulator) -> None:
    oss.fail("PutObject", "stall_upload", seconds=0.02)
    with connected(oss) as peer:
        peer.send(put(oss, "k", 3) + b"abc" + request(oss, "GET", "k"))
        assert peer.answer()[0].status == 200
        assert peer.answer()[1] == b"abc"


def test_a_late_answer_is_the_right_one(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("GetObject", "latency", seconds=0.02)
    oss.fail("GetObject", "stall", seconds=0.02)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k") * 2)
        assert [peer.answer()[1] for _ in range(2)] == [DATA, DATA]


@pytest.mark.parametrize("fault", ["503", "AccessDenied"])
def test_an_upload_can_be_refused_before_it_has_arrived(oss: Emulator, fault: str) -> None:
    oss.fail("PutObject", fault, early=True)
    with connected(oss) as peer:
        peer.send(put(oss, "k", MIB))
        head, _ = peer.answer()
        assert head.status == (503 if fault == "503" else 403)
        assert peer.rest() == b""
    assert oss.keys("photos") == []
    assert list((oss.root / "blobs").glob("*/*")) == []


@pytest.mark.parametrize("fault", ["reset", "reset_body", "lost_answer", "reset_upload"])
def test_a_reset_is_a_reset(oss: Emulator, fault: str) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("", fault)
    with connected(oss) as peer:
        peer.send((put(oss, "k", MIB) + DATA) if fault == "reset_upload" else request(oss, "GET", "k"))
        with pytest.raises(ConnectionResetError):
            peer.rest()


def test_a_truncated_body_ends_in_good_order(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("GetObject", "truncate", at=200_000)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        assert peer.head().content_length == len(DATA)
        assert peer.rest() == DATA[:200_000]


def test_a_head_without_end_goes_on_until_the_client_has_enough(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("GetObject", "endless_head")
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        assert b"\r\n\r\n" not in peer.take(5 * MIB)
    wait_until(lambda: oss.counters().concurrency["GetObject"] == 0)


def test_an_answer_in_chunks_is_an_answer(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.fail("GetObject", "chunked", chunk_bytes=200_000)
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        assert peer.head().chunked
        expected = b"30d40\r\n" + DATA[:200_000] + b"\r\n186a0\r\n" + DATA[200_000:] + b"\r\n0\r\n\r\n"
        assert peer.take(len(expected)) == expected


def test_a_server_out_of_files_goes_on_when_some_are_closed(oss: Emulator) -> None:
    limits = resource.prlimit(oss.pid, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{oss.pid}/fd").iterdir()))
    resource.prlimit(oss.pid, resource.RLIMIT_NOFILE, (open_now + 3, limits[1]))
    try:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connected(oss)) for _ in range(12)]
            peers[0].send(request(oss, "GET", "k"))
            assert peers[0].answer()[0].status == 404
            peers[-1].send(request(oss, "GET", "k"))
            for peer in peers[:-1]:
                peer.socket.close()
            assert peers[-1].answer()[0].status == 404
    finally:
        resource.prlimit(oss.pid, resource.RLIMIT_NOFILE, limits)


def own_memory_bytes(pid: int) -> int:
    """Return what a process holds itself, without what it sees of the page cache."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def test_a_large_object_passes_through_without_being_held(oss: Emulator) -> None:
    blocks, block = 64, bytes(4 * MIB)
    before = own_memory_bytes(oss.pid)
    held = []
    with connected(oss) as peer:
        peer.send(put(oss, "k", blocks * len(block)))
        for _ in range(blocks):
            peer.send(block)
            held.append(own_memory_bytes(oss.pid) - before)
        assert peer.answer()[0].status == 200
        peer.send(request(oss, "GET", "k"))
        assert peer.head().content_length == blocks * len(block)
        for _ in range(blocks):
            peer.skip(len(block))
            held.append(own_memory_bytes(oss.pid) - before)
    assert max(held) < 16 * MIB
