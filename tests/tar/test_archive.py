from __future__ import annotations

import io
import itertools
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
from tar.conftest import PutTar, tar_of
from tar.cxx_connector.recipe import FOLDER, TARS

from osstorchconnector import (
    OssClient,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
    OssTarError,
    generate_tar_archive,
    jsonl_manifest_parser,
)
from osstorchconnector.errors import OssConfigError
from osstorchconnector.tar.index_file import unpack_index
from osstorchconnector.tar.packing import Output
from osstorchconnector.testing import OssBucket

FILES = {f"in/{number:03}.bin": bytes([number]) * (number % 5 * 400) for number in range(40)} | {
    "in/large": bytes(range(256)) * (20 << 10)
}


def access(bucket: OssBucket) -> tuple[str, str, str]:
    return bucket.endpoint, bucket.cred_path, ""


def members(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]


def fill(bucket: OssBucket) -> dict[str, bytes]:
    for key, data in FILES.items():
        bucket.put(key, data)
    bucket.put("in/folder/", b"")
    return {f"/{bucket.name}/{key}": data for key, data in FILES.items()}


def test_objects_become_a_tar_in_their_order(oss_bucket: OssBucket) -> None:
    want, seen = fill(oss_bucket), []
    tar, index = oss_bucket.uri + "in/out.tar", oss_bucket.uri + "in/out.tar.idx"

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    for _ in range(2):  # the second time, tar and index are below the prefix
        assert generate_tar_archive(*access(oss_bucket), tar, index, oss_bucket.uri + "in/", progress=note) == 0
        packed = members(oss_bucket.get("in/out.tar"))
        assert list(packed.items()) == list(want.items())
    total = sum(map(len, FILES.values()))
    assert seen[len(FILES) - 1] == (total, total)
    dataset = OssMapDataset.from_tar(tar, index, **oss_bucket.options)
    assert {data.key: data.read() for data in dataset} == want
    found = unpack_index(oss_bucket.get("in/out.tar.idx"), len(oss_bucket.get("in/out.tar")))
    assert found.details is not None
    assert list(found.details.names) == list(want)


def test_shards_of_a_size_and_a_run_that_goes_on(oss_bucket: OssBucket) -> None:
    want = fill(oss_bucket)
    arguments = (oss_bucket.uri + "out/a.tar", oss_bucket.uri + "out/a.tar.idx", oss_bucket.uri + "in/")
    generate_tar_archive(*access(oss_bucket), *arguments, shard_bytes=20_000)
    keys = [key for key in oss_bucket.keys() if key.startswith("out/") and key.endswith(".tar")]  # noqa: SIM118
    assert keys[:2] == ["out/a-00000.tar", "out/a-00001.tar"]
    assert len(keys) > 2
    assert all(len(oss_bucket.get(key)) < 22_000 for key in keys[:-1])
    dataset = OssMapDataset.from_tar(oss_bucket.uri + "out/", None, **oss_bucket.options)
    assert [(data.key, data.read()) for data in dataset] == list(want.items())
    oss_bucket.delete("out/a-00001.tar")
    oss_bucket.put("out/a-00000.tar.idx", b"damaged")
    oss_bucket.put("out/a-00002.tar", bytes(len(oss_bucket.get("out/a-00002.tar"))))  # of the same size
    oss_bucket.server.reset_counters()
    generate_tar_archive(*access(oss_bucket), *arguments, shard_bytes=20_000, resume=True)
    log = oss_bucket.server.counters().log
    assert {entry.key for entry in log if entry.operation == "PutObject"} == {
        "out/a-00000.tar",
        "out/a-00000.tar.idx",
        "out/a-00001.tar",
        "out/a-00001.tar.idx",
        "out/a-00002.tar",
        "out/a-00002.tar.idx",
    }
    assert [(data.key, data.read()) for data in dataset] == list(want.items())


# --- a large tar goes on where its run was killed

LARGE = {f"in/{number:02}.bin": bytes([number]) * 50_000 for number in range(60)}


class Killed(Exception):
    pass


def client_of_small_parts(bucket: OssBucket, folder: Path) -> OssClient:
    config = folder / "config.json"
    config.write_text(json.dumps({"partSize": 100 << 10, "checkpointConfig": {"uploadConcurrency": 2}}))
    return OssClient(**bucket.options, config_path=str(config))


