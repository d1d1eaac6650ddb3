"""ls, du, stat, cat, mb, rm, sign, clean."""

from __future__ import annotations

import json
import sys
import urllib.request

import pexpect
import pytest
from cli.conftest import Run

from osstorchconnector import OssClient
from osstorchconnector.testing import OssBucket

KEYS = {"a/1": b"x" * 1536, "a/2": b"", "a/b/3": b"three", "top": b"t"}


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for key, data in KEYS.items():
        oss_bucket.put(key, data)
    return oss_bucket


def test_ls_lists_all_objects_with_size_and_time(run: Run, bucket: OssBucket) -> None:
    status, out, err = run("ls", f"{bucket.uri}a/")
    lines = [line.split() for line in out.splitlines()]
    assert (status, [line[-1] for line in lines]) == (0, [f"{bucket.uri}a/1", f"{bucket.uri}a/2", f"{bucket.uri}a/b/3"])
    assert lines[0][:2] == ["1.5", "KiB"]
    assert all(line[2].startswith("20") and line[2].endswith("Z") for line in lines)
    assert err == "3 entries, 1.5 KiB\n"


def test_ls_of_one_level_shows_folders(run: Run, bucket: OssBucket) -> None:
    out = run("ls", "-d", f"{bucket.uri}a/").out
    assert [line.split()[-1] for line in out.splitlines()] == [
        f"{bucket.uri}a/1",
        f"{bucket.uri}a/2",
        f"{bucket.uri}a/b/",
    ]
    assert out.splitlines()[2].split()[0] == "folder"


def test_ls_as_json_and_with_a_limit(run: Run, bucket: OssBucket) -> None:
    found = [json.loads(line) for line in run("ls", "--json", "--limit", "2", bucket.uri).out.splitlines()]
    assert [(entry["name"], entry["size"]) for entry in found] == [(f"{bucket.uri}a/1", 1536), (f"{bucket.uri}a/2", 0)]
    (level,) = [json.loads(line) for line in run("ls", "-d", "--json", f"{bucket.uri}a/b").out.splitlines()]
    assert level == {"name": f"{bucket.uri}a/b/"}


def test_ls_without_a_uri_lists_buckets(run: Run, bucket: OssBucket) -> None:
    assert bucket.uri in run("ls").out.splitlines()
    assert {"name": bucket.name} in [json.loads(line) for line in run("ls", "--json").out.splitlines()]


def test_names_that_could_control_the_terminal_are_escaped(run: Run, bucket: OssBucket) -> None:
    bucket.put("evil\x1b[2J\n", b"")
    out = run("ls", f"{bucket.uri}evil").out
    assert "\x1b" not in out
    assert out.count("\n") == 1


def test_du_counts(run: Run, bucket: OssBucket) -> None:
    assert run("du", bucket.uri).out == "4 objects, 1.5 KiB (1,542 bytes)\n"
    assert json.loads(run("du", "--json", f"{bucket.uri}a/").out) == {"objects": 3, "bytes": 1541}


def test_stat_shows_an_object(run: Run, bucket: OssBucket) -> None:
    facts = json.loads(run("stat", "--json", f"{bucket.uri}a/1").out)
    assert (facts["name"], facts["size"], facts["type"]) == (f"{bucket.uri}a/1", 1536, "Normal")
    assert "etag" in run("stat", f"{bucket.uri}a/1").out


def test_cat_prints_an_object_or_a_part_of_it(run: Run, bucket: OssBucket) -> None:
    assert run("cat", f"{bucket.uri}a/b/3").out == "three"
    assert run("cat", "--range", "1-2", f"{bucket.uri}a/b/3").out == "hr"
    assert run("cat", "--range", "3-", f"{bucket.uri}a/b/3").out == "ee"


@pytest.mark.parametrize("part", ["3", "-3", "3-1", "a-b"])
def test_a_range_that_is_none_is_refused(run: Run, bucket: OssBucket, part: str) -> None:
    status, _, err = run("cat", f"--range={part}", f"{bucket.uri}a/b/3")
    assert status == 1
    assert "write START-END" in err


