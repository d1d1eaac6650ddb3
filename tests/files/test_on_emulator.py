"""Readers and writers with the real client, on both transports: the requests are counted on the server."""

from __future__ import annotations

import io
import itertools
import threading

import pytest
import torch
from files.on_oss import DATA, reader_of, writer_of

from osstorchconnector.client.client import OssClient
from osstorchconnector.emulator import LogEntry
from osstorchconnector.errors import OssIntegrityError, OssObjectChangedError, OssPermissionError
from osstorchconnector.files.read_plan import KIB, MIB
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri


def log(bucket: OssBucket) -> list[LogEntry]:
    return [entry for entry in bucket.server.counters().log if entry.bucket == bucket.name]


def ranges(bucket: OssBucket) -> list[tuple[int, int]]:
    """What each GET asked for, first and last byte; nothing but GETs may have been sent."""
    entries = log(bucket)
    assert {entry.operation for entry in entries} <= {"GetObject"}
    found = [entry.range.removeprefix("bytes=").split("-") for entry in entries]
    return [(int(first), int(last)) for first, last in found]


# reading


def test_a_small_first_read_is_one_request(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        assert reader.read(100) == DATA[:100]
        assert reader.size == len(DATA)
    assert ranges(oss_bucket) == [(0, 64 * KIB - 1)]
    assert oss_bucket.server.counters().sent["GetObject"] == 64 * KIB


def test_a_read_of_the_last_bytes_is_two_small_requests(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        reader.seek(-10, 2)
        assert reader.read() == DATA[-10:]
    assert len(ranges(oss_bucket)) == 2
    assert oss_bucket.server.counters().bytes_out <= 2 * 64 * KIB


def test_torch_load_of_a_small_object_is_one_request(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(8)}, buffer)
    oss_bucket.put(uri.key, buffer.getvalue())
    with reader_of(oss_client, uri) as reader:
        assert torch.equal(torch.load(reader)["w"], torch.arange(8))
    assert len(log(oss_bucket)) == 1


def test_an_empty_object_is_read_as_nothing(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, b"")
    with reader_of(oss_client, uri) as reader:
        assert (reader.read(), reader.seek(0, 2), reader.read(5)) == (b"", 0, b"")


def test_a_seek_beyond_the_end_reads_as_nothing(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, DATA[:100])
    with reader_of(oss_client, uri) as reader:
        reader.seek(100)
        assert reader.read(5) == b""
        reader.seek(-5, 2)
        assert reader.read(100) == DATA[95:100]


def test_a_large_read_is_parallel_and_each_byte_is_fetched_once(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    oss_bucket.put(uri.key, DATA)
    oss_bucket.server.fail("GetObject", "latency", key=uri.key, seconds=0.05)
    memory = bytearray(len(DATA))
    with reader_of(oss_client, uri) as reader:
        assert reader.readinto(memory) == len(DATA)
    assert memory == DATA
    asked = sorted(ranges(oss_bucket))
    assert asked[0][0] == 0
    assert asked[-1][1] == len(DATA) - 1
    assert all(left[1] + 1 == right[0] for left, right in itertools.pairwise(asked))
    counters = oss_bucket.server.counters()
    assert 1 < counters.max_concurrency["GetObject"] <= 24
    assert all(entry.headers.get("if-match") for entry in counters.log[1:])


def test_a_large_read_from_far_away_begins_with_all_its_requests(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    size = 40 * MIB
    oss_bucket.put(uri.key, bytes(size))
    oss_bucket.server.fail("GetObject", "latency", key=uri.key, seconds=0.2)
    with reader_of(oss_client, uri) as reader:
        assert reader.readinto(bytearray(size)) == size
    counters = oss_bucket.server.counters()
    assert 24 < counters.max_concurrency["GetObject"] <= 40
    assert counters.requests["GetObject"] == 41, "one finds out the size and the distance"


@pytest.mark.parametrize("step", [64 * KIB, 100_000, 3 * MIB])
def test_reading_on_and_on(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket, step: int) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        assert b"".join(iter(lambda: reader.read(step), b"")) == DATA
    assert oss_bucket.server.counters().bytes_out == len(DATA)


def test_going_on_where_answers_take_their_time_keeps_many_requests_in_flight(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    size = 64 * MIB
    oss_bucket.put(uri.key, bytes(size))
    oss_bucket.server.fail("GetObject", "latency", key=uri.key, seconds=0.05)
    with reader_of(oss_client, uri) as reader:
        assert sum(len(data) for data in iter(lambda: reader.read(64 * KIB), b"")) == size
    counters = oss_bucket.server.counters()
    assert 6 <= counters.max_concurrency["GetObject"] <= 48
    assert counters.bytes_out == size
    assert counters.requests["GetObject"] < 64


def test_an_object_replaced_midway_is_an_error(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        assert reader.read(10) == DATA[:10]
        oss_bucket.put(uri.key, DATA[::-1])
        with pytest.raises(OssObjectChangedError, match=f"{uri}"):
            reader.readinto(bytearray(len(DATA)))


def test_an_object_deleted_midway_is_a_file_not_found_error(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        assert reader.read(10) == DATA[:10]
        oss_bucket.delete(uri.key)
        with pytest.raises(FileNotFoundError, match=f"{uri}"):
            reader.read(MIB)


@pytest.mark.parametrize("fault", ["flip", "wrong_crc"])
def test_wrong_bytes_in_a_range_are_found_when_all_were_read(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket, fault: str
) -> None:
    oss_bucket.put(uri.key, DATA[: 5 * MIB])
    times = 1 if fault == "flip" else None
    oss_bucket.server.fail("GetObject", fault, key=uri.key, times=times, after=0 if fault == "wrong_crc" else 2)
    with reader_of(oss_client, uri) as reader, pytest.raises(OssIntegrityError, match=f"{uri}"):
        reader.read()


@pytest.mark.parametrize("fault", ["500", "503", "reset", "reset_body", "truncate"])
def test_reads_outlive_what_may_be_tried_again(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket, fault: str
) -> None:
    oss_bucket.put(uri.key, DATA)
    oss_bucket.server.fail("GetObject", fault, key=uri.key, probability=0.2, seed=5)
    oss_bucket.server.fail("GetObject", fault, key=uri.key, times=1)
    with reader_of(oss_client, uri) as reader:
        assert reader.read(64 * KIB) == DATA[: 64 * KIB]
        memory = bytearray(10 * MIB)
        assert reader.readinto(memory) == 10 * MIB
        assert memory == DATA[64 * KIB : 64 * KIB + 10 * MIB]
        assert b"".join(iter(lambda: reader.read(200_000), b"")) == DATA[64 * KIB + 10 * MIB :]


def test_a_hundred_readers_at_once(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, DATA[: 2 * MIB])
    found: list[bool] = []

    def read() -> None:
        with reader_of(oss_client, uri) as reader:
            found.append(b"".join(iter(lambda: reader.read(100_000), b"")) == DATA[: 2 * MIB])

    threads = [threading.Thread(target=read) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 100


# writing


@pytest.mark.parametrize("size", [0, 5, 16 * MIB])
def test_up_to_a_part_is_one_put(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket, size: int) -> None:
    with writer_of(oss_client, uri) as writer:
        writer.write(DATA[:size])
    assert oss_bucket.get(uri.key) == DATA[:size]
    assert [entry.operation for entry in log(oss_bucket)] == ["PutObject"]


def test_more_than_a_part_is_a_multipart_upload(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    with writer_of(oss_client, uri) as writer:
        for start in range(0, len(DATA), MIB):
            writer.write(memoryview(DATA)[start : start + MIB])
    assert oss_bucket.get(uri.key) == DATA
    first, *parts, last = [entry.operation for entry in log(oss_bucket)]
    assert (first, set(parts), last) == ("InitiateMultipartUpload", {"UploadPart"}, "CompleteMultipartUpload")
    assert len(parts) >= 2
    with reader_of(oss_client, uri) as reader:
        assert reader.read() == DATA


def test_what_torch_saves_torch_loads(oss_client: OssClient, uri: OssUri) -> None:
    state = {f"layer{n}": torch.randn(1000, 1000, generator=torch.Generator().manual_seed(n)) for n in range(6)}
    with writer_of(oss_client, uri) as writer:
        torch.save(state, writer)
    with reader_of(oss_client, uri) as reader:
        loaded = torch.load(reader)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_no_permission_is_a_permission_error(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail(fault="403", bucket=oss_bucket.name)
    with pytest.raises(OssPermissionError, match=f"{uri}"), writer_of(oss_client, uri) as writer:
        writer.write(b"data")
    with pytest.raises(PermissionError, match=f"{uri}"), reader_of(oss_client, uri) as reader:
        reader.read()


def test_a_lost_answer_to_complete_is_not_a_failure(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("CompleteMultipartUpload", "lost_answer", key=uri.key, times=1)
    with writer_of(oss_client, uri) as writer:
        writer.write(DATA)
    assert oss_bucket.get(uri.key) == DATA
    assert oss_bucket.server.uploads(oss_bucket.name) == []
