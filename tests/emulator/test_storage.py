from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from osstorchconnector.emulator.blobs import size_of
from osstorchconnector.emulator.records import ObjectRecord, PartRecord, UploadRecord
from osstorchconnector.emulator.storage import Bucket, Journal, Storage, read_entries

HOSTILE_KEYS = ["../../etc/passwd", "a//b/./..", "nul\0cr\rlf\n", "é" * 511, "\x1b[31m", '{"put":1}', "dir/", " "]


def record(storage: Storage, key: str, data: bytes) -> ObjectRecord:
    return ObjectRecord(key, storage.blobs.store(data), len(data), "E" * 32, 7, 1000, headers={"Content-Type": "x/y"})


def filled(root: Path, *keys: str) -> Storage:
    storage = Storage(root)
    bucket = storage.create_bucket("photos", created=5, acl="private", storage_class="IA")
    for key in keys:
        bucket.put(record(storage, key, key.encode()))
    return storage


def journal_path(root: Path) -> Path:
    return root / "buckets" / "photos.jsonl"


def blob_files(root: Path) -> int:
    return len(list((root / "blobs").glob("*/*")))


def test_objects_outlive_the_server(tmp_path: Path) -> None:
    filled(tmp_path, *HOSTILE_KEYS).close()
    storage = Storage(tmp_path)
    bucket = storage.buckets["photos"]
    assert (bucket.created, bucket.acl, bucket.storage_class) == (5, "private", "IA")
    assert bucket.sorted_keys() == sorted(HOSTILE_KEYS)
    for key in HOSTILE_KEYS:
        found = bucket.objects[key]
        assert storage.blobs.read(found.content) == key.encode()
        assert (found.etag, found.crc64, found.modified, found.headers) == ("E" * 32, 7, 1000, {"Content-Type": "x/y"})
    storage.close()


def test_keys_never_become_paths(tmp_path: Path) -> None:
    filled(tmp_path / "root", *HOSTILE_KEYS).close()
    names = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert names == {"root"}
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"buckets", "blobs", "lock"}


def test_a_server_killed_before_the_journal_line_leaves_the_old_object(tmp_path: Path) -> None:
    storage = filled(tmp_path, "k")
    storage.blobs.store(b"the new bytes are all here, the line is not")
    storage.close()
    again = Storage(tmp_path)
    assert again.blobs.read(again.buckets["photos"].objects["k"].content) == b"k"
    assert blob_files(tmp_path) == 1
    again.close()


