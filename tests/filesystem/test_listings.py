"""What is there: ls, info, find, glob, walk, du, and how long listings are kept."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from osstorchconnector.errors import OssNotFoundError, OssUriError
from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.testing import OssBucket

KEYS = ["a/b/1", "a/b/2", "a/b/c/3", "a/top", "a-sibling", "plain"]


def names(root: str, *keys: str) -> list[str]:
    return [f"{root}/{key}" for key in keys]


def test_a_directory_lists_its_objects_and_directories(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.ls(f"oss://{root}/a/", detail=False) == names(root, "a/b", "a/top")
    assert fs.ls(f"/{root}", detail=False) == names(root, "a", "a-sibling", "plain")
    (directory, file) = fs.ls(f"{root}/a")
    assert (directory["type"], file["type"], file["size"]) == ("directory", "file", 5)
    assert isinstance(file["LastModified"], datetime) and file["LastModified"].tzinfo is timezone.utc
    assert file["ETag"] == fs.info(file["name"], refresh=True)["ETag"]


def test_the_root_lists_buckets(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.ls("", detail=False) == fs.ls("oss://", detail=False) == [root]
    (entry,) = fs.ls("/")
    assert (entry["type"], entry["Region"]) == ("directory", bucket.region)
    assert fs.find("", maxdepth=1, withdirs=True) == [root]
    with pytest.raises(ValueError, match="needs a bucket"):
        fs.find("")
    assert fs.info("")["type"] == "directory"


def test_an_object_lists_itself_and_what_is_missing_is_an_error(
    fs: OssFileSystem, bucket: OssBucket, root: str
) -> None:
    assert fs.ls(f"{root}/plain", detail=False) == [f"{root}/plain"]
    for look in (fs.ls, fs.info):
        with pytest.raises(FileNotFoundError, match=f"{root}/nothing"):
            look(f"{root}/nothing")
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        fs.ls("no-such-bucket")
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        fs.info("no-such-bucket/key")
    with pytest.raises(OssUriError):
        fs.info("No_Bucket/key")
    assert not fs.exists("no-such-bucket") and not fs.exists(f"{root}/nothing")


def test_an_empty_bucket_has_an_empty_listing(fs: OssFileSystem, oss_bucket: OssBucket) -> None:
    assert fs.ls(oss_bucket.name) == []
    assert fs.isdir(oss_bucket.name) and fs.find(oss_bucket.name) == []


def test_kinds(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.isfile(f"{root}/plain") and not fs.isdir(f"{root}/plain")
    assert fs.isdir(f"{root}/a") and not fs.isfile(f"{root}/a")
    assert fs.exists(f"{root}/a/b") and fs.exists(f"{root}/a/b/")
    assert fs.info(f"{root}/a/b/1", refresh=True)["CRC64"] is not None
    assert fs.size(f"{root}/plain") == 5


def test_a_request_that_fails_is_no_missing_object(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    for look in (fs.exists, fs.isfile, fs.isdir):
        assert not look(f"{root}/nothing") and not look("No_Bucket/key")
        bucket.server.fail("HeadObject", "AccessDenied", times=1)
        with pytest.raises(PermissionError, match=f"{root}/plain"):
            look(f"{root}/plain")


def test_markers_are_directories(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    bucket.put("marked/", b"")
    bucket.put("a/b/", b"")
    assert fs.isdir(f"{root}/marked") and fs.ls(f"{root}/marked") == []
    assert fs.info(f"{root}/marked/")["type"] == "directory"
    assert fs.find(f"{root}/a/b") == names(root, "a/b/1", "a/b/2", "a/b/c/3")
    assert fs.find(root, withdirs=True)[-2:] == names(root, "marked", "plain")
    assert fs.rmdir(f"{root}/marked") is None
    assert not fs.exists(f"{root}/marked")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{root}/a/b")
    with pytest.raises(FileNotFoundError):
        fs.rmdir(f"{root}/nothing")


@pytest.mark.parametrize("fast_list", ["auto", False])
def test_find_has_all_below(oss_bucket: OssBucket, tmp_path, fast_list: object) -> None:
    from files.on_oss import config_file

    root = oss_bucket.name
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    config = config_file(tmp_path, datasetConfig={"enableFastList": fast_list})
    fs = OssFileSystem(config_path=config, **oss_bucket.options)
    assert fs.find(root) == names(root, *sorted(KEYS))
    assert fs.find(f"{root}/a") == names(root, "a/b/1", "a/b/2", "a/b/c/3", "a/top")
    assert fs.find(f"{root}/a", prefix="t") == names(root, "a/top")
    found = fs.find(f"{root}/a", detail=True, withdirs=True)
    assert list(found) == names(root, "a", "a/b", "a/b/1", "a/b/2", "a/b/c", "a/b/c/3", "a/top")
    assert found[f"{root}/a/b/c"]["type"] == "directory" and found[f"{root}/a/b/1"]["size"] == 5


def test_find_stops_at_a_depth(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.find(root, maxdepth=1) == names(root, "a-sibling", "plain")
    assert fs.find(root, maxdepth=2) == names(root, "a-sibling", "a/top", "plain")
    assert fs.find(f"{root}/a", maxdepth=1, withdirs=True) == names(root, "a", "a/b", "a/top")
    assert fs.find(f"{root}/a", maxdepth=1, prefix="b", withdirs=True) == names(root, "a", "a/b")
    with pytest.raises(ValueError, match="maxdepth"):
        fs.find(root, maxdepth=0)


def test_find_of_an_object_is_that_object(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.find(f"{root}/plain") == [f"{root}/plain"]
    assert fs.find(f"{root}/plain", detail=True)[f"{root}/plain"]["size"] == 5
    assert fs.find(f"{root}/nothing") == [] and fs.find(f"{root}/nothing", detail=True) == {}
    assert fs.find(f"{root}/pl", prefix="x") == []


def test_glob_walk_and_du(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    assert fs.glob(f"{root}/a/b/*") == names(root, "a/b/1", "a/b/2", "a/b/c")
    assert fs.glob(f"{root}/a/**/[13]") == names(root, "a/b/1", "a/b/c/3")
    assert fs.glob(f"{root}/p*") == [f"{root}/plain"] and fs.glob(f"{root}/x*") == []
    walked = list(fs.walk(f"{root}/a"))
    assert walked == [
        (f"{root}/a", ["b"], ["top"]),
        (f"{root}/a/b", ["c"], ["1", "2"]),
        (f"{root}/a/b/c", [], ["3"]),
    ]
    assert fs.du(f"{root}/a") == 5 + 5 + 7 + 5
    assert fs.du(f"{root}/a", total=False, maxdepth=1) == {f"{root}/a/top": 5}
    assert fs.du(f"{root}/plain") == 5


def test_more_than_a_page(fs: OssFileSystem, bucket: OssBucket, root: str) -> None:
    bucket.server.fill(bucket.name, "many/{:04}", 2100, b"x")
    assert len(fs.ls(f"{root}/many")) == 2100
    assert len(fs.find(f"{root}/many")) == 2100 and fs.du(f"{root}/many") == 2100


def test_listings_are_kept_for_a_while_and_forgotten_after_our_own_changes(
    fs: OssFileSystem, bucket: OssBucket, root: str
) -> None:
    before = fs.ls(f"{root}/a", detail=False)
    bucket.put("a/new", b"of somebody else")
    bucket.server.reset_counters()
    assert fs.ls(f"{root}/a", detail=False) == before
    assert fs.info(f"{root}/a/top")["size"] == 5
    assert not bucket.server.counters().requests
    assert fs.exists(f"{root}/a/new"), "what a listing lacks is looked for"
    assert f"{root}/a/new" in fs.ls(f"{root}/a", detail=False, refresh=True)
    fs.pipe(f"{root}/a/ours", b"x")
    assert f"{root}/a/ours" in fs.ls(f"{root}/a", detail=False)
    bucket.delete("a/ours")
    fs.invalidate_cache()
    assert f"{root}/a/ours" not in fs.ls(f"{root}/a", detail=False)


def test_listings_expire(oss_bucket: OssBucket) -> None:
    fs = OssFileSystem(**oss_bucket.options, listings_expiry_time=0)
    assert fs.ls(oss_bucket.name) == []
    oss_bucket.put("k", b"")
    assert len(fs.ls(oss_bucket.name)) == 1
    fs = OssFileSystem(**oss_bucket.options, use_listings_cache=False)
    oss_bucket.put("k2", b"")
    assert len(fs.ls(oss_bucket.name)) == 2


ODD = [
    "a//b",
    "star*",
    "what?",
    "[x]",
    "../up",
    "./here/..",
    "blank space /end ",
    "ünï/数据",
    "per%20cent",
    "plus+and&",
    "new\nline",
    "~tilde",
    "a\\b",
    "#hash;semi",
]


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_are_themselves(fs: OssFileSystem, oss_bucket: OssBucket, root: str, key: str, tmp_path) -> None:
    path = f"{root}/{key}"
    fs.pipe_file(path, b"data")
    assert oss_bucket.keys() == [key]
    assert fs.cat_file(f"oss://{path}") == b"data"
    assert fs.info(path)["name"] == path and fs.find(root) == [path]
    assert list(fs.find(root, maxdepth=9, detail=True)) in ([path], []), "an empty part is no directory"
    with fs.open(path) as file:
        assert file.read() == b"data"
    fs.get_file(path, str(tmp_path / "copy"))
    fs.put_file(str(tmp_path / "copy"), path)
    fs.cp_file(path, f"{path}2")
    assert fs.cat_file(f"{path}2") == b"data"
    fs.rm_file(path)
    fs.rm_file(f"{path}2")
    assert oss_bucket.keys() == []


def test_keys_that_end_in_a_slash(fs: OssFileSystem, oss_bucket: OssBucket, root: str) -> None:
    fs.pipe_file(f"{root}/dir/", b"data")
    assert oss_bucket.keys() == ["dir/"]
    assert fs.cat_file(f"{root}/dir/") == b"data"
    assert fs.info(f"{root}/dir/")["size"] == 4
    assert fs.find(root) == [f"{root}/dir/"] and fs.ls(f"{root}/dir", detail=False) == [f"{root}/dir/"]
    fs.cp_file(f"{root}/dir/", f"{root}/copy/")
    assert oss_bucket.get("copy/") == b"data"
    fs.rm_file(f"{root}/dir/")
    assert oss_bucket.keys() == ["copy/"]


def test_keys_that_begin_with_a_slash_are_refused_as_oss_does(fs: OssFileSystem, root: str) -> None:
    with pytest.raises(OssUriError, match="starts with '/'"):
        fs.pipe_file(f"{root}//k", b"")
