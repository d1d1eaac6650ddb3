"""OssReader: what it asks for, what it does when the object is not what it was, and what it refuses."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import os
import pickle
import random
import threading
from typing import Any

import numpy
import pytest
import torch
from files.fake_client import TRANSFER, URI, Call, FakeClient, Gate

from osstorchconnector.config import TransferConfig
from osstorchconnector.errors import (
    OssConnectionError,
    OssIntegrityError,
    OssNotFoundError,
    OssObjectChangedError,
    OssServiceError,
)
from osstorchconnector.files.read_plan import KIB, MIB
from osstorchconnector.files.reader import OssReader

DATA = random.Random(1).randbytes(4 * MIB + 1234)


def reader_of(client: FakeClient, data: bytes = DATA, *, crc: int | None = -1) -> OssReader:
    client.store(URI, data, crc=crc)
    return OssReader(client, URI, transfer=TRANSFER)


def asked_bytes(client: FakeClient) -> int:
    return sum(stop - start for start, stop in client.spans())


# what is asked for


def test_nothing_is_sent_before_something_is_read(client: FakeClient) -> None:
    with reader_of(client) as reader:
        assert reader.seek(100) == 100
        assert reader.read(0) == b""
        assert reader.readinto(bytearray()) == 0
        assert (reader.readable(), reader.seekable(), reader.writable(), reader.tell()) == (True, True, False, 100)
    assert client.calls == []


def archive_of(*, is_torch: bool) -> bytes:
    file, data = io.BytesIO(), torch.arange(1_000_000)
    torch.save(data, file) if is_torch else numpy.savez(file, data.numpy())
    return file.getvalue()


def test_a_file_of_torch_is_fetched_from_the_front_while_its_directory_is_read(client: FakeClient) -> None:
    data, is_begun = archive_of(is_torch=True), Gate()

    def before(call: Call) -> Any:
        assert call.span is not None
        if call.span.start == 64 * KIB:
            is_begun.open()
        return is_begun.passed() if call.span.stop == len(data) else None

    client.before = before
    with reader_of(client, data) as reader:
        assert torch.equal(torch.load(reader), torch.arange(1_000_000))
    assert asked_bytes(client) <= len(data) + 64 * KIB


def test_of_another_archive_only_the_directory_is_fetched_with_its_beginning(client: FakeClient) -> None:
    data = archive_of(is_torch=False)
    with reader_of(client, data) as reader:
        assert numpy.load(reader).files == ["arr_0"]
    assert client.spans() == [(0, 64 * KIB), (len(data) - 64 * KIB, len(data))]


def test_a_small_first_read_is_one_request_of_64_kib(client: FakeClient) -> None:
    with reader_of(client) as reader:
        assert reader.read(10) == DATA[:10]
        assert reader.read(1000) == DATA[10:1010]
        assert reader.size == len(DATA)
    assert client.spans() == [(0, 64 * KIB)]


def test_a_small_object_is_one_request_however_it_is_read(client: FakeClient) -> None:
    with reader_of(client, DATA[:1000]) as reader:
        assert reader.seek(-10, os.SEEK_END) == 990
        assert reader.read() == DATA[990:1000]
        reader.seek(0)
        assert reader.read() == DATA[:1000]
    assert len(client.calls) == 1


def test_a_small_object_read_at_once_is_not_copied(client: FakeClient) -> None:
    with reader_of(client, DATA[:1000]) as reader:
        once = reader.read()
        reader.seek(0)
        assert reader.read(1000) is not once  # a part that happens to be all is copied
        reader.seek(0)
        assert reader.read() is once


def test_a_read_of_the_last_bytes_is_two_small_requests(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.seek(-10, 2)
        assert reader.read() == DATA[-10:]
    assert client.spans() == [(0, 64 * KIB), (len(DATA) - 64 * KIB, len(DATA))]


def test_a_first_read_in_the_middle_is_one_request(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.seek(MIB)
        assert reader.read(5) == DATA[MIB : MIB + 5]
    assert client.spans() == [(MIB, MIB + 64 * KIB)]


def test_a_first_read_beyond_the_end_asks_how_much_there_is(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.seek(len(DATA) + 10)
        assert reader.read(5) == b""
        assert reader.seek(-3, 2) == len(DATA) - 3
    assert client.spans() == [(len(DATA) + 10, len(DATA) + 10 + 64 * KIB), (0, 64 * KIB)]


def test_an_empty_object_reads_as_nothing(client: FakeClient) -> None:
    with reader_of(client, b"") as reader:
        assert (reader.read(), reader.read(5), reader.readline(), reader.peek(), reader.read1()) == (b"",) * 5
        assert (reader.size, reader.seek(0, 2), list(reader)) == (0, 0, [])
    assert len(client.calls) == 1


def test_a_jumping_reader_gets_64_kib_at_a_time_and_keeps_a_few(client: FakeClient) -> None:
    places = [3 * MIB, MIB, 2 * MIB]
    with reader_of(client) as reader:
        for place in places * 3:
            reader.seek(place)
            assert reader.read(100) == DATA[place : place + 100]
    assert client.spans() == [(place, place + 64 * KIB) for place in places]


def test_a_jump_that_reads_much_gets_just_that(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.read(1)
        reader.seek(2 * MIB)
        assert reader.read(100_000) == DATA[2 * MIB : 2 * MIB + 100_000]
    assert client.spans()[1:] == [(2 * MIB, 2 * MIB + 100_000)]


def test_one_read_that_is_longer_than_the_first_request_reads_nothing_ahead(client: FakeClient) -> None:
    with reader_of(client) as reader:
        assert reader.read(100_000) == DATA[:100_000]
    assert asked_bytes(client) <= 128 * KIB


@pytest.mark.parametrize("step", [1000, 64 * KIB, 100_000])
def test_going_forward_reads_ahead_but_not_more_than_twice_the_way_gone(client: FakeClient, step: int) -> None:
    with reader_of(client) as reader:
        for start in range(0, MIB, step):
            assert reader.read(step) == DATA[start : start + step]
            assert asked_bytes(client) <= 3 * (start + step) + 2 * 64 * KIB
        assert asked_bytes(client) > reader.tell() + 64 * KIB


def test_going_forward_to_the_end_asks_for_every_byte_once(client: FakeClient) -> None:
    with reader_of(client) as reader:
        while reader.read(64 * KIB):
            pass
    spans = client.spans()
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, len(DATA))


def test_no_more_requests_are_in_flight_than_configured(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.span and call.span.start >= 64 * KIB else None
    reader = reader_of(client, bytes(48 * MIB))
    reader.read(1)
    done = threading.Thread(target=reader.readinto, args=(bytearray(48 * MIB),))
    done.start()
    while client.most_under_way["get"] < TRANSFER.prefetch_concurrency:
        done.join(0.01)
    gate.open()
    done.join()
    assert client.most_under_way["get"] == TRANSFER.prefetch_concurrency
    reader.close()


def test_a_large_readinto_lands_in_parallel_ranges(client: FakeClient) -> None:
    data = random.Random(4).randbytes(20 * MIB)
    memory = bytearray(len(data))
    with reader_of(client, data) as reader:
        assert reader.readinto(memory) == len(data)
    assert memory == data
    first, *pieces = sorted(client.spans())
    assert first == (0, 64 * KIB)
    # Of 8 MiB where answers come at once; where this machine is slow, one for each request in flight.
    assert len(pieces) in (3, TRANSFER.prefetch_concurrency)
    assert all(left == right for (_, left), (right, _) in itertools.pairwise(sorted(client.spans())))


def test_a_large_readinto_takes_what_is_here_and_fetches_the_rest(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.seek(MIB)
        reader.read(10)  # a lone block in the middle
        reader.seek(0)
        memory = bytearray(3 * MIB)
        assert reader.readinto(memory) == 3 * MIB
        assert memory == DATA[: 3 * MIB]
    spans = sorted(client.spans())
    assert all(left_stop <= right_start for (_, left_stop), (right_start, _) in itertools.pairwise(spans))


def test_a_large_read_in_a_row_of_them_is_begun_ahead(client: FakeClient) -> None:
    data = random.Random(2).randbytes(8 * MIB)
    with reader_of(client, data) as reader:
        assert reader.read(2 * MIB) == data[: 2 * MIB]
        assert max(stop for _, stop in client.spans()) == 2 * MIB  # not known to go on
        reader.seek(100, os.SEEK_CUR)
        assert reader.read(2 * MIB) == data[2 * MIB + 100 : 4 * MIB + 100]
        assert max(stop for _, stop in client.spans()) > 4 * MIB + 100
        assert reader.read() == data[4 * MIB + 100 :]
    spans = sorted(client.spans())
    assert sum(stop - start for start, stop in spans) == len(data) - 100 + 100


def test_small_reads_between_large_ones_do_not_fetch_the_next_large_one_into_blocks(client: FakeClient) -> None:
    data = random.Random(3).randbytes(6 * (8 * MIB + 100))
    memory = bytearray(8 * MIB)
    with reader_of(client, data) as reader:
        for start in range(0, len(data), 8 * MIB + 100):
            assert reader.read(100) == data[start : start + 100]
            assert reader.readinto(memory) == len(memory)
            assert memory == data[start + 100 : start + 100 + len(memory)]
    assert sum(stop - start for start, stop in client.spans()) == len(data)
    assert sum(size for target, size in client.filled if target is memory) > len(data) // 2


def test_small_steps_forward_are_still_going_forward(client: FakeClient) -> None:
    with reader_of(client) as reader:
        position = 0
        while position + 30_000 < len(DATA):
            assert reader.read(30_000) == DATA[position : position + 30_000]
            position = reader.seek(3_000, os.SEEK_CUR)
    assert asked_bytes(client) <= len(DATA)


def test_a_step_back_into_the_block_before_costs_nothing(client: FakeClient) -> None:
    with reader_of(client) as reader:
        for start in range(0, MIB, 64 * KIB):
            reader.read(64 * KIB)
            requests = len(client.calls)
            reader.seek(-100, os.SEEK_CUR)
            assert reader.read(100) == DATA[start + 64 * KIB - 100 : start + 64 * KIB]
            assert len(client.calls) == requests


def test_copies_share_what_was_fetched_first(client: FakeClient) -> None:
    with reader_of(client, DATA[:1000]) as reader:
        reader.read(10)
        with reader.copy() as other:
            assert other.read() == DATA[:1000]
        assert reader.read(5) == DATA[10:15]
    assert len(client.calls) == 1


# all from one object


def test_every_further_request_is_for_the_object_first_seen(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.read(1)
        reader.seek(-1, 2)
        reader.read(1)
        reader.seek(0)
        reader.readinto(bytearray(len(DATA)))
    etag = client.objects[URI].etag
    assert [call.if_match for call in client.calls] == ["", *[etag] * (len(client.calls) - 1)]


def read_on(reader: OssReader, step: int = 64 * KIB) -> None:
    while reader.read(step):
        pass


@pytest.mark.parametrize(
    "go_on",
    [
        lambda reader: reader.readinto(bytearray(len(DATA))),
        lambda reader: reader.read(),
        lambda reader: reader.seek(-5, 2) and reader.read(),
        read_on,
        list,
    ],
)
def test_an_object_replaced_midway_is_an_error_and_never_a_mixture(client: FakeClient, go_on: Any) -> None:
    reader = reader_of(client)
    reader.read(10)
    client.store(URI, DATA[::-1])
    with pytest.raises(OssObjectChangedError, match="oss://bucket/folder/object.bin"):
        go_on(reader)
    reader.close()


def test_an_object_without_etag_that_shrank_is_an_error(client: FakeClient) -> None:
    reader = reader_of(client)
    client.objects[URI] = client.objects[URI]._replace(etag="")
    reader.read(10)
    client.objects[URI] = client.objects[URI]._replace(data=DATA[:MIB])
    reader.seek(MIB - 1000)
    with pytest.raises(OssObjectChangedError, match=r"it had \d+ bytes, now 1048576"):
        reader.read(2000)


def test_a_missing_object_is_a_file_not_found_error(client: FakeClient) -> None:
    reader = OssReader(client, URI, transfer=TRANSFER)
    with pytest.raises(FileNotFoundError) as caught:
        reader.read(1)
    assert isinstance(caught.value, OssNotFoundError)
    with pytest.raises(FileNotFoundError):
        reader.seek(0, 2)


def test_a_refusal_of_the_first_range_is_passed_on(client: FakeClient) -> None:
    def refuse(call: Call) -> None:
        raise OssServiceError("InvalidRange", status=416)

    client.before = refuse
    reader = reader_of(client)
    with pytest.raises(OssServiceError, match="InvalidRange"):
        reader.read(1)
    assert len(client.calls) == 1


# the check of the whole


@pytest.mark.parametrize("step", [10_000, 64 * KIB, MIB, 5 * MIB])
def test_a_wrong_crc_is_found_when_the_last_byte_was_fetched(client: FakeClient, step: int) -> None:
    reader = reader_of(client, crc=1)
    with pytest.raises(OssIntegrityError, match=r"oss://bucket/folder/object.bin.*OSS says 1\b"):
        read_on(reader, step)
    for again in (reader.read, lambda: reader.read(1), lambda: reader.seek(0) or reader.read(1)):
        with pytest.raises(OssIntegrityError):
            again()
    reader.close()


def test_a_wrong_crc_is_found_in_whatever_order_the_bytes_came(client: FakeClient) -> None:
    reader = reader_of(client, crc=1)
    reader.seek(2 * MIB)
    assert reader.read(MIB) == DATA[2 * MIB : 3 * MIB]
    reader.seek(-1000, 2)
    reader.read()
    reader.seek(MIB + 500_000)
    reader.read(MIB)  # overlaps what has come
    reader.seek(3 * MIB - 7)
    reader.readinto(bytearray(2 * MIB))
    reader.seek(0)
    with pytest.raises(OssIntegrityError):
        reader.readinto(bytearray(3 * MIB))


def test_a_right_crc_is_found_right_in_whatever_order_the_bytes_came(client: FakeClient) -> None:
    rng = random.Random(5)
    with reader_of(client) as reader:
        for _ in range(100):
            start, size = rng.randrange(len(DATA)), rng.choice([10, 70_000, 2 * MIB])
            reader.seek(start)
            assert reader.read(size) == DATA[start : start + size]


def test_the_last_few_bytes_are_fetched_at_close_to_make_the_check(client: FakeClient) -> None:
    reader = reader_of(client, crc=1)
    for start, stop in [(3 * MIB + 1, len(DATA) - 500), (MIB + 100, 3 * MIB), (100, MIB)]:
        reader.seek(start)
        reader.readinto(bytearray(stop - start))
    spans = len(client.spans())
    with pytest.raises(OssIntegrityError):
        reader.close()
    leftovers = [(0, 100), (MIB, MIB + 100), (3 * MIB, 3 * MIB + 1), (len(DATA) - 500, len(DATA))]
    assert sorted(client.spans()[spans:]) == leftovers
    assert reader.closed


def test_leftovers_are_not_fetched_where_much_was_left_unread(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.readinto(bytearray(3 * MIB))
        requests = len(client.calls)
    assert len(client.calls) == requests


def test_leftovers_are_not_fetched_after_one_small_read(client: FakeClient) -> None:
    with reader_of(client, DATA[: 66 * KIB]) as reader:
        reader.read(10)
    assert len(client.calls) == 1


def test_leftovers_are_not_fetched_after_an_exception(client: FakeClient) -> None:
    reader = reader_of(client, crc=1)
    with contextlib.suppress(KeyError), reader:
        reader.seek(100)
        reader.readinto(bytearray(len(DATA)))
        requests = len(client.calls)
        raise KeyError
    assert reader.closed
    assert len(client.calls) == requests


def test_an_object_that_is_gone_at_close_was_read_nevertheless(
    client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with reader_of(client) as reader:
        reader.seek(100)
        reader.readinto(bytearray(len(DATA)))
        del client.objects[URI]
    assert reader.closed
    assert "not checked as a whole" in caplog.text


def test_an_object_of_unknown_crc_is_read_without_a_check(client: FakeClient) -> None:
    with reader_of(client, crc=None) as reader:
        assert reader.read() == DATA


# errors of requests


class Lost:
    """Fails the nth GET."""

    def __init__(self, number: int) -> None:
        self._countdown = number

    def __call__(self, call: Call) -> None:
        self._countdown -= 1
        if not self._countdown:
            raise OssConnectionError("GetObject: lost")


@pytest.mark.parametrize(
    ("size", "number"), [*itertools.product([64 * KIB, 100_000], [1, 2, 3, 4]), *((3 * MIB, n) for n in (1, 2, 3))]
)
def test_a_failed_read_raises_and_can_be_repeated(client: FakeClient, number: int, size: int) -> None:
    client.before = Lost(number)
    found, failures = b"", 0
    with reader_of(client) as reader:
        while len(found) < len(DATA):
            try:
                found += reader.read(size)
            except OssConnectionError:
                failures += 1
                assert reader.tell() == len(found)
    assert found == DATA
    assert failures == 1


def test_after_a_failed_readinto_nothing_writes_to_that_memory(client: FakeClient) -> None:
    gate = Gate()

    def fail_the_last(call: Call) -> Any:
        if call.span and call.span.stop == len(DATA):
            raise OssConnectionError("lost")
        return gate.passed() if call.span and call.span.start >= 64 * KIB else None

    reader = reader_of(client)
    reader.read(1)
    client.before = fail_the_last
    memory = bytearray(len(DATA))
    reader.seek(4 * MIB - 3 * MIB)
    with pytest.raises(OssConnectionError):
        reader.readinto(memory)
    gate.open()
    client.settle()
    assert not any(memory)
    reader.close()


def test_blocks_ahead_are_given_up_at_close(client: FakeClient) -> None:
    delivered: list[Call] = []
    gate = Gate()
    client.after = delivered.append
    reader = reader_of(client)
    reader.read(64 * KIB)
    client.before = lambda call: gate.passed() if call.span and call.span.start >= 128 * KIB else None
    reader.read(64 * KIB)
    assert len(client.spans()) > 2
    reader.close()
    gate.open()
    client.settle()
    assert [call.span for call in delivered] == [(0, 64 * KIB), (64 * KIB, 128 * KIB)]


# what a reader refuses


@pytest.mark.parametrize(
    "use",
    [
        lambda reader: reader.read(),
        lambda reader: reader.read(1),
        lambda reader: reader.read(0),
        lambda reader: reader.read1(1),
        lambda reader: reader.peek(),
        lambda reader: reader.readinto(bytearray(1)),
        lambda reader: reader.readinto1(bytearray(1)),
        lambda reader: reader.readline(),
        lambda reader: reader.readline(0),
        lambda reader: reader.readlines(),
        next,
        lambda reader: reader.seek(0),
        lambda reader: reader.tell(),
        lambda reader: reader.size,
        lambda reader: reader.copy(),
        lambda reader: reader.readable(),
        lambda reader: reader.seekable(),
        lambda reader: reader.flush(),
        lambda reader: reader.__enter__(),
    ],
)
def test_using_a_closed_reader_is_a_value_error(client: FakeClient, use: Any) -> None:
    reader = reader_of(client)
    reader.read(10)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        use(reader)


@pytest.mark.parametrize(
    "use",
    [
        lambda reader: reader.write(b"x"),
        lambda reader: reader.writelines([b"x"]),
        lambda reader: reader.truncate(),
        lambda reader: reader.fileno(),
        lambda reader: reader.detach(),
    ],
)
def test_what_a_reader_has_not_is_an_unsupported_operation(client: FakeClient, use: Any) -> None:
    with pytest.raises(io.UnsupportedOperation), reader_of(client) as reader:
        use(reader)
    assert client.calls == []


def test_a_write_to_a_reader_says_what_writes(client: FakeClient) -> None:
    with reader_of(client) as reader, pytest.raises(io.UnsupportedOperation, match=r"open for reading.*writer\(uri\)"):
        reader.write(b"x")


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda reader: reader.seek(-1), OSError),
        (lambda reader: reader.seek(-1), ValueError),
        (lambda reader: reader.seek(-1, 1), OSError),
        (lambda reader: reader.seek(-len(DATA) - 1, 2), OSError),
        (lambda reader: reader.seek(0, 7), ValueError),
        (lambda reader: reader.seek(1.5), TypeError),
        (lambda reader: reader.seek("1"), TypeError),
        (lambda reader: reader.read("1"), TypeError),
        (lambda reader: reader.read(1.5), TypeError),
        (lambda reader: reader.readinto(b"constant"), TypeError),
        (lambda reader: reader.readinto("text"), TypeError),
        (lambda reader: reader.readinto(memoryview(bytearray(10))[::2]), TypeError),
    ],
)
def test_calls_that_make_no_sense_raise_as_files_do(client: FakeClient, use: Any, error: type[Exception]) -> None:
    with reader_of(client) as reader:
        with pytest.raises(error):
            use(reader)
        assert reader.tell() == 0
        assert reader.read(3) == DATA[:3]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("is_begun", [False, True])
def test_a_pickled_reader_goes_on_where_it_stood_and_sends_nothing_before(
    client: FakeClient, protocol: int, is_begun: bool
) -> None:
    with reader_of(client) as reader:
        if is_begun:
            reader.read(3)
        reader.seek(1000)
        calls = len(client.calls)
        other = pickle.loads(pickle.dumps(reader, protocol))
        assert other.tell() == 1000
        assert len(client.calls) == calls
        with other:
            assert other.read() == DATA[1000:]
            assert reader.tell() == 1000
            assert not is_begun or all(call.if_match for call in client.calls[calls:])


def test_a_pickled_reader_does_not_go_on_with_another_object(client: FakeClient) -> None:
    with reader_of(client) as reader:
        reader.read(1)
        pickled = pickle.dumps(reader)
        client.store(URI, b"x" * len(DATA))
        with pickle.loads(pickled) as other:
            other.seek(MIB)
            with pytest.raises(OssObjectChangedError):
                other.read()


def test_a_closed_reader_arrives_closed(client: FakeClient) -> None:
    reader = reader_of(client)
    reader.close()
    other = pickle.loads(pickle.dumps(reader))
    assert other.closed
    assert other.uri == str(URI)
    with pytest.raises(ValueError, match=r"closed file: oss://bucket/folder/object.bin"):
        other.read()


def test_a_dropped_reader_fetches_nothing(client: FakeClient) -> None:
    reader = reader_of(client, crc=1)
    reader.seek(100)
    reader.readinto(bytearray(len(DATA)))
    requests = len(client.calls)
    del reader
    gc.collect()
    assert len(client.calls) == requests


def test_a_reader_knows_its_name(client: FakeClient) -> None:
    reader = reader_of(client)
    assert (reader.uri, reader.key) == ("oss://bucket/folder/object.bin", "/bucket/folder/object.bin")
    assert (reader.bucket, reader.name, reader.mode) == ("bucket", "folder/object.bin", "rb")
    assert repr(reader) == "<OssReader 'oss://bucket/folder/object.bin', at byte 0>"
    assert not client.calls
    reader.read(10)
    assert repr(reader) == f"<OssReader 'oss://bucket/folder/object.bin', at byte 10 of {reader.size}>"
    reader.close()
    assert repr(reader) == "<OssReader 'oss://bucket/folder/object.bin', closed>"


def test_one_request_at_a_time_is_enough(client: FakeClient) -> None:
    client.store(URI, DATA)
    transfer = TransferConfig(prefetch_concurrency=1, prefetch_worker=1)
    with OssReader(client, URI, transfer=transfer) as reader:
        assert b"".join(iter(lambda: reader.read(70_000), b"")) == DATA
        reader.seek(0)
        assert reader.read() == DATA


@pytest.mark.parametrize("step", [64 * KIB, 64 * KIB - 1, 64 * KIB + 1])
def test_steps_of_any_length_find_their_bytes(client: FakeClient, step: int) -> None:
    transfer = TransferConfig(prefetch_concurrency=1, prefetch_worker=1)
    client.store(URI, DATA)
    with OssReader(client, URI, transfer=transfer) as reader:
        position = 0
        while position < len(DATA):
            assert reader.read(500) == DATA[position : position + 500]
            position = reader.seek(step, os.SEEK_CUR)


def test_reading_ahead_keeps_within_the_requests_in_flight(client: FakeClient) -> None:
    data = random.Random(7).randbytes(12 * MIB)
    with reader_of(client, data) as reader:
        for start in range(0, len(data), 48 * KIB):
            assert reader.read(48 * KIB) == data[start : start + 48 * KIB]
        reader.seek(0)
        reader.read(5 * MIB)
        reader.read(5 * MIB)
    assert client.most_under_way["get"] <= TRANSFER.prefetch_concurrency


def test_connections_are_opened_for_the_rest_of_a_large_object_only(client: FakeClient) -> None:
    with reader_of(client, b"s" * MIB) as reader:
        reader.read(1)
    assert client.opened_ahead == []
    with reader_of(client, bytes(40 * MIB)) as reader:
        reader.read(1)
        reader.seek(-1, 2)
        reader.read(1)
    assert client.opened_ahead == [(URI.bucket, 2)]
