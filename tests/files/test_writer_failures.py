"""OssWriter: whatever goes wrong, the key holds the old object or the new one, and no part is left behind."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from files.fake_client import Call, FakeClient, Gate
from files.small_parts import DATA, OLD, PART, TRANSFER, client_with_small_parts, stored, writer_of

from osstorchconnector.errors import OssConnectionError, OssError, OssPermissionError
from osstorchconnector.files.writer import OssWriter


@pytest.fixture
def client() -> Iterator[FakeClient]:
    with client_with_small_parts() as fake:
        yield fake


# what is not published


def test_an_exception_in_the_block_leaves_the_old_object(client: FakeClient) -> None:
    with contextlib.suppress(KeyError), writer_of(client) as writer:
        writer.write(DATA)
        raise KeyError
    assert writer.closed
    assert stored(client) == OLD
    assert client.uploads == {}
    assert "complete" not in client.operations()


def test_an_exception_before_the_first_part_sends_nothing(client: FakeClient) -> None:
    with contextlib.suppress(KeyError), writer_of(client) as writer:
        writer.write(b"half")
        raise KeyError
    assert stored(client) == OLD
    assert client.operations() == []


def test_a_discarded_writer_leaves_the_old_object(client: FakeClient, caplog: pytest.LogCaptureFixture) -> None:
    writer = writer_of(client)
    writer.write(DATA)
    writer.discard()
    writer.discard()
    writer.close()
    assert writer.closed
    del writer
    gc.collect()
    assert stored(client) == OLD
    assert client.uploads == {}
    assert client.operations().count("abort") == 1
    assert caplog.text == ""


@pytest.mark.parametrize("size", [10, len(DATA)])
def test_a_dropped_writer_leaves_the_old_object_and_says_so(
    client: FakeClient, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    writer = writer_of(client)
    writer.write(DATA[:size])
    del writer
    gc.collect()
    assert caplog.text.count("was never closed, so nothing was stored") == 1
    client.settle()
    client.settle()
    assert stored(client) == OLD
    assert client.uploads == {}


def test_a_writer_may_be_dropped_on_the_loop_thread(client: FakeClient) -> None:
    held = [writer_of(client)]
    held[0].write(DATA)

    async def drop(operations: Any) -> None:
        held.clear()
        gc.collect()

    client.submit(drop).result()
    client.settle()
    client.settle()
    assert client.uploads == {}
    assert stored(client) == OLD


def test_an_abort_waits_until_no_part_can_arrive_any_more(client: FakeClient) -> None:
    order: list[str] = []
    client.after = lambda call: order.append(call.operation)
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "part" else None
    writer = writer_of(client)
    writer.write(DATA[: 3 * PART])
    client.settle()
    writer.discard()
    gate.open()
    client.settle()
    assert order == ["create", "abort"]


def test_an_upload_that_is_just_being_created_is_aborted_too(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "create" else None
    writer = writer_of(client)
    writing = threading.Thread(target=expect_error, args=(writer,))
    writing.start()
    while "create" not in client.operations():
        writing.join(0.01)
    assert writer._upload is not None
    writer._upload.abort()
    assert client.operations() == ["create"]
    gate.open()
    writing.join()
    assert writer._upload.wait_until_gone(30)
    assert client.operations() == ["create", "abort"]
    assert client.uploads == {}


def expect_error(writer: OssWriter) -> None:
    with pytest.raises(OssError, match="given up while it was being written"):
        writer.write(DATA)


# failures


class Failing:
    """Fails the nth call of an operation, before or after the server's part."""

    def __init__(self, operation: str, number: int = 1) -> None:
        self._operation, self._countdown = operation, number

    def __call__(self, call: Call) -> None:
        if call.operation == self._operation:
            self._countdown -= 1
            if not self._countdown:
                raise OssConnectionError(f"{self._operation}: lost")


def write_all(writer: OssWriter, size: int) -> None:
    with writer:
        for start in range(0, size, 5000):
            writer.write(DATA[start : min(start + 5000, size)])


FAILURES = [("put", 1, 10), ("create", 1, len(DATA)), ("complete", 1, len(DATA))]
FAILURES += [("part", number, len(DATA)) for number in (1, 2, 10, 11)]


@pytest.mark.parametrize(("operation", "number", "size"), FAILURES)
def test_a_failed_request_fails_the_writer_and_leaves_the_old_object(
    client: FakeClient, operation: str, number: int, size: int
) -> None:
    client.before = Failing(operation, number)
    writer = writer_of(client)
    with pytest.raises(OssConnectionError, match="lost"):
        write_all(writer, size)
    client.settle()
    assert writer.closed
    assert stored(client) == OLD
    assert client.uploads == {}
    assert client.operations().count("complete") == (operation == "complete")


@pytest.mark.parametrize(("operation", "number", "size"), FAILURES)
def test_a_lost_answer_never_publishes_half_an_object(
    client: FakeClient, operation: str, number: int, size: int
) -> None:
    client.after = Failing(operation, number)
    with pytest.raises(OssConnectionError, match="lost"), writer_of(client) as writer:
        writer.write(bytearray(DATA[:size]))
    client.settle()
    whole = operation in ("put", "complete")  # done, though nobody was told
    assert stored(client) == (DATA[:size] if whole else OLD)
    if operation != "create":  # whose id is lost: parts of it there are none
        assert client.uploads == {}


def test_after_a_failed_write_nothing_more_is_taken(client: FakeClient) -> None:
    client.before = Failing("part")
    writer = writer_of(client)
    with pytest.raises(OssConnectionError):
        writer.write(DATA * 2)
    for use in (lambda: writer.write(b"more"), lambda: writer.write(b"more"), writer.close):
        with pytest.raises(OssError, match="an earlier write to oss://bucket/folder/object.bin failed.*part: lost"):
            use()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")
    assert stored(client) == OLD
    assert client.uploads == {}


def test_after_a_failed_close_the_writer_is_closed(client: FakeClient) -> None:
    client.before = Failing("complete")
    writer = writer_of(client)
    writer.write(DATA)
    with pytest.raises(OssConnectionError):
        writer.close()
    writer.close()
    writer.discard()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"")
    assert stored(client) == OLD
    assert client.uploads == {}


def test_an_interrupted_write_is_not_published(client: FakeClient) -> None:
    gate = Gate()

    def interrupt(call: Call) -> Any:
        if call.number == TRANSFER.upload_concurrency:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return gate.passed() if call.operation == "part" else None

    client.before = interrupt
    writer = writer_of(client)
    with pytest.raises(KeyboardInterrupt):
        writer.write(DATA)
    gate.open()
    with pytest.raises(OssError, match="nothing is stored"):
        writer.close()
    assert stored(client) == OLD
    assert client.uploads == {}


def test_an_abort_that_fails_is_logged_and_hides_no_error(client: FakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client.before = Failing("abort")
    with contextlib.suppress(KeyError), writer_of(client) as writer:
        writer.write(DATA)
        raise KeyError
    assert "its parts may still be stored: abort: lost" in caplog.text
    assert stored(client) == OLD


def test_the_server_refusing_is_an_error_of_its_kind(client: FakeClient) -> None:
    def refuse(call: Call) -> None:
        raise OssPermissionError("AccessDenied", status=403)

    client.before = refuse
    with pytest.raises(PermissionError), writer_of(client) as writer:
        writer.write(b"data")