def test_a_torn_last_line_is_cut_off_and_the_next_one_stands_alone(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b").close()
    lines = journal_path(tmp_path).read_bytes().splitlines(keepends=True)
    journal_path(tmp_path).write_bytes(b"".join(lines[:-1]) + lines[-1][:25])
    storage = Storage(tmp_path)
    assert storage.buckets["photos"].sorted_keys() == ["a"]
    storage.buckets["photos"].put(record(storage, "c", b"c"))
    storage.close()
    again = Storage(tmp_path)
    assert again.buckets["photos"].sorted_keys() == ["a", "c"]
    again.close()


def test_an_overwritten_or_deleted_object_gives_its_file_back(tmp_path: Path) -> None:
    storage = filled(tmp_path, "k", "gone")
    storage.buckets["photos"].put(record(storage, "k", b"new"))
    storage.buckets["photos"].delete("gone")
    storage.buckets["photos"].delete("never there")
    assert blob_files(tmp_path) == 1
    storage.close()
    again = Storage(tmp_path)
    assert again.buckets["photos"].sorted_keys() == ["k"]
    again.close()


def test_two_objects_can_share_their_bytes(tmp_path: Path) -> None:
    storage = filled(tmp_path, "k")
    bucket = storage.buckets["photos"]
    bucket.put_all([ObjectRecord(name, bucket.objects["k"].content, 1, "E", 7, 1) for name in ("x", "y")])
    storage.close()
    storage = Storage(tmp_path)
    bucket = storage.buckets["photos"]
    bucket.delete("k")
    bucket.delete("x")
    assert storage.blobs.read(bucket.objects["y"].content) == b"k"
    bucket.delete("y")
    assert blob_files(tmp_path) == 0
    storage.close()


def part(storage: Storage, number: int, data: bytes) -> PartRecord:
    return PartRecord(number, storage.blobs.store(data), len(data), "P" * 32, 9, 1000)


def begun(storage: Storage, upload_id: str) -> Bucket:
    bucket = storage.buckets["photos"]
    bucket.begin_upload(UploadRecord(upload_id, "k", 1000, "IA", {"x-oss-meta-a": "b"}))
    return bucket


def test_an_unfinished_upload_outlives_the_server_and_can_be_completed(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    bucket = begun(storage, "ID")
    bucket.put_part("ID", part(storage, 1, b"old"))
    bucket.put_part("ID", part(storage, 1, b"one"))
    bucket.put_part("ID", part(storage, 2, b"two"))
    storage.close()
    storage = Storage(tmp_path)
    bucket = storage.buckets["photos"]
    upload = bucket.uploads["ID"]
    assert (upload.key, upload.storage_class, upload.headers) == ("k", "IA", {"x-oss-meta-a": "b"})
    content = (*upload.parts[1].content, *upload.parts[2].content)
    bucket.complete_upload("ID", ObjectRecord("k", content, 6, "E-2", 7, 1000, "Multipart"))
    storage.close()
    storage = Storage(tmp_path)
    bucket = storage.buckets["photos"]
    assert bucket.uploads == {}
    assert storage.blobs.read(bucket.objects["k"].content) == b"onetwo"
    assert size_of(bucket.objects["k"].content) == 6
    storage.close()


def test_an_aborted_upload_gives_its_parts_back(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    bucket = begun(storage, "ID")
    bucket.put_part("ID", part(storage, 1, b"one"))
    bucket.abort_upload("ID")
    assert blob_files(tmp_path) == 0
    storage.close()
    again = Storage(tmp_path)
    assert again.buckets["photos"].uploads == {}
    again.close()


def test_a_long_history_is_forgotten_at_the_next_start(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    bucket = begun(storage, "ID")
    bucket.put_part("ID", part(storage, 1, b"one"))
    for number in range(120):
        bucket.put(record(storage, "k", b"%d" % number))
    bucket.update(acl="public-read")
    storage.close()
    Storage(tmp_path).close()
    assert len(list(read_entries(journal_path(tmp_path)))) == 4
    storage = Storage(tmp_path)
    bucket = storage.buckets["photos"]
    assert storage.blobs.read(bucket.objects["k"].content) == b"119"
    assert bucket.acl == "public-read"
    assert list(bucket.uploads["ID"].parts) == [1]
    storage.close()


def test_a_changed_acl_outlives_the_server(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    storage.buckets["photos"].update(acl="public-read")
    storage.close()
    again = Storage(tmp_path)
    assert again.buckets["photos"].acl == "public-read"
    again.close()


def test_a_deleted_bucket_does_not_come_back(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    storage.delete_bucket("photos")
    storage.close()
    again = Storage(tmp_path)
    assert again.buckets == {}
    again.close()


def test_a_root_serves_one_server_at_a_time(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with pytest.raises(BlockingIOError, match="in use by another emulator"):
        Storage(tmp_path)
    storage.close()
    Storage(tmp_path).close()


def test_a_journal_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal.begin(path, [{"a": 1}, {"b": "\n"}]).close()
    journal = Journal.begin(path, [{"c": 3}])
    journal.append({"d": 4}, {"e": 5})
    journal.close()
    assert list(read_entries(path)) == [{"c": 3}, {"d": 4}, {"e": 5}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"c": 3}, {"d": 4}, {"e": 5}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_does_not_fit_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal.begin(path, [{"a": 1}])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limits[1]))
        for _ in range(2):
            with pytest.raises(OSError, match="no room left"):
                journal.append({"b": "too much"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    journal.append({"c": 3})
    journal.close()
    assert list(read_entries(path)) == [{"a": 1}, {"c": 3}]


def test_a_damaged_journal_is_named_and_not_served(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b").close()
    damaged = journal_path(tmp_path).read_bytes().replace(b'"put"', b'"put', 1)
    journal_path(tmp_path).write_bytes(damaged)
    with pytest.raises(OSError, match=r"photos.jsonl is damaged at byte \d+"):
        Storage(tmp_path)