def kill_in_mid_tar(bucket: OssBucket, client: OssClient, source: str) -> None:
    """Pack until OSS has some parts, then raise."""
    tar = bucket.uri + "a.tar"

    def raise_when_parts_are_there(_done: int, _total: int) -> None:
        for upload in client.list_uploads(tar):
            if len(client.list_parts(tar, upload.upload_id)) >= 5:
                raise Killed

    with pytest.raises(Killed):
        generate_tar_archive(
            client, "", "", tar, tar + ".idx", source, resume=True, progress=raise_when_parts_are_there
        )
    assert "a.tar" not in bucket.keys()  # noqa: SIM118


@pytest.mark.parametrize("change", ["", "source", "record", "upload"])
def test_a_large_tar_goes_on_with_the_parts_that_are_there(oss_bucket: OssBucket, tmp_path: Path, change: str) -> None:
    for key, data in LARGE.items():
        oss_bucket.put(key, data)
    client, tar = client_of_small_parts(oss_bucket, tmp_path), oss_bucket.uri + "a.tar"
    kill_in_mid_tar(oss_bucket, client, oss_bucket.uri + "in/")
    (upload,) = client.list_uploads(tar)
    want = {f"/{oss_bucket.name}/{key}": data for key, data in LARGE.items()}
    if change == "source":
        oss_bucket.put("in/00.bin", b"another")
        want[f"/{oss_bucket.name}/in/00.bin"] = b"another"
    elif change == "record":
        oss_bucket.put("a.tar.unfinished", b"[]")
    elif change == "upload":
        client.abort_upload(tar, upload.upload_id)
    oss_bucket.server.reset_counters()
    seen = []
    generate_tar_archive(
        client, "", "", tar, tar + ".idx", oss_bucket.uri, resume=True, progress=lambda done, _: seen.append(done)
    )
    assert members(oss_bucket.get("a.tar")) == want
    assert seen[-1] == sum(map(len, want.values()))
    dataset = OssMapDataset.from_tar(tar, None, **oss_bucket.options)
    assert {data.key: data.read() for data in dataset} == want
    requests = oss_bucket.server.counters().requests
    parts = -(-len(oss_bucket.get("a.tar")) // (100 << 10))
    assert requests["UploadPart"] <= (parts if change else parts - 5)
    assert "a.tar.unfinished" not in oss_bucket.keys()  # noqa: SIM118
    assert len(client.list_uploads(tar)) == (1 if change == "record" else 0)  # then nobody knows of the old one


def test_local_files_go_on_to_be_packed_unless_one_has_changed(oss_bucket: OssBucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    for key, data in LARGE.items():
        (source / key).write_bytes(data)
    client, tar = client_of_small_parts(oss_bucket, tmp_path), oss_bucket.uri + "a.tar"
    changed = source / "in/00.bin"
    for is_changed in (False, True):
        kill_in_mid_tar(oss_bucket, client, str(source))
        if is_changed:
            then = changed.stat().st_mtime_ns
            changed.write_bytes(b"1" * 50_000)
            os.utime(changed, ns=(then, then))  # as programs do that copy files with their times
        oss_bucket.server.reset_counters()
        generate_tar_archive(client, "", "", tar, tar + ".idx", str(source), resume=True)
        parts = -(-len(oss_bucket.get("a.tar")) // (100 << 10))
        assert (oss_bucket.server.counters().requests["UploadPart"] == parts) == is_changed
        packed = members(oss_bucket.get("a.tar"))
        assert packed == {str(source / key): (source / key).read_bytes() for key in LARGE}
        oss_bucket.delete("a.tar")
    assert client.list_uploads(tar) == []


def test_without_resume_an_error_leaves_no_parts(oss_bucket: OssBucket, tmp_path: Path) -> None:
    for key, data in LARGE.items():
        oss_bucket.put(key, data)
    client, tar = client_of_small_parts(oss_bucket, tmp_path), oss_bucket.uri + "a.tar"
    oss_bucket.server.fail("GetObject", "AccessDenied", key="in/50.bin")
    with pytest.raises(OssPermissionError):
        generate_tar_archive(client, "", "", tar, tar + ".idx", oss_bucket.uri + "in/")
    assert client.list_uploads(tar) == []
    assert oss_bucket.keys() == list(LARGE)


def test_local_files_become_a_local_tar_or_one_in_oss(oss_bucket: OssBucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "b").write_bytes(b"2" * 3000)
    (source / "sub" / ("n" * 120)).write_bytes(b"")
    want = {str(source / "b"): b"2" * 3000, str(source / "sub" / ("n" * 120)): b""}
    local = str(tmp_path / "a.tar"), str(tmp_path / "a.tar.idx")
    remote = oss_bucket.uri + "a.tar", oss_bucket.uri + "a.tar.idx"
    for tar, index in (local, remote):
        generate_tar_archive(*access(oss_bucket), tar, index, str(source))
    assert members((tmp_path / "a.tar").read_bytes()) == want == members(oss_bucket.get("a.tar"))
    before = (tmp_path / "a.tar").stat().st_mtime_ns
    shards = (*local, str(source))
    generate_tar_archive(*access(oss_bucket), *shards, shard_bytes=1)
    written = (tmp_path / "a-00001.tar").stat().st_mtime_ns
    generate_tar_archive(*access(oss_bucket), *shards, shard_bytes=1, resume=True)
    assert (tmp_path / "a-00001.tar").stat().st_mtime_ns == written
    assert (tmp_path / "a.tar").stat().st_mtime_ns == before


def test_shards_of_a_number_of_members_and_a_manifest_of_them(oss_bucket: OssBucket, tmp_path: Path) -> None:
    want = fill(oss_bucket)
    arguments = (oss_bucket.uri + "in/a.tar", oss_bucket.uri + "in/a.idx", oss_bucket.uri + "in/")
    for manifest in (tmp_path / "shards.jsonl", oss_bucket.uri + "in/shards.jsonl", oss_bucket.uri + "in/shards.jsonl"):
        # What an earlier run has written below the prefix is not packed.
        generate_tar_archive(*access(oss_bucket), *arguments, shard_members=15, manifest_uri=str(manifest))
        assert len([key for key in oss_bucket.keys() if key.endswith(".tar")]) == 3  # noqa: SIM118
    data = (tmp_path / "shards.jsonl").read_bytes()
    assert data == oss_bucket.get("in/shards.jsonl")
    lines = [json.loads(line) for line in data.splitlines()]
    assert [line["members"] for line in lines] == [15, 15, 11]
    assert lines[2] == {
        "key": oss_bucket.uri + "in/a-00002.tar",
        "label": oss_bucket.uri + "in/a-00002.idx",
        "members": 11,
    }
    pairs = list(jsonl_manifest_parser(io.BytesIO(data)))
    dataset = OssIterableDataset.from_tar(pairs, None, **oss_bucket.options)
    assert [(found.key, found.read()) for found in dataset] == list(want.items())
    tars = OssMapDataset.from_manifest_file(tmp_path / "shards.jsonl", jsonl_manifest_parser, "", **oss_bucket.options)
    assert [members(found.read()) for found in tars] == [
        dict(list(want.items())[first : first + 15]) for first in (0, 15, 30)
    ]


def test_the_index_made_while_packing_is_that_of_the_tars_headers(oss_bucket: OssBucket, tmp_path: Path) -> None:
    names = ["a", "b" * 300, "d\u00e9j\u00e0/" + "v" * 90, "empty", "x" * 100, "y" * 101]
    for number, name in enumerate(names):
        oss_bucket.put(f"in/{name}", b"." * number * 511)
    tar = oss_bucket.uri + "a.tar"
    oss_bucket.server.reset_counters()
    generate_tar_archive(*access(oss_bucket), tar, tar + ".idx", oss_bucket.uri + "in/")
    assert not [entry for entry in oss_bucket.server.counters().log if entry.key == "a.tar" and entry.method == "GET"]
    manifest = tmp_path / "one.jsonl"
    generate_tar_archive(*access(oss_bucket), tar, tar + ".again", "", index_only=True, manifest_uri=str(manifest))
    assert oss_bucket.get("a.tar.again") == oss_bucket.get("a.tar.idx")
    assert json.loads(manifest.read_bytes()) == {"key": tar, "label": tar + ".again", "members": len(names)}


def test_progress_is_a_bar_where_tqdm_is(
    oss_bucket: OssBucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(oss_bucket)
    arguments = (*access(oss_bucket), f"{tmp_path}/a.tar", f"{tmp_path}/a.idx", oss_bucket.uri + "in/")
    pytest.importorskip("tqdm")
    generate_tar_archive(*arguments, progress=True)
    assert "pack: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    for progress in (True, False):
        assert generate_tar_archive(*arguments, progress=progress) == 0
        assert capsys.readouterr().err == ""


def test_an_unfinished_file_of_a_killed_run_is_not_packed(tmp_path: Path) -> None:
    for name in ("x", ".osstorchconnector-0123.unfinished"):
        (tmp_path / name).write_bytes(b"1")
    for _ in range(2):
        generate_tar_archive("", "", "", f"{tmp_path}/a.tar", f"{tmp_path}/a.idx", str(tmp_path), shard_members=1)
        assert members((tmp_path / "a-00000.tar").read_bytes()) == {str(tmp_path / "x"): b"1"}
    assert not (tmp_path / "a-00001.tar").exists()


def test_a_tar_that_is_replaced_before_its_index_is_made(oss_bucket: OssBucket) -> None:
    oss_bucket.put("in/a", b"1")
    tar = oss_bucket.uri + "a.tar"
    oss_bucket.server.fail("PutObject", "replace", key="a.tar", times=1, data=b"of another program")
    with pytest.raises(OssTarError, match=r"a\.tar was replaced"):
        generate_tar_archive(*access(oss_bucket), tar, tar + ".idx", oss_bucket.uri + "in/")
    assert "a.tar.idx" not in oss_bucket.keys()  # noqa: SIM118


@pytest.mark.parametrize("name", [name for name in TARS if name != "nothing"])
def test_an_index_of_a_tar_that_exists(oss_bucket: OssBucket, put_tar: PutTar, tmp_path: Path, name: str) -> None:
    uri = put_tar("a.tar", TARS[name]())
    (tmp_path / "a.tar").write_bytes(TARS[name]())
    held = unpack_index((FOLDER / f"{name}.idx").read_bytes(), len(TARS[name]()))
    for tar in (uri, str(tmp_path / "a.tar")):
        index = tmp_path / "a.idx"
        assert generate_tar_archive(*access(oss_bucket), tar, str(index), "", index_only=True) == 0
        assert list(unpack_index(index.read_bytes(), len(TARS[name]())).bounds) == list(held.bounds)


@pytest.mark.parametrize("tar", [b"", b"\x1f\x8b" + bytes(700), tar_of({"a": b"1" * 5000})[:2000]])
def test_what_is_no_tar_gets_no_index(oss_bucket: OssBucket, put_tar: PutTar, tmp_path: Path, tar: bytes) -> None:
    uri = put_tar("a.tar", tar)
    with pytest.raises(OssTarError, match=r"a\.tar can't be read as a tar"):
        generate_tar_archive(*access(oss_bucket), uri, str(tmp_path / "idx"), "", index_only=True)
    assert not (tmp_path / "idx").exists()


def test_nothing_to_pack_and_wrong_arguments(oss_bucket: OssBucket) -> None:
    tar, index = oss_bucket.uri + "a.tar", oss_bucket.uri + "a.idx"
    with pytest.raises(OssNotFoundError, match="nothing to pack"):
        generate_tar_archive(*access(oss_bucket), tar, index, oss_bucket.uri + "none/")
    fill(oss_bucket)
    for options in ({"shard_bytes": -1}, {"shard_members": -1}):
        with pytest.raises(OssConfigError, match="shard_members"):
            generate_tar_archive(*access(oss_bucket), tar, index, oss_bucket.uri + "in/", **options)
    assert "a.tar" not in oss_bucket.keys()  # noqa: SIM118


def test_a_file_that_changes_meanwhile_leaves_no_tar(oss_bucket: OssBucket, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    grown = tmp_path / "source" / "b"
    (tmp_path / "source" / "a").write_bytes(b"1")
    grown.write_bytes(b"2")

    def grow(_done: int, _total: int) -> None:
        grown.write_bytes(b"longer")

    tar = oss_bucket.uri + "a.tar"
    with pytest.raises(OssTarError, match="changed meanwhile"):
        generate_tar_archive(*access(oss_bucket), tar, tar + ".idx", str(tmp_path / "source"), progress=grow)
    assert oss_bucket.keys() == []


def test_a_file_that_is_written_to_while_it_is_packed_leaves_no_tar(
    oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size stays, so its bytes may be half old and half new."""
    (tmp_path / "source").mkdir()
    written = tmp_path / "source" / "a"
    written.write_bytes(b"1" * 5000)
    taken, times = Output.add, itertools.count()

    def add(output: Output, data: bytes, crc: int | None = None) -> None:
        os.utime(written, ns=(0, next(times)))
        taken(output, data, crc)

    monkeypatch.setattr(Output, "add", add)
    tar = oss_bucket.uri + "a.tar"
    with pytest.raises(OssTarError, match="a was written to while it was packed"):
        generate_tar_archive(*access(oss_bucket), tar, tar + ".idx", str(tmp_path / "source"))
    assert oss_bucket.keys() == []
