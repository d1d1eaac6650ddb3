"""MultipartUpload by itself: memory it lends, ways to end, and that the end is never waited for without bound."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from files.fake_client import TRANSFER, URI, Call, FakeClient, Gate

from osstorchconnector.client.operations import Operations
from osstorchconnector.files.upload import MultipartUpload
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import BegunUpload

MIB = 1 << 20


def upload_of(client: FakeClient, memory_bytes: int = 1000) -> MultipartUpload:
    return MultipartUpload(client, URI, concurrency=4, memory_bytes=memory_bytes, workers=1)


@pytest.fixture
def upload(client: FakeClient) -> Iterator[MultipartUpload]:
    begun = upload_of(client)
    yield begun
    begun.abort()


def test_memory_of_a_part_that_was_sent_is_lent_again(upload: MultipartUpload) -> None:
    first = upload.memory(600)
    upload.send(first, [first], crc64(first))
    assert upload.memory(600) is first  # there is no room for another: this waits


def test_memory_of_another_size_is_given_up(upload: MultipartUpload) -> None:
    first = upload.memory(400)
    upload.send(first, [first], crc64(first))
    second = upload.memory(900)
    assert second is not first
    assert len(second) == 900


def test_a_part_larger_than_the_budget_goes_alone(client: FakeClient) -> None:
    upload = upload_of(client, memory_bytes=10)
    for number in range(3):
        memory = upload.memory(100)
        memory[:] = bytes([number]) * 100
        upload.send(memory, [memory], crc64(memory))
    upload.complete()
    assert client.objects[URI].data == bytes(100) + b"\1" * 100 + b"\2" * 100
    assert client.most_under_way["part"] == 1


def test_a_quick_wire_is_kept_busy_with_little_memory(client: FakeClient) -> None:
    quick, gate, now = threading.Event(), Gate(), [0.0]

    def first_part_is_stored(call: Call) -> None:
        if call.operation == "part":
            now[0] = 2e-6  # 1000 bytes in 2 us: eight are 4 GB/s
            quick.set()

    client.before = lambda call: gate.passed() if call.operation == "part" and call.number > 1 else None
    client.after = first_part_is_stored
    upload = MultipartUpload(client, URI, concurrency=100, memory_bytes=100_000, workers=1, clock=lambda: now[0])

    def send_one() -> memoryview:
        memory = upload.memory(1000)
        upload.send(memory, [memory], crc64(memory))
        return memory

    lent = [send_one()]
    quick.wait()
    for _ in range(10):
        client.settle()
    lent += [send_one() for _ in range(10)]  # two more than eight
    gate.open()
    lent += [send_one() for _ in range(30)]
    assert len({id(memory) for memory in lent}) == 10
    upload.complete()


@pytest.mark.parametrize(("seconds", "part_bytes"), [(0.035, 5 * MIB), (0.001, 16 * MIB)])
def test_parts_are_smaller_from_the_first_answer_of_a_far_server(
    client: FakeClient, seconds: float, part_bytes: int
) -> None:
    now = [0.0]

    def answer_comes(call: Call) -> None:
        now[0] = seconds

    client.after = answer_comes
    upload = MultipartUpload(client, URI, concurrency=4, memory_bytes=1000, workers=1, clock=lambda: now[0])
    assert upload.next_part_bytes(16 * MIB, 0) == 16 * MIB
    upload.begin(4)
    client.settle()
    assert upload.next_part_bytes(16 * MIB, 16 * MIB) == part_bytes
    upload.abort()


def test_a_part_may_be_made_of_many_pieces(client: FakeClient) -> None:
    upload = upload_of(client)
    upload.send_constant([b"head", memoryview(b"body"), bytearray(b"tail")])
    upload.complete()
    assert client.objects[URI].data == b"headbodytail"
    assert upload.stored_bytes == 12


def begun_upload(client: FakeClient) -> BegunUpload:
    """Return an upload that has one part."""

    async def begin(operations: Operations) -> BegunUpload:
        upload_id = await operations.create_upload(URI)
        return BegunUpload(upload_id, [await operations.upload_part(URI, upload_id, 1, b"first")])

    return client.submit(begin).result()


def test_parts_are_added_to_those_of_an_earlier_run(client: FakeClient) -> None:
    upload = MultipartUpload(client, URI, concurrency=4, memory_bytes=100, workers=1, begun=begun_upload(client))
    upload.begin(1)
    upload.send_constant([b"second"])
    upload.complete()
    assert client.objects[URI].data == b"firstsecond"
    assert upload.stored_bytes == 11
    assert client.operations() == ["create", "part", "part", "complete"]


def test_a_writer_goes_on_where_an_earlier_run_ended_and_leaves_what_is_there(client: FakeClient) -> None:
    begun = begun_upload(client)
    writer = OssWriter(client, URI, transfer=TRANSFER, begun=begun)
    writer.write(b"sec")
    writer.discard()
    assert client.uploads == {begun.upload_id: {1: b"first"}}
    with OssWriter(client, URI, transfer=TRANSFER, begun=begun) as writer:
        assert writer.tell() == 5
        writer.write(b"second")
    assert client.objects[URI].data == b"firstsecond"
    assert client.uploads == {}


def test_an_upload_that_was_never_begun_has_nothing_to_abort(client: FakeClient) -> None:
    upload = upload_of(client)
    upload.abort()
    assert upload.wait_until_gone(0)
    assert client.operations() == []


def test_an_upload_that_could_not_be_created_has_nothing_to_abort(client: FakeClient) -> None:
    def refuse(call: object) -> None:
        raise KeyError

    client.before = refuse
    upload = upload_of(client)
    upload.send_constant([b"data"])
    with pytest.raises(KeyError):
        upload.complete()
    upload.abort()
    assert upload.wait_until_gone(0)
    assert client.operations() == ["create"]


def test_an_upload_that_could_not_even_be_begun_is_not_waited_for(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(work: object, *, workers: int = 1) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(client, "submit", refuse)
    upload = upload_of(client)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        upload.send_constant([b"data"])
    upload.abort()
    assert upload.wait_until_gone(0)


def test_a_part_may_be_given_before_the_upload_is_created(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "create" else None
    upload = upload_of(client)
    upload.send_constant([b"data"])
    assert upload.stored_bytes == 0
    gate.open()
    upload.complete()
    assert client.operations() == ["create", "part", "complete"]


def test_few_parts_wait_for_the_upload_to_be_created(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "create" else None
    upload = MultipartUpload(client, URI, concurrency=100, memory_bytes=100, workers=1)  # type: ignore[arg-type]
    for _ in range(8):
        memory = upload.memory(1)
        upload.send(memory, [memory], crc64(memory))

    lent: list[memoryview] = []
    lending = threading.Thread(target=lambda: lent.append(upload.memory(1)))
    lending.start()
    lending.join(0.05)
    assert lending.is_alive()  # it waits until one of the eight is stored
    gate.open()
    lending.join()
    assert len(lent) == 1
    upload.complete()
    assert client.operations().count("part") == 8


async def no_operation(operations: object) -> None:
    """Do nothing, on the loop."""


def test_a_part_that_is_given_up_does_not_take_the_upload_that_is_being_created_along(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "create" else None
    upload = upload_of(client)
    upload.send_constant([b"data"])
    client.submit(no_operation).result()  # on the same loop: the part has begun, and waits
    upload.abort()
    gate.open()
    assert upload.wait_until_gone(10)
    assert client.operations() == ["create", "abort"]


def test_a_completed_upload_is_not_aborted(client: FakeClient) -> None:
    upload = upload_of(client)
    upload.send_constant([b"data"])
    upload.complete()
    upload.abort()
    assert upload.wait_until_gone(0)
    assert client.operations() == ["create", "part", "complete"]


def test_waiting_for_an_abort_has_a_bound(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "abort" else None
    upload = upload_of(client)
    upload.send_constant([b"data"])
    upload.abort()
    assert not upload.wait_until_gone(0)
    gate.open()
    assert upload.wait_until_gone(30)
    assert client.uploads == {}


def test_an_abort_is_given_up_when_the_loops_have_ended(
    client: FakeClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = upload_of(client)
    upload.send_constant([b"data"])
    client.settle()

    def ended(work: object, *, workers: int = 1) -> None:
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(client, "submit", ended)
    upload.abort()
    assert upload.wait_until_gone(10)
    assert "its parts may still be stored: Event loop is closed" in caplog.text


def test_connections_are_opened_for_what_is_known_to_come(client: FakeClient) -> None:
    upload = MultipartUpload(client, URI, concurrency=4, memory_bytes=1000, workers=1)
    upload.begin(3)
    upload.send_constant([b"data"])
    upload.complete()
    assert client.opened_ahead == [(URI.bucket, 3)]
    assert client.operations() == ["create", "part", "complete"]


def test_no_more_connections_are_opened_than_parts_may_be_sent_at_once(client: FakeClient) -> None:
    upload = upload_of(client)
    upload.begin(100)
    upload.abort()
    assert upload.wait_until_gone(10)
    assert client.opened_ahead == [(URI.bucket, 4)]
