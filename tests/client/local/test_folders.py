"""Listings of folders: what OSS would list, in its order, whole or page by page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector import OssClient, OssError, OssNotFoundError, OssUriError
from osstorchconnector.client.local.folders import Asked, listed
from osstorchconnector.uri import OssUri

NAMES = st.sampled_from(["a", "b", "a.txt", "a-b", "é", "ab", "a b", "Z"])
KEYS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12)


def made(folder: Path, keys: list[str]) -> list[str]:
    """Make files of these names, as far as none is also a folder; return the keys of those that were made."""
    for key in keys:
        path = folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())
        except OSError:
            continue
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def grouped(keys: list[str], prefix: str, start_after: str) -> list[str]:
    """Return the keys and common prefixes that OSS lists with the delimiter `/`."""
    found = set()
    for key in keys:
        if key.startswith(prefix) and key > start_after:
            head, slash, _ = key[len(prefix) :].partition("/")
            if prefix + head + slash != start_after:
                found.add(prefix + head + slash)
    return sorted(found)


@given(KEYS, st.sampled_from(["", "a", "a/", "a/b", "z", "a/b/c", "é/"]), st.sampled_from(["", "a", "a/b", "b", "é"]))
def test_a_listing_has_the_keys_that_oss_would_list_in_its_order(keys: list[str], prefix: str, after: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        there = made(Path(name), keys)
        found = [each.key for each in listed(Path(name), Asked(prefix, after))]
        assert found == [key for key in there if key.startswith(prefix) and key > after]
        by_folder = [each.key for each in listed(Path(name), Asked(prefix, after, True))]
        assert by_folder == grouped(there, prefix, after)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made(tmp_path, [f"{first}/{second}" for first in "ab" for second in range(10)] + ["top"])
    return tmp_path


def uri_of(path: Path) -> OssUri:
    bucket, _, key = str(path).removeprefix("/").partition("/")
    return OssUri(bucket, key)


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_pages_follow_each_other_also_in_another_process(folder: Path, delimiter: str) -> None:
    whole = [each.key for each in OssClient("").list(f"{folder}/", delimiter=delimiter)]
    assert len(whole) == (21 if not delimiter else 3)
    for clients in ([OssClient("")], [OssClient("") for _ in range(30)]):
        found, token, pages = [], "", 0
        while pages == 0 or token:
            client = clients[pages % len(clients)]
            page = client.list_page(f"{folder}/", delimiter=delimiter, token=token, max_keys=2)
            found += [each.key for each in page.entries()]
            token, pages = page.next_token, pages + 1
        assert (found, pages) == (whole, (len(whole) + 1) // 2)


def test_many_listings_that_nobody_reads_to_the_end_are_forgotten(folder: Path) -> None:
    client = OssClient("")
    pages = [
        client.list_page(f"{folder}/{first}/", max_keys=1, start_after=f"{uri_of(folder).key}/{first}/{number}")
        for first in "ab"
        for number in range(8)
    ]
    assert all(page.next_token for page in pages)
    follows = [
        client.list_page(f"{folder}/{'ab'[number // 8]}/", token=page.next_token, max_keys=1)
        for number, page in enumerate(pages)
    ]
    assert [page.keys[0] > before.keys[0] for page, before in zip(follows, pages, strict=True)] == [True] * 16


def test_what_is_no_object_is_not_listed(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to(folder / "nowhere")
    (folder / ".osstorchconnector-0123.unfinished").write_bytes(b"half")
    (folder / "empty").mkdir()
    with_folders = [each.key for each in OssClient("").list(f"{folder}/", delimiter="/")]
    assert [key.removeprefix(uri_of(folder).key) for key in with_folders] == ["/a/", "/b/", "/top"]
    assert len(list(OssClient("").list(f"{folder}/"))) == 21


def test_links_are_followed_but_not_in_circles(folder: Path) -> None:
    (folder / "c").symlink_to(folder / "a")
    (folder / "d").symlink_to(folder / "top")
    (folder / "a" / "round").symlink_to(folder)
    keys = [each.key.removeprefix(uri_of(folder).key) for each in OssClient("").list(f"{folder}/")]
    assert keys == sorted(keys)
    assert [key for key in keys if key.startswith("/c/")] == [f"/c/{number}" for number in range(10)]
    assert "/d" in keys
    assert not [key for key in keys if "round" in key]
    assert OssClient("").get(f"{folder}/d").body == b"top"


def test_a_prefix_that_is_not_there_is_empty_and_a_bucket_that_is_not_an_error(folder: Path) -> None:
    client = OssClient("")
    assert list(client.list(f"{folder}/nothing/")) == []
    assert list(client.list(f"{folder}/top/x")) == []
    with pytest.raises(OssNotFoundError, match="NoSuchBucket.*there is no folder /no-such-folder.*endpoint is empty"):
        list(client.list("/no-such-folder/x"))


@pytest.mark.parametrize("prefix", ["../", "./", "a/../", "a//b"])
def test_a_prefix_does_not_lead_out_of_its_folder(folder: Path, prefix: str) -> None:
    with pytest.raises(OssUriError, match="no local folder"):
        list(OssClient("").list(f"{folder}/{prefix}"))


def test_a_file_whose_name_is_no_text_is_an_error_that_names_it(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/a/\xff")).write_bytes(b"x")
    with pytest.raises(OssUriError, match="not UTF-8.*udcff"):
        list(OssClient("").list(f"{folder}/"))


def test_folders_are_told_apart_by_slashes_only(folder: Path) -> None:
    with pytest.raises(OssError, match="delimiter"):
        OssClient("").list_page(f"{folder}/", delimiter="-")
