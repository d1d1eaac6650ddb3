"""What both transports promise, and what each does alone, against servers that follow a script."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import socket
import ssl
import threading

import pytest
from client.scripted_server import ScriptedServer, answer, close, first, hang, reset
from exposure import assert_nothing_exposed

from osstorchconnector.client.clocks import loop_clock
from osstorchconnector.client.memory import Pieces
from osstorchconnector.client.transport import aio
from osstorchconnector.client.transport.addresses import proxy_for
from osstorchconnector.client.transport.aio import AioTransport
from osstorchconnector.client.transport.base import (
    ExchangeFailed,
    Timeouts,
    UnsizedBody,
    WireRequest,
    unsent_bytes,
)
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.endpoint import Origin

TRANSPORTS = pytest.mark.parametrize("kind", [DirectTransport, AioTransport])
QUICK = Timeouts(connect_seconds=5, read_seconds=0.2)
PATIENT = Timeouts(connect_seconds=5, read_seconds=30)


class BodySink:
    """Memory for one answer."""

    moved_bytes = 0

    def __init__(self, *, fills_in_place: bool = False) -> None:
        self.fills_in_place = fills_in_place
        self.body = bytearray()

    def buffer_for(self, head):
        self.body = bytearray(head.content_length)
        return memoryview(self.body)

    def progressed(self, received_bytes):
        assert 0 < received_bytes <= len(self.body)

    def accept_whole(self, head, body):
        assert head.content_length in (None, len(body))
        self.stated, self.body = head.content_length, bytearray(body)


class Scattering(BodySink):
    """Memory in pieces of `sizes`, the last of which has the rest."""

    def __init__(self, *sizes, fills_in_place=True):
        super().__init__(fills_in_place=fills_in_place)
        self.sizes = sizes

    def buffer_for(self, head):
        view = super().buffer_for(head)
        stops = sorted({min(stop, len(view)) for stop in itertools.accumulate(self.sizes, initial=0)} | {len(view)})
        return Pieces(view[start:stop] for start, stop in itertools.pairwise(stops))


class Refusing(BodySink):
    def buffer_for(self, head):
        raise OssProtocolError("not what was asked for")

    def accept_whole(self, head, body):
        raise OssProtocolError("not what was asked for")


def wire(server, method="GET", target="/k", body=()):
    headers = [("Host", f"127.0.0.1:{server.port}"), ("User-Agent", "test")]
    if body:
        headers.append(("Content-Length", str(sum(len(part) for part in body))))
    return WireRequest(Origin("http", "127.0.0.1", server.port), method, target, headers, tuple(body))


def exchange(kind, server, *requests, timeouts=PATIENT, seconds=30.0, sink=None):
    """Send `requests` one after the other; return heads and bodies."""

    async def run():
        transport = kind(timeouts, None)
        results = []
        try:
            for request in requests:
                here = sink or BodySink()
                head = await transport.exchange(request, here, asyncio.get_running_loop().time() + seconds)
                results.append((head, bytes(here.body)))
        finally:
            await transport.aclose()
        return results

    return asyncio.run(run())


@TRANSPORTS
def test_a_body_lands_where_it_is_placed(kind):
    with ScriptedServer([answer(b"0123456789", ETag='"AB"')]) as server:
        ((head, body),) = exchange(kind, server, wire(server, target="/some%20key?x=1"))
    assert (head.status, head.get("etag"), body) == (200, '"AB"', b"0123456789")
    assert server.heads[0].startswith(b"GET /some%20key?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")


@TRANSPORTS
def test_a_body_lands_in_several_pieces_of_memory(kind):
    body = random.Random(1).randbytes(1_000_000)
    with ScriptedServer([answer(body)]) as server:
        results = exchange(kind, server, wire(server), sink=Scattering(1, 7000, 1, 300_000, 20))
    assert results[0][1] == body


@TRANSPORTS
def test_requests_follow_each_other_on_one_connection(kind):
    with ScriptedServer([answer(b"one"), answer(b""), answer(b"two")]) as server:
        results = exchange(kind, server, *[wire(server)] * 3)
    assert [body for _, body in results] == [b"one", b"", b"two"]


@TRANSPORTS
def test_an_answer_that_says_close_is_the_last_on_its_connection(kind):
    with ScriptedServer([answer(b"one", Connection="close")], [answer(b"two")]) as server:
        results = exchange(kind, server, *[wire(server)] * 2)
    assert [body for _, body in results] == [b"one", b"two"]


@TRANSPORTS
def test_an_answer_to_head_has_a_length_and_no_body(kind):
    with ScriptedServer([answer(length=12345), answer(b"next")]) as server:
        (head, body), (_, following) = exchange(kind, server, wire(server, "HEAD"), wire(server))
    assert (head.get("content-length"), body, following) == ("12345", b"", b"next")


@TRANSPORTS
@pytest.mark.parametrize("size", [1, 20_000, 3_000_000])
def test_a_body_is_sent_whole_and_in_order(kind, size):
    sent = bytes(range(256)) * (size // 256 + 1)
    received = []

    def take(visit):
        received.append(visit.read_body())
        visit.send(answer())

    with ScriptedServer([take]) as server:
        view = memoryview(sent)
        exchange(kind, server, wire(server, "PUT", body=(view[: size // 3], view[size // 3 : size])))
    assert received == [sent[:size]]


@TRANSPORTS
def test_an_answer_before_the_body_is_sent_ends_the_upload(kind):
    with ScriptedServer([first(answer(b"no", status="403 Forbidden"), hang)]) as server:
        ((head, body),) = exchange(kind, server, wire(server, "PUT", body=(bytes(50_000_000),)))
    assert (head.status, body) == (403, b"no")


@TRANSPORTS
@pytest.mark.parametrize("broken", [close, reset])
def test_a_body_that_breaks_off_tells_how_much_has_come(kind, broken):
    sink = BodySink()
    with ScriptedServer([first(answer(b"01234", length=10), broken)]) as server:
        with pytest.raises(ExchangeFailed) as failed:
            exchange(kind, server, wire(server), sink=sink)
    assert failed.value.kind == "reset"
    assert not failed.value.reused
    received = failed.value.received_bytes
    assert received in ((0, 5) if broken is reset else (5,)), "a reset may overtake the bytes before it"
    assert sink.body[:received] == b"01234"[:received]


@TRANSPORTS
def test_a_stalled_body_times_out(kind):
    with ScriptedServer([first(answer(b"01234", length=10), hang)]) as server:
        with pytest.raises(ExchangeFailed) as failed:
            exchange(kind, server, wire(server), timeouts=Timeouts(connect_seconds=5, read_seconds=1))
    assert (failed.value.kind, failed.value.received_bytes) == ("timeout", 5)


@TRANSPORTS
def test_a_server_that_stops_reading_an_upload_times_out(kind):
    done = threading.Event()

    with ScriptedServer([lambda visit: done.wait(60)]) as server:
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # else the window grows for long
        with pytest.raises(ExchangeFailed, match=r"hardly a byte for 0\.2 s") as failed:
            exchange(kind, server, wire(server, "PUT", body=[bytes(12 << 20)]), timeouts=QUICK, seconds=20)
        done.set()
    assert failed.value.kind == "timeout"


@TRANSPORTS
def test_a_server_that_says_nothing_times_out(kind):
    with ScriptedServer([hang]) as server, pytest.raises(ExchangeFailed) as failed:
        exchange(kind, server, wire(server), timeouts=QUICK)
    assert failed.value.kind == "timeout"


@TRANSPORTS
def test_the_deadline_ends_what_keeps_dripping(kind):
    def drip(visit):
        visit.send(answer(length=10**6))
        while not visit.server.over.wait(0.01):
            visit.send(b".")

    with ScriptedServer([drip]) as server, pytest.raises(ExchangeFailed) as failed:
        exchange(kind, server, wire(server), seconds=1)
    assert failed.value.kind == "timeout"
    assert failed.value.received_bytes > 0


@TRANSPORTS
def test_nobody_listening_is_a_failure_to_connect(kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    request = WireRequest(Origin("http", "127.0.0.1", port), "GET", "/", [("Host", "x")])
    with pytest.raises(ExchangeFailed) as failed:
        exchange(kind, None, request)
    assert failed.value.kind == "connect"


@TRANSPORTS
def test_a_host_that_does_not_exist_is_not_worth_a_retry(kind):
    request = WireRequest(Origin("http", "no-such-host.invalid", 80), "GET", "/", [("Host", "x")])
    with pytest.raises(ExchangeFailed, match=r"no-such-host\.invalid") as failed:
        exchange(kind, None, request)
    assert failed.value.kind in ("setup", "connect"), "a machine without a resolver says 'try again'"


@TRANSPORTS
@pytest.mark.parametrize(
    "garbage",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"\0" * 100 + b"\r\n\r\n"],
)
def test_what_is_not_http_is_refused(kind, garbage):
    with (
        ScriptedServer([first(garbage, close)]) as server,
        pytest.raises(OssProtocolError, match="not HTTP|Content-Length"),
    ):
        exchange(kind, server, wire(server))


@TRANSPORTS
def test_a_request_is_sent_once(kind):
    with ScriptedServer.in_turn(close, answer(b"a second try would get this")) as server:
        with pytest.raises(ExchangeFailed):
            exchange(kind, server, wire(server))
    assert len(server.heads) == 1


@pytest.fixture
def proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return lambda value: monkeypatch.setenv("http_proxy", value)


REMOTE = WireRequest(Origin("http", "bucket.oss.test", 80), "GET", "/k", [("Host", "bucket.oss.test")])


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_environment_is_asked(proxy, scheme):
    with ScriptedServer([answer(b"through the proxy")]) as server:
        proxy(f"{scheme}127.0.0.1:{server.port}")
        ((_, body),) = exchange(AioTransport, server, REMOTE)
    assert body == b"through the proxy"
    assert server.heads[0].startswith(b"GET http://bucket.oss.test/k HTTP/1.1\r\n")


def test_hosts_excluded_from_the_proxy_are_asked_directly(proxy, monkeypatch):
    proxy("http://proxy.test:3128")
    assert proxy_for(REMOTE.origin) == "http://proxy.test:3128"
    assert proxy_for(REMOTE.origin._replace(scheme="https")) is None
    monkeypatch.setenv("no_proxy", "oss.test")
    assert proxy_for(REMOTE.origin) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        (".oss.test", "bucket.oss.test", True),
        ("bucket.oss.test:80", "bucket.oss.test", True),
        ("bucket.oss.test:81", "bucket.oss.test", False),
        ("other.oss.test, 10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("*", "bucket.oss.test", True),
        ("other.oss.test", "bucket.oss.test", False),
    ],
)
def test_no_proxy_names_hosts_domains_ports_and_networks(proxy, monkeypatch, no_proxy, host, is_direct):
    proxy("http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (proxy_for(Origin("http", host, 80)) is None) == is_direct


@pytest.mark.parametrize("host", ["localhost", "bucket.localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_no_proxy_leads_to_this_machine(proxy, host):
    proxy("http://proxy.test:3128")
    assert proxy_for(Origin("http", host, 80)) is None


def test_a_proxy_that_is_not_there_is_named_without_its_password(proxy):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy(f"http://user:hunter2@127.0.0.1:{port}")
    with pytest.raises(ExchangeFailed, match=f"proxy 127.0.0.1:{port}") as failed:
        exchange(AioTransport, None, REMOTE)
    assert "hunter2" not in str(failed.value)


LOGIN = base64.b64encode(b"user:hunter2").decode()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", ["", "407 Proxy Authentication Required"])
def test_a_login_to_the_proxy_reaches_it_and_is_in_no_frame_of_an_error(proxy, monkeypatch, scheme, status):
    request = WireRequest(Origin(scheme, "bucket.oss.test", 80), "GET", "/k", [("Host", "bucket.oss.test")])
    with ScriptedServer.in_turn(answer(b"no", status=status) if status else close) as server:
        proxy(f"http://user:hunter2@127.0.0.1:{server.port}")
        monkeypatch.setenv("https_proxy", f"http://user:hunter2@127.0.0.1:{server.port}")
        if status and scheme == "http":
            exchange(AioTransport, server, request)
        else:
            with pytest.raises(ExchangeFailed) as failed:
                exchange(AioTransport, server, request)
            assert_nothing_exposed(failed.value, ["hunter2", LOGIN])
    assert f"\r\nproxy-authorization: basic {LOGIN}\r\n".lower() in server.heads[0].decode().lower()


def test_a_proxy_that_makes_no_tunnel_is_given_up_after_the_time_to_connect(proxy, monkeypatch):
    request = WireRequest(Origin("https", "bucket.oss.test", 443), "GET", "/k", [("Host", "bucket.oss.test")])
    with ScriptedServer([hang]) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        with pytest.raises(ExchangeFailed, match=r"no connection within 0\.2 s") as failed:
            exchange(AioTransport, server, request, timeouts=Timeouts(connect_seconds=0.2, read_seconds=30), seconds=3)
    assert failed.value.kind == "connect_timeout"


def test_a_proxy_that_is_no_address_is_said_to_be_none(proxy):
    proxy("http://user:hunter2@:no-port")
    with pytest.raises(ExchangeFailed, match="proxy") as failed:
        exchange(AioTransport, None, REMOTE)
    assert "hunter2" not in str(failed.value)


def test_a_head_without_end_is_refused_at_a_limit():
    def flood(visit):
        visit.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            visit.send(b"X-More: " + b"x" * 1000 + b"\r\n")

    with ScriptedServer([flood]) as server, pytest.raises(OssProtocolError, match="65536"):
        exchange(DirectTransport, server, wire(server))


@TRANSPORTS
def test_what_the_landing_raises_reaches_the_caller(kind):
    with ScriptedServer([answer(b"0123456789")], [answer(b"ok")]) as server:
        with pytest.raises(OssProtocolError, match="not what was asked for"):
            exchange(kind, server, wire(server), sink=Refusing())


class Learning(BodySink):
    """Memory of an operation that did not know how much would come."""

    def buffer_for(self, head):
        self.moved_bytes = head.content_length
        return super().buffer_for(head)


@TRANSPORTS
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "in chunks"])
def test_a_deadline_is_later_by_the_bytes_that_come(kind, is_chunked):
    size, passed = 12_000_000, threading.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size
    whole = head + bytes(size) + b"\r\n0\r\n\r\n" if is_chunked else answer(bytes(size))

    def half_and_half(visit):
        visit.send(whole[:8_000_000])
        passed.wait(30)
        visit.send(whole[8_000_000:])

    async def run(server):
        transport, sink = kind(Timeouts(connect_seconds=5, read_seconds=2), None), Learning()
        clock = loop_clock()
        deadline = clock.look() + 0.1
        exchange = asyncio.ensure_future(transport.exchange(wire(server), sink, deadline))
        with contextlib.suppress(asyncio.TimeoutError):
            await clock.wait_for(asyncio.Event().wait(), lambda: deadline + 0.8)  # `direct` looks twice a second
        passed.set()
        await exchange
        await transport.aclose()
        return len(sink.body)

    with ScriptedServer([half_and_half]) as server:
        assert asyncio.run(run(server)) == size


@TRANSPORTS
def test_bytes_that_nobody_asked_for_are_not_the_next_answer(kind):
    taken, sent = threading.Event(), threading.Event()

    def step(visit):
        if visit.head.startswith(b"GET /a "):
            visit.send(answer(b"a"))
            taken.wait(30)
            visit.send(answer(b"never asked for"))
            sent.set()
            hang(visit)
        else:  # answered when the connection that is idle by then has brought more
            sent.wait(30)
            visit.send(answer(b"b"))

    async def run(server):
        transport, sinks = kind(PATIENT, None), [BodySink() for _ in range(3)]

        async def ask(target, sink):
            await transport.exchange(wire(server, target=target), sink, asyncio.get_running_loop().time() + 30)

        b = asyncio.ensure_future(ask("/b", sinks[1]))
        await ask("/a", sinks[0])
        taken.set()
        await b
        await ask("/c", sinks[2])
        await transport.aclose()
        return [bytes(sink.body) for sink in sinks]

    with ScriptedServer([step, answer(b"c")], [step, answer(b"c")], [answer(b"c")]) as server:
        assert asyncio.run(run(server)) == [b"a", b"b", b"c"]


def new_event_loop():
    """Return a loop as the library makes them: uvloop's where that is installed."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


