from __future__ import annotations

import json

from emulator.driver import Driver

from osstorchconnector.emulator.counters import MAX_LOG_ENTRIES, Counters, Recorder
from osstorchconnector.emulator.exchange import Call
from osstorchconnector.emulator.faults import Rule


def end(recorder: Recorder, call: Call, *, status: int = 200, received: int = 0, sent: int = 0) -> None:
    recorder.ended(call, 0.0, status=status, code="", fault="", received=received, sent=sent)


GET = Call("GetObject", "GET", "photos", "k")
PUT = Call("PutObject", "PUT", "photos", "k")


def test_requests_bytes_errors_and_faults_are_counted_by_operation() -> None:
    recorder = Recorder()
    for call, status, received, sent, fault in [(GET, 200, 0, 10, ""), (GET, 503, 0, 5, "503"), (PUT, 200, 7, 0, "")]:
        recorder.begun(call.operation, fault)
        end(recorder, call, status=status, received=received, sent=sent)
    counted = recorder.snapshot()
    assert counted.requests == {"GetObject": 2, "PutObject": 1}
    assert counted.errors == {"GetObject": 1}
    assert counted.faults == {"503": 1}
    assert (counted.sent, counted.received) == ({"GetObject": 15}, {"PutObject": 7})
    assert (counted.bytes_out, counted.bytes_in) == (15, 7)
    assert counted.requests["DeleteObject"] == 0


def test_concurrency_is_what_is_under_way_at_once() -> None:
    recorder = Recorder()
    for call in (GET, GET, PUT):
        recorder.begun(call.operation)
    end(recorder, GET)
    recorder.begun("GetObject")
    now = recorder.snapshot()
    assert (now.concurrency["GetObject"], now.max_concurrency["GetObject"]) == (2, 2)
    assert (now.concurrency[""], now.max_concurrency[""]) == (3, 3)
    recorder.reset()
    for call in (GET, PUT):
        end(recorder, call)
    again = recorder.snapshot()
    assert (again.concurrency["GetObject"], again.max_concurrency["GetObject"], again.requests) == (1, 2, {})


def test_a_fault_counts_from_when_it_strikes_not_from_when_it_is_over() -> None:
    recorder = Recorder()
    recorder.begun("PutObject", "stall_upload")
    assert recorder.snapshot().faults == {"stall_upload": 1}
    end(recorder, PUT)
    assert recorder.snapshot().faults == {"stall_upload": 1}


def test_connections_are_counted() -> None:
    recorder = Recorder()
    recorder.connected()
    recorder.connected()
    recorder.disconnected()
    counted = recorder.snapshot()
    assert (counted.connections, counted.open_connections, counted.max_connections) == (2, 1, 2)


def test_the_log_has_an_end() -> None:
    recorder = Recorder()
    for number in range(MAX_LOG_ENTRIES + 5):
        recorder.begun("GetObject")
        end(recorder, GET, sent=number)
    log = recorder.snapshot().log
    assert (len(log), log[0].bytes_out, log[-1].bytes_out) == (MAX_LOG_ENTRIES, 5, MAX_LOG_ENTRIES + 4)
    assert recorder.snapshot(with_log=False).log == ()


def test_the_log_says_what_was_asked_and_no_secret(send: Driver) -> None:
    send.frontend.faults.add(Rule(fault="latency"))
    send("PUT", "photos", "k", body=b"12345")
    send("GET", "photos", "k", [("x-oss-security-token", "canary")], headers=[("range", "bytes=1-2")])
    put, get = send.frontend.recorder.snapshot().log
    assert (put.operation, put.method, put.bucket, put.key) == ("PutObject", "PUT", "photos", "k")
    assert (put.bytes_in, put.bytes_out, put.status, put.range) == (5, 0, 200, "")
    assert (get.range, get.bytes_out, get.status, get.fault, get.query) == ("bytes=1-2", 2, 206, "latency", {})
    assert get.headers["host"] == "127.0.0.1:9000"
    assert put.seconds <= get.seconds
    for entry in (put, get):
        assert "key-secret" not in str(entry)
        assert "canary" not in str(entry)
        assert "Signature" not in str(entry)


def test_the_log_says_why_a_request_was_refused(send: Driver) -> None:
    send("GET", "photos", "missing")
    entry = send.frontend.recorder.snapshot().log[-1]
    assert (entry.status, entry.code) == (404, "NoSuchKey")


def test_counters_travel_as_json(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"12345")
    counted = send.frontend.recorder.snapshot()
    assert Counters.load(json.loads(json.dumps(counted.dump()))) == counted
