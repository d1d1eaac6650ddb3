"""index, tar."""

from __future__ import annotations

import tarfile
from pathlib import Path

from cli.conftest import Run

from osstorchconnector import OssMapDataset, jsonl_manifest_parser
from osstorchconnector.testing import OssBucket

FILES = {"a/1": b"one", "a/2": b"", "b": b"two"}


def fill(bucket: OssBucket) -> None:
    for name, data in FILES.items():
        bucket.put(f"in/{name}", data)


def test_an_index_is_saved_from_which_a_dataset_begins(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    fill(oss_bucket)
    for target in (f"{oss_bucket.uri}saved.index", f"{tmp_path}/saved.index"):
        assert run("index", f"{oss_bucket.uri}in/", target).err == f"3 objects in {target}\n"
        dataset = OssMapDataset.from_index(target, **oss_bucket.options)
        assert [dataset[number].read() for number in range(len(dataset))] == list(FILES.values())


def test_a_prefix_is_packed_into_tars(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    fill(oss_bucket)
    target = tmp_path / "out.tar"
    assert run("tar", f"{oss_bucket.uri}in/", f"{target}").status == 0
    with tarfile.open(target) as archive:
        assert [member.size for member in archive] == [3, 0, 3]
    (tmp_path / "out.tar.idx").unlink()
    assert run("tar", "--index-only", f"{oss_bucket.uri}in/", f"{target}").status == 0
    assert (tmp_path / "out.tar.idx").exists()
    assert run("tar", "--shard-bytes", "1", "--resume", f"{oss_bucket.uri}in/", f"{oss_bucket.uri}s.tar").status == 0
    assert "s-00000.tar.idx" in set(oss_bucket.keys())


def test_tars_of_so_many_members_have_a_manifest(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    fill(oss_bucket)
    manifest, target = tmp_path / "tars.jsonl", f"{oss_bucket.uri}s.tar"
    ended = run("tar", "--shard-members", "2", "--manifest", f"{manifest}", f"{oss_bucket.uri}in/", target)
    assert ended.status == 0
    with manifest.open("rb") as file:
        tars = list(jsonl_manifest_parser(file))
    assert tars == [(f"{oss_bucket.uri}s-0000{n}.tar", f"{oss_bucket.uri}s-0000{n}.tar.idx") for n in (0, 1)]
    dataset = OssMapDataset.from_tar(tars, None, **oss_bucket.options)
    assert [dataset[number].read() for number in range(len(dataset))] == list(FILES.values())


def test_nothing_to_pack_is_an_error(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    status, _, err = run("tar", f"{oss_bucket.uri}in/", f"{tmp_path}/out.tar")
    assert status == 1
    assert "nothing to pack" in err
