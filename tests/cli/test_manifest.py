"""manifest make, check; index --labels-from-folders."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest
from cli.conftest import Run
from cli.test_objects import in_a_terminal

from osstorchconnector import OssMapDataset, imagenet_manifest_parser, jsonl_manifest_parser
from osstorchconnector.testing import OssBucket

FILES = {"cat/1.jpg": b"one", "cat/in/2.jpg": b"", "dog/3.png": b"three", "top.jpg": b"top"}
PARSERS = {"jsonl": jsonl_manifest_parser, "tsv": imagenet_manifest_parser}


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for name, data in FILES.items():
        oss_bucket.put(f"in/{name}", data)
    oss_bucket.put("in/folder/", b"")
    return oss_bucket


@pytest.mark.parametrize("suffix", PARSERS)
@pytest.mark.parametrize("is_remote", [True, False])
def test_a_manifest_is_made_from_which_a_dataset_begins(
    run: Run, bucket: OssBucket, tmp_path: Path, suffix: str, is_remote: bool
) -> None:
    manifest = f"{bucket.uri}in/list.{suffix}" if is_remote else f"{tmp_path}/list.{suffix}"
    for _ in range(2):  # it does not name itself
        ended = run("manifest", "make", "--labels-from-folders", f"{bucket.uri}in", manifest)
        assert ended.err.startswith(f"4 objects in {manifest}, for from_manifest_file(")
    assert PARSERS[suffix].__name__ in ended.err
    dataset = OssMapDataset.from_manifest_file(manifest, PARSERS[suffix], f"{bucket.uri}in/", **bucket.options)
    items = [dataset[number] for number in range(len(dataset))]
    assert [item.read() for item in items] == list(FILES.values())
    assert [item.label for item in items] == ["cat", "cat", "dog", ""]
    checked = run("manifest", "check", manifest, f"{bucket.uri}in")
    assert (checked.status, checked.err) == (0, "all 4 objects are there\n")


def test_patterns_choose_objects(run: Run, bucket: OssBucket, tmp_path: Path) -> None:
    arguments = ["--include", "*.jpg", "--exclude", "cat/in/*", f"{bucket.uri}in/", f"{tmp_path}/list"]
    assert run("manifest", "make", *arguments).status == 0
    assert (tmp_path / "list").read_text() == "cat/1.jpg\ntop.jpg\n"


def test_missing_objects_are_listed(run: Run, bucket: OssBucket, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("cat/1.jpg\tcat\ncat/9.jpg\ndog/3.png\nnothing\n")
    status, out, err = run("manifest", "check", f"{tmp_path}/list", f"{bucket.uri}in/")
    assert (status, err) == (1, "4 objects, 2 of them missing\n")
    assert out == f"missing  {bucket.uri}in/cat/9.jpg\nmissing  {bucket.uri}in/nothing\n"


@pytest.mark.parametrize(
    ("text", "complaint"), [("{}\n", "line 1"), ('{"key": "top.jpg"}\n{\n', "line 2"), ("", "all 0 objects")]
)
def test_a_manifest_that_is_wrong_is_an_error(
    run: Run, bucket: OssBucket, tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "list.jsonl").write_text(text)
    status, _, err = run("manifest", "check", f"{tmp_path}/list.jsonl", f"{bucket.uri}in/")
    assert (status, complaint in err) == (1, True)


def test_nothing_to_name_is_an_error_and_leaves_no_manifest(run: Run, bucket: OssBucket, tmp_path: Path) -> None:
    for manifest in (f"{tmp_path}/list", f"{bucket.uri}list"):
        status, _, err = run("manifest", "make", f"{bucket.uri}nothing/", manifest)
        assert (status, "there is no object to name below" in err) == (1, True)
    assert (list(tmp_path.iterdir()), "list" in set(bucket.keys())) == ([], False)


def test_a_bucket_that_is_not_there_is_no_missing_object(run: Run, bucket: OssBucket, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("1.jpg\n")
    status, _, err = run("manifest", "check", f"{tmp_path}/list", "oss://no-such-bucket/in/")
    assert (status, "NoSuchBucket" in err) == (1, True)


@pytest.mark.parametrize("key", ["a\tb", "a\nb", " a", "a "])
def test_a_key_that_lines_can_not_carry_needs_json(run: Run, bucket: OssBucket, tmp_path: Path, key: str) -> None:
    bucket.put(f"odd/{key}", b"x")
    status, _, err = run("manifest", "make", f"{bucket.uri}odd/", f"{tmp_path}/list.txt")
    assert (status, "let the manifest's name end in .jsonl" in err) == (1, True)
    assert run("manifest", "make", f"{bucket.uri}odd/", f"{tmp_path}/list.jsonl").status == 0
    assert run("manifest", "check", f"{tmp_path}/list.jsonl", f"{bucket.uri}odd/").status == 0


def test_a_bar_counts_objects_in_a_terminal(bucket: OssBucket, tmp_path: Path) -> None:
    child = in_a_terminal(bucket, "manifest", "make", f"{bucket.uri}in/", f"{tmp_path}/list")
    child.expect_exact("listing")
    child.expect_exact("4 objects in")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_an_index_has_labels_from_folders(run: Run, bucket: OssBucket, tmp_path: Path) -> None:
    bucket.delete("in/top.jpg")
    assert run("index", "--labels-from-folders", f"{bucket.uri}in/", f"{tmp_path}/index").status == 0
    dataset = OssMapDataset.from_index(f"{tmp_path}/index", **bucket.options)
    assert [dataset[number].label for number in range(len(dataset))] == [0, 0, 1]
    assert list(dataset.classes) == ["cat", "dog"]