@TRANSPORTS
def test_a_server_that_speaks_first_is_connected_to_once_for_each_request(kind):
    accepted = []

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection)
                connection.send(b"SSH-2.0-OpenSSH_9.7\r\n")

    async def run(port):
        transport = kind(PATIENT, None)
        for _ in range(50):
            request = WireRequest(Origin("http", "127.0.0.1", port), "GET", "/", [("Host", "x")])
            with pytest.raises((ExchangeFailed, OssProtocolError)):
                await transport.exchange(request, BodySink(), loop_clock().look() + 30)
        await transport.aclose()

    loop = new_event_loop()
    with contextlib.closing(loop), socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        loop.run_until_complete(run(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()
    assert len(accepted) == 50


def test_a_request_that_can_not_be_written_leaves_no_connection_that_is_busy_for_ever():
    async def run(server):
        transport = DirectTransport(PATIENT, None)
        try:
            request = wire(server)
            request.headers.append(("if-match", "a\nb"))
            with pytest.raises(ValueError, match="line end"):
                await transport.exchange(request, BodySink(), loop_clock().look() + 30)
            assert not transport._busy
            sink = BodySink()
            await transport.exchange(wire(server), sink, loop_clock().look() + 30)
            return bytes(sink.body)
        finally:
            await transport.aclose()

    with ScriptedServer([answer(b"well")], [answer(b"well")]) as server:
        assert asyncio.run(run(server)) == b"well"


def test_direct_refuses_a_body_that_ends_with_the_connection_and_aiohttp_reads_it():
    endless = b"HTTP/1.1 200 OK\r\n\r\nabcde"
    with ScriptedServer([first(endless, hang)]) as server, pytest.raises(UnsizedBody):
        exchange(DirectTransport, server, wire(server))
    with ScriptedServer([first(endless, close)]) as server:
        sink = BodySink()
        ((head, body),) = exchange(AioTransport, server, wire(server), sink=sink)
    assert (head.status, body) == (200, b"abcde")
    assert sink.stated is None  # it may have been cut off


def test_what_waits_on_the_connection_after_the_body_is_of_another_request(monkeypatch):
    """aiohttp gives a connection to the next request at the end of the body, before it says so."""
    sink = BodySink()
    monkeypatch.setattr(aio, "unsent_bytes", lambda _: int(bytes(sink.body) == b"mine"))
    with ScriptedServer([answer(b"mine"), answer(b"its")]) as server:
        results = exchange(AioTransport, server, wire(server), sink=sink)
        assert results[0][1] == b"mine"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@TRANSPORTS
@pytest.mark.parametrize("pieces", [1, 7, 1000], ids=["byte by byte", "in sevens", "at once"])
def test_a_body_may_come_in_chunks_and_the_connection_is_used_again(kind, pieces):
    whole = CHUNKED + b"3\r\nabc\r\n2;note\r\nde\r\n0\r\nTrailer: x\r\n\r\n"

    def slowly(visit):
        for start in range(0, len(whole), pieces):
            visit.send(whole[start : start + pieces])

    with ScriptedServer([slowly, answer(b"next")]) as server:
        (head, body), (_, after) = exchange(kind, server, wire(server), wire(server))
    assert (head.status, body) == (200, b"abcde")
    assert after == b"next"


@TRANSPORTS
@pytest.mark.parametrize(
    ("rest", "error"),
    [
        (b"zz\r\nabc\r\n", OssProtocolError),
        (b"3\r\nabcdef\r\n", OssProtocolError),
        (b"3\r\nabc\r\n", ExchangeFailed),
        (b"3\r\nabc\r\n0\r\n", ExchangeFailed),
    ],
    ids=["no size", "longer than its size", "no last chunk", "no end of the last chunk"],
)
def test_chunks_that_do_not_add_up_are_no_answer(kind, rest, error):
    with ScriptedServer([first(CHUNKED + rest, close)]) as server, pytest.raises(error):
        exchange(kind, server, wire(server))


@TRANSPORTS
def test_chunks_without_end_are_refused_at_a_limit(kind):
    def flood(visit):
        visit.send(CHUNKED)
        while True:
            visit.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")

    with ScriptedServer([flood]) as server, pytest.raises(OssProtocolError, match="without a length, over 67108864"):
        exchange(kind, server, wire(server))


def test_a_reused_connection_that_breaks_before_the_answer_says_so_and_its_idle_sisters_go():
    async def run(server):
        transport = DirectTransport(PATIENT, None)
        deadline = asyncio.get_running_loop().time() + 30
        await asyncio.gather(*[transport.exchange(wire(server), BodySink(), deadline) for _ in range(2)])
        with pytest.raises(ExchangeFailed) as failed:
            await transport.exchange(wire(server), BodySink(), deadline)
        sink = BodySink()
        await transport.exchange(wire(server), sink, deadline)
        await transport.aclose()
        return failed.value, bytes(sink.body)

    with ScriptedServer([answer(b"1"), close], [answer(b"2"), close], [answer(b"fresh")]) as server:
        failure, body = asyncio.run(run(server))
    assert failure.reused
    assert body == b"fresh", "the other connection, idle for as long, is not tried"


def test_the_last_connection_used_is_the_first_to_be_used_again():
    async def run(server):
        transport = DirectTransport(PATIENT, None)
        deadline = asyncio.get_running_loop().time() + 30
        await asyncio.gather(*[transport.exchange(wire(server), BodySink(), deadline) for _ in range(3)])
        bodies = []
        for _ in range(3):
            sink = BodySink()
            await transport.exchange(wire(server), sink, deadline)
            bodies.append(bytes(sink.body))
        await transport.aclose()
        return bodies

    scripts = [[answer(b"")] + [answer(name)] * 3 for name in (b"a", b"b", b"c")]
    with ScriptedServer(*scripts) as server:
        bodies = asyncio.run(run(server))
    assert len(set(bodies)) == 1


def test_bytes_that_nobody_asked_for_end_the_connection():
    with ScriptedServer([answer(b"one") + b"HTTP/1.1 200 OK\r\n"], [answer(b"two")]) as server:
        results = exchange(DirectTransport, server, *[wire(server)] * 2)
    assert [body for _, body in results] == [b"one", b"two"]


def test_a_cancelled_exchange_does_not_leave_its_answer_to_the_next():
    async def run(server):
        transport = DirectTransport(PATIENT, None)
        deadline = asyncio.get_running_loop().time() + 30
        task = asyncio.ensure_future(transport.exchange(wire(server), BodySink(), deadline))
        await asyncio.get_running_loop().run_in_executor(None, asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sink = BodySink()
        await transport.exchange(wire(server), sink, deadline)
        await transport.aclose()
        return bytes(sink.body)

    asked = threading.Event()

    def late(visit):
        asked.set()
        hang(visit)

    with ScriptedServer([late], [answer(b"mine")]) as server:
        assert asyncio.run(run(server)) == b"mine"


def test_of_a_tls_connection_that_is_gone_nothing_is_unsent():
    import trustme

    authority, client_context = trustme.CA(), ssl.create_default_context()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    authority.configure_trust(client_context)

    class Protocol(asyncio.Protocol):
        def __init__(self):
            self.is_lost = asyncio.Event()

        def connection_lost(self, exc):
            self.is_lost.set()

    async def run():
        server = await asyncio.start_server(lambda r, w: w.transport.abort(), "127.0.0.1", 0, ssl=server_context)
        loop, port = asyncio.get_running_loop(), server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Protocol, "127.0.0.1", port, ssl=client_context)
        await asyncio.wait_for(protocol.is_lost.wait(), 30)
        server.close()
        unsent = unsent_bytes(transport)
        transport.abort()  # else Python 3.10 warns of it
        return unsent

    assert asyncio.run(run()) == unsent_bytes(None) == 0


@TRANSPORTS
def test_an_untrusted_certificate_names_the_key_to_set(kind, tmp_path):
    import trustme

    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)

    async def run():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        transport = kind(PATIENT, ssl.create_default_context())
        request = WireRequest(Origin("https", "127.0.0.1", port), "GET", "/", [("Host", "x")])
        try:
            await transport.exchange(request, BodySink(), asyncio.get_running_loop().time() + 10)
        finally:
            await transport.aclose()
            server.close()

    with pytest.raises(ExchangeFailed, match="certificate of .* is not trusted") as failed:
        asyncio.run(run())
    assert failed.value.kind == "setup"
