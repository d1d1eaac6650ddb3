"""What `OssClient` does beside single requests."""

from __future__ import annotations

import errno
import http.client
import json
import mmap
import os
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from osstorchconnector import (
    OssClient,
    OssError,
    OssExistsError,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
    OssUriError,
    OssUsageError,
)
from osstorchconnector.testing import OssBucket
from osstorchconnector.transfer import Transferred

FILES = {"a.png": b"picture", "b/c.txt": b"text", "b/d/e": b"", "large.bin": bytes(range(256)) * 2000}


@pytest.fixture
def client(oss_bucket: OssBucket, tmp_path: Path) -> OssClient:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"partSize": 100 << 10, "auditPath": "", "logPath": ""}))
    return OssClient(**oss_bucket.options, config_path=str(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "source"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_up_and_comes_back(
    client: OssClient, oss_bucket: OssBucket, folder: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    size = sum(map(len, FILES.values()))
    sent = client.upload(folder, f"{oss_bucket.uri}data", progress=lambda *numbers: seen.append(numbers))
    assert sent == Transferred(files=4, size=size)
    assert seen[-1] == (size, size)
    assert oss_bucket.keys() == [f"data/{key}" for key in FILES]
    assert [oss_bucket.get(f"data/{key}") for key in FILES] == list(FILES.values())
    assert oss_bucket.server.counters().requests["CompleteMultipartUpload"] == 1
    oss_bucket.put("data/", b"")
    seen.clear()
    target = tmp_path / "new" / "target"
    got = client.download(f"{oss_bucket.uri}data/", target, progress=lambda *numbers: seen.append(numbers))
    assert got == Transferred(files=4, size=size)
    assert seen[-1] == (size, size)
    assert contents(target) == FILES


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_large_object_comes_whole_or_not_at_all(
    client: OssClient, oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_mapped: bool
) -> None:
    """Also where the file system can't map a file into memory."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "no such device")

    if not is_mapped:
        monkeypatch.setattr(mmap, "mmap", refuse)
    data, there = bytes(range(256)) * (12 << 10), tmp_path / "down" / "large"
    uri = oss_bucket.put("large", data)
    client.download(uri, there)
    assert there.read_bytes() == data
    oss_bucket.put("large", data[::-1])
    oss_bucket.server.fail("GetObject", "flip", key="large", at=10)
    with pytest.raises(OssIntegrityError):
        client.download(uri, there)
    assert contents(there.parent) == {"large": data}


def test_a_file_goes_to_a_name_or_below_it(client: OssClient, oss_bucket: OssBucket, folder: Path) -> None:
    assert client.upload(folder / "a.png", f"{oss_bucket.uri}x/") == (1, 7)
    client.upload(str(folder / "a.png"), f"{oss_bucket.uri}y.png")
    assert oss_bucket.keys() == ["x/a.png", "y.png"]


def test_an_object_goes_to_a_name_or_into_a_folder(client: OssClient, oss_bucket: OssBucket, tmp_path: Path) -> None:
    uri = oss_bucket.put("x/a.png", b"picture")
    client.download(uri, tmp_path)
    client.download(uri, tmp_path / "deep" / "b.png")
    client.download(uri, f"{tmp_path}/made/")
    for name in ("a.png", "deep/b.png", "made/a.png"):
        assert (tmp_path / name).read_bytes() == b"picture"
    assert oss_bucket.server.counters().requests == {"GetObject": 3}


def test_attributes_are_stored_and_told(client: OssClient, oss_bucket: OssBucket, folder: Path) -> None:
    kept = {"metadata": {"Camera": "x 1"}, "storage_class": "IA"}
    client.put(f"{oss_bucket.uri}1", b"bytes", content_type="image/png", **kept)  # type: ignore[arg-type]
    client.upload(folder, f"{oss_bucket.uri}data", **kept)  # type: ignore[arg-type]
    types = {"1": "image/png", "data/a.png": "image/png", "data/b/c.txt": "text/plain", "data/b/d/e": ""}
    for key, content_type in {**types, "data/large.bin": "application/octet-stream"}.items():
        stat = client.head(oss_bucket.uri + key)
        assert stat.content_type == (content_type or "application/octet-stream")
        assert (stat.metadata, stat.storage_class) == ({"camera": "x 1"}, "IA")


def test_put_takes_texts_and_paths(client: OssClient, oss_bucket: OssBucket, folder: Path) -> None:
    uri = f"{oss_bucket.uri}x"
    assert client.put(uri, "Grüße").etag == client.head(uri).etag
    assert oss_bucket.get("x") == "Grüße".encode()
    assert client.head(uri).content_type == "text/plain; charset=utf-8"
    stored = client.put(uri, folder / "large.bin")
    assert oss_bucket.get("x") == FILES["large.bin"]
    assert (stored.etag, stored.crc64) == (client.head(uri).etag, client.head(uri).crc64)
    client.put(uri, str(folder / "large.bin"))
    assert oss_bucket.get("x") == str(folder / "large.bin").encode()
    assert client.put(f"{uri}.jpg", folder / "a.png").crc64 is not None
    assert client.head(f"{uri}.jpg").content_type == "image/jpeg"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        client.put(uri, folder / "nowhere")


def test_what_is_there_may_be_kept(client: OssClient, oss_bucket: OssBucket, folder: Path) -> None:
    oss_bucket.put("data/large.bin", b"old")
    for source in (folder, folder / "large.bin"):
        with pytest.raises(OssExistsError):
            client.upload(source, f"{oss_bucket.uri}data/", forbid_overwrite=True)
    with pytest.raises(OssExistsError):
        client.put(f"{oss_bucket.uri}data/large.bin", folder / "a.png", forbid_overwrite=True)
    assert oss_bucket.get("data/large.bin") == b"old"


def test_wrong_bytes_leave_the_old_file(client: OssClient, oss_bucket: OssBucket, tmp_path: Path) -> None:
    uri = oss_bucket.put("large.bin", FILES["large.bin"] * 5)
    (tmp_path / "large.bin").write_bytes(b"old")
    oss_bucket.server.fail("GetObject", "flip")
    with pytest.raises(OssIntegrityError):
        client.download(uri, tmp_path)
    assert contents(tmp_path / ".")["large.bin"] == b"old"
    assert not list(tmp_path.glob(".osstorchconnector-*"))


def test_a_failed_upload_publishes_nothing(client: OssClient, oss_bucket: OssBucket, folder: Path) -> None:
    oss_bucket.server.fail("UploadPart", "AccessDenied")
    with pytest.raises(OssPermissionError):
        client.upload(folder / "large.bin", f"{oss_bucket.uri}x")
    assert oss_bucket.keys() == []
    assert list(client.list_uploads(oss_bucket.uri)) == []


@pytest.mark.parametrize("name", ["a.png", "large.bin"])
def test_a_file_that_is_written_meanwhile_is_not_published(
    client: OssClient, oss_bucket: OssBucket, folder: Path, name: str
) -> None:
    oss_bucket.put("x", b"old")

    def change(done: int, total: int) -> None:
        if done:
            os.utime(folder / name, (1, 1))

    with pytest.raises(OssError, match=f"{name} was changed while it was copied"):
        client.upload(folder / name, f"{oss_bucket.uri}x", progress=change)
    assert oss_bucket.get("x") == b"old"
    assert list(client.list_uploads(oss_bucket.uri)) == []


def test_what_comes_through_a_pipe_is_no_change(client: OssClient, oss_bucket: OssBucket) -> None:
    reading, writing = os.pipe()

    def fill() -> None:
        for _ in range(3):
            os.write(writing, b"123")
        os.close(writing)

    thread = threading.Thread(target=fill)
    thread.start()
    client.put(f"{oss_bucket.uri}x", Path(f"/dev/fd/{reading}"))
    thread.join()
    os.close(reading)
    assert oss_bucket.get("x") == b"123123123"


def test_nothing_to_move_is_an_error(client: OssClient, oss_bucket: OssBucket, tmp_path: Path) -> None:
    with pytest.raises(OssNotFoundError, match="nothing to download: there is no object below"):
        client.download(f"{oss_bucket.uri}empty/", tmp_path)
    with pytest.raises(OssNotFoundError):
        client.download(f"{oss_bucket.uri}missing", tmp_path)
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "missing", oss_bucket.uri)
    with pytest.raises(OssUriError):
        client.upload(tmp_path, "https://bucket/key")


def test_no_key_is_written_outside_of_the_folder(client: OssClient, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("data/../../evil", b"evil")
    with pytest.raises(OssUsageError, match="can't be a path below"):
        client.download(f"{oss_bucket.uri}data/", tmp_path / "a" / "b")
    assert not (tmp_path / "evil").exists()


def test_what_exists(client: OssClient, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.put("folder/x", b"")
    assert client.exists(uri)
    assert client.exists(f"{oss_bucket.uri}folder/")
    assert client.exists(oss_bucket.uri)
    assert not client.exists(f"{oss_bucket.uri}folder")
    assert not client.exists(f"{oss_bucket.uri}other/")
    assert not client.exists("oss://no-such-bucket-here/x")
    oss_bucket.server.fail("HeadObject", "AccessDenied")
    with pytest.raises(OssPermissionError):
        client.exists(uri)


def test_a_signed_url_is_for_anybody(client: OssClient, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.put("x y", b"shared")
    with urllib.request.urlopen(client.sign(uri, seconds=60)) as answer:
        assert answer.read() == b"shared"
    target = urllib.parse.urlsplit(client.sign(uri, method="PUT"))
    connection = http.client.HTTPConnection(target.netloc)
    connection.request("PUT", f"{target.path}?{target.query}", b"replaced")
    assert connection.getresponse().status == 200
    connection.close()
    assert oss_bucket.get("x y") == b"replaced"
    for seconds in (0, 604_801):
        with pytest.raises(OssUsageError, match="1 to 604800 seconds"):
            client.sign(uri, seconds=seconds)
    with pytest.raises(OssUsageError, match="none of GET, HEAD and PUT"):
        client.sign(uri, method="DELETE")  # type: ignore[arg-type]


def test_a_block_ends_with_closed_connections(oss_bucket: OssBucket) -> None:
    with OssClient(**oss_bucket.options) as client:
        client.put(f"{oss_bucket.uri}x", b"1")
    assert client.get(f"{oss_bucket.uri}x").body == b"1"  # a closed client opens new ones


def test_folders_of_a_listing_come_among_objects(client: OssClient, oss_bucket: OssBucket) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        oss_bucket.put(key, b"")
    found = [(entry.key, entry.is_prefix()) for entry in client.list(oss_bucket.uri, delimiter="/")]
    assert found == [("a", False), ("b/", True), ("c", False)]


def test_files_of_this_machine_are_moved_as_objects_are(folder: Path, tmp_path: Path) -> None:
    client = OssClient("")
    (tmp_path / "store").mkdir()
    assert client.upload(folder, f"{tmp_path}/store/data").files == 4
    assert contents(tmp_path / "store" / "data") == FILES
    assert client.download(f"{tmp_path}/store/data/", tmp_path / "back").files == 4
    assert contents(tmp_path / "back") == FILES
    assert client.exists(f"{tmp_path}/store/data/a.png")
    assert not client.exists(f"{tmp_path}/store/data/a.gif")
    for options in ({"metadata": {"a": "b"}}, {"storage_class": "IA"}):
        with pytest.raises(OssUsageError, match="files of this machine"):
            client.put(f"{tmp_path}/store/x", b"", **options)  # type: ignore[arg-type]