def test_mb_makes_a_bucket(run: Run, bucket: OssBucket) -> None:
    name = f"{bucket.name}-new"
    try:
        assert run("mb", "--storage-class", "IA", "--redundancy-type", "ZRS", f"oss://{name}").status == 0
        assert run("mb", f"oss://{name}/").err == f"oss://{name}/ is there\n"
        assert f"oss://{name}/" in run("ls").out.splitlines()
        client = OssClient(bucket.endpoint, cred_path=bucket.cred_path, region=bucket.region)
        client.put(f"oss://{name}/key", b"x")
        assert run("stat", f"oss://{name}/key").status == 0
    finally:
        bucket.server.remove_bucket(name)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["oss://bucket/folder/"], 1, "name the bucket alone"),
        (["oss://No_Bucket"], 1, "No_Bucket"),
        (["--storage-class", "Cold", "oss://bucket"], 2, "Cold"),
    ],
)
def test_mb_refuses_what_is_no_bucket(
    run: Run, bucket: OssBucket, arguments: list[str], status: int, complaint: str
) -> None:
    ended = run("mb", *arguments)
    assert (ended.status, complaint in ended.err) == (status, True)


def test_rm_removes_what_it_is_told(run: Run, bucket: OssBucket) -> None:
    assert run("rm", "-y", f"{bucket.uri}top").status == 0
    assert run("rm", "-r", "--yes", f"{bucket.uri}a/").err == "3 objects removed\n"
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["top"], "Nobody can be asked here: --yes"),
        (["-y", "a/"], "is a prefix: -r removes"),
        (["-y", "-r", ""], "is a whole bucket"),
        (["-y", "nothing"], "NoSuchKey"),
    ],
)
def test_rm_refuses_what_may_be_a_mistake(run: Run, bucket: OssBucket, arguments: list[str], complaint: str) -> None:
    *options, key = arguments
    status, _, err = run("rm", *options, f"{bucket.uri}{key}")
    assert status == 1
    assert complaint in err
    assert sorted(bucket.keys()) == sorted(KEYS)


def in_a_terminal(bucket: OssBucket, *arguments: str) -> pexpect.spawn[str]:
    common = ["-e", bucket.endpoint, "--region", bucket.region, "--cred-path", bucket.cred_path]
    program = ["-m", "osstorchconnector", *arguments, *common]
    return pexpect.spawn(sys.executable, program, timeout=240, encoding="utf-8")


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_rm_asks_in_a_terminal(bucket: OssBucket, answer: str, status: int) -> None:
    child = in_a_terminal(bucket, "rm", f"{bucket.uri}top")
    child.expect_exact(f"Remove {bucket.uri}top?")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == status
    assert ("top" in set(bucket.keys())) is (answer == "n")


def test_a_bar_shows_in_a_terminal(bucket: OssBucket, tmp_path: object) -> None:
    child = in_a_terminal(bucket, "cp", f"{bucket.uri}a/1", f"{tmp_path}/1")
    child.expect_exact("copying")
    child.expect_exact("1 copied, 1.5 KiB")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_sign_prints_a_url_that_anybody_can_read(run: Run, bucket: OssBucket) -> None:
    url = run("sign", "--timeout", "60", f"{bucket.uri}a/b/3").out.strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"three"


def test_clean_aborts_old_uploads(run: Run, bucket: OssBucket) -> None:
    client = OssClient(bucket.endpoint, cred_path=bucket.cred_path, region=bucket.region)
    client.create_upload(f"{bucket.uri}a/new")
    assert run("clean", bucket.uri).err == "0 uploads aborted\n"
    _, out, err = run("clean", "--older-than", "0", "--dry-run", bucket.uri)
    assert (f"{bucket.uri}a/new" in out, err) == (True, "1 uploads would be aborted\n")
    assert run("clean", "--older-than", "0", bucket.uri).err == "1 uploads aborted\n"
    assert client.list_uploads(bucket.uri) == []
