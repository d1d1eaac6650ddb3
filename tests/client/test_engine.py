from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import pytest
from scripts import run_python

from osstorchconnector import OssClient
from osstorchconnector.client.engine import Engine, LoopThread, engine, in_thread
from osstorchconnector.errors import OssError, OssUsageError
from osstorchconnector.testing import OssBucket


@pytest.fixture
def thread():
    thread = LoopThread("test-loop")
    yield thread
    thread.stop()


class Attached:
    def __init__(self) -> None:
        self.closed = threading.Event()

    async def aclose(self) -> None:
        self.closed.set()


async def value():
    return 42


def test_a_coroutine_runs_on_the_loop_and_its_result_comes_back(thread):
    assert thread.run(value()) == 42


def test_waiting_on_the_loops_own_thread_is_refused_instead_of_hanging(thread):
    async def wait():
        thread.run(value())

    with pytest.raises(OssUsageError, match="own thread"):
        thread.run(wait())


def test_stopping_cancels_what_runs_and_closes_what_is_attached():
    thread, attached = LoopThread("test-loop"), Attached()
    thread.attached[1] = attached
    forever = thread.submit(asyncio.sleep(3600))
    thread.run(value())
    thread.stop()
    assert attached.closed.is_set()
    with pytest.raises((asyncio.CancelledError, Exception)):
        forever.result(timeout=100)


def test_what_does_not_close_is_given_up_in_the_end():
    thread, given_up = LoopThread("test-loop"), threading.Event()

    class Stuck:
        async def aclose(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

    thread.attached[1] = Stuck()
    thread.stop()
    assert given_up.is_set()


async def pass_turns():
    for _ in range(100):
        await asyncio.sleep(0)


def test_what_closes_in_the_background_has_closed_when_the_loop_ends():
    thread, under_way, closed = LoopThread("test-loop"), threading.Event(), threading.Event()

    async def close():
        await asyncio.gather(pass_turns(), pass_turns())
        under_way.set()
        await pass_turns()
        closed.set()

    thread.start_soon(close)
    thread.end_soon()
    assert under_way.wait(100)
    thread.stop()
    assert closed.is_set()


def test_calls_after_the_end_do_nothing():
    thread = LoopThread("test-loop")
    thread.stop()
    thread.call(print, "never")
    thread.start_soon(value)


def test_work_that_nobody_waits_for_is_done(thread):
    done = threading.Event()

    async def work():
        done.set()

    thread.start_soon(work)
    assert done.wait(100)


def test_threads_start_at_first_use_and_are_shared():
    own = Engine()
    assert own.running() == []
    first = own.threads(1)
    assert own.threads(2)[:1] == first
    assert len(own.running()) == 2
    own.stop()
    assert own.running() == []


def test_a_forked_child_has_loops_of_its_own():
    parent = engine.threads(2)
    child = os.fork()
    if child == 0:
        own = engine.threads(2)
        ok = not set(own) & set(parent) and own[0].run(value()) == 42
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.threads(2) == parent


def test_a_process_that_still_has_work_in_flight_ends_quietly():
    program = (
        "import asyncio\n"
        "from osstorchconnector.client.engine import engine\n"
        "for thread in engine.threads(3):\n"
        "    thread.submit(asyncio.sleep(3600))\n"
    )
    assert run_python("-c", program) == ("", "")


def test_a_program_that_used_both_transports_ends_quietly(oss_bucket):
    program = (
        "import sys\n"
        "from osstorchconnector import OssClient\n"
        "client = OssClient(sys.argv[1], cred_path=sys.argv[2])\n"
        "client.put(sys.argv[3] + 'key', b'data')\n"
        "print([found.key for found in client.list(sys.argv[3])])\n"
    )
    arguments = ["-c", program, oss_bucket.endpoint, oss_bucket.cred_path, oss_bucket.uri]
    assert run_python(*arguments) == ("['key']\n", "")


def test_connecting_starts_no_thread_that_a_forked_child_would_wait_for(oss_bucket):
    program = (
        "import os, sys, threading, time\n"
        "from osstorchconnector import OssClient\n"
        "client = OssClient(sys.argv[1], cred_path=sys.argv[2])\n"
        "client.put(sys.argv[3] + 'key', b'data')\n"
        "list(client.list(sys.argv[3]))\n"
        "def others():\n"
        "    known = {thread.native_id for thread in threading.enumerate()}\n"
        "    return [task for task in os.listdir('/proc/self/task') if int(task) not in known]\n"
        "until = time.monotonic() + 10\n"
        "while others() and time.monotonic() < until:  # threads of Python's that are just ending\n"
        "    time.sleep(0.01)\n"
        "print(others())\n"
    )
    assert run_python("-c", program, oss_bucket.endpoint, oss_bucket.cred_path, oss_bucket.uri) == ("[]\n", "")


def test_a_blocking_call_is_awaited_even_when_the_main_thread_has_ended():
    program = (
        "import threading\n"
        "from osstorchconnector.client.engine import engine, in_thread\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    print(engine.threads(1)[0].run(in_thread(lambda: 42)))\n"
        "engine.threads(1)\n"
        "threading.Thread(target=late).start()\n"
    )
    assert run_python("-c", program) == ("42\n", "")


def test_what_a_blocking_call_raises_reaches_who_awaits_it(thread):
    with pytest.raises(ZeroDivisionError):
        thread.run(in_thread(lambda: 1 // 0))


def test_a_coroutine_for_a_loop_that_has_ended_is_refused_and_closed():
    thread = LoopThread("test-loop")
    thread.stop()
    coroutine = value()
    with pytest.raises(OssUsageError, match="ended"):
        thread.submit(coroutine)
    assert coroutine.cr_frame is None


def test_work_that_loses_a_cancellation_is_cancelled_again_at_the_end():
    thread, ended = LoopThread("test-loop"), threading.Event()

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = thread.submit(deaf())  # kept: what only its own cycle refers to can be collected before it ends
    thread.stop()
    assert ended.is_set() and waiting.done()


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_a_request_is_an_error_and_later_one_goes(
    oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    oss_bucket.put("key", b"data")
    client = OssClient(**oss_bucket.options)
    engine.threads(1)  # there is a loop, but no thread to read credentials in
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(2):
            with pytest.raises(OssError, match="no thread can be started.*ulimit -u"):
                client.get(oss_bucket.uri + "key")
    assert client.get(oss_bucket.uri + "key").body == b"data"


def test_where_no_loop_can_be_started_a_request_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(OssError, match="no thread can be started"):
        LoopThread("another")
