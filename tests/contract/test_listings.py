"""Listings: order, pages, prefixes, delimiters, where they start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract.clients import CLIENTS, Client, Refused

TREE = ["a.txt", "dir/", "dir/1", "dir/2", "dir/sub/x", "dir/sub/y", "dir//z", "e", "other/q"]


@pytest.fixture
def tree(client: Client) -> Client:
    for key in TREE:
        client.put(key, key.encode())
    return client


def test_an_empty_bucket_lists_nothing(client: Client) -> None:
    assert client.list_page() == ([], [], "")


def test_keys_come_in_the_order_of_their_utf8_bytes(client: Client) -> None:
    # by UTF-16 the emoji would come before the full-width tilde
    keys = ["Z", "a", "a b", "a!", "a/b", "a0", "~", "é", "中", "\uff5e", "\U0001f600"]
    for key in reversed(keys):
        client.put(key, b"")
    assert client.keys() == sorted(keys, key=str.encode)


def test_a_listing_tells_sizes_and_etags(client: Client) -> None:
    small, large = client.put("small", b"123"), client.put_in_parts("large", b"x" * 102400, b"y")
    assert client.sizes_and_etags() == {"small": (3, small.etag), "large": (102401, large.etag)}


def test_a_prefix_selects_the_keys_that_begin_with_it(tree: Client) -> None:
    assert tree.keys("dir/s") == ["dir/sub/x", "dir/sub/y"]
    assert tree.keys("dir/1") == ["dir/1"]
    assert tree.keys("nothing") == []


def test_a_delimiter_folds_what_lies_deeper(tree: Client) -> None:
    assert tree.list_page(delimiter="/") == (["a.txt", "e"], ["dir/", "other/"], "")


def test_a_delimiter_works_below_a_prefix(tree: Client) -> None:
    assert tree.list_page("dir/", delimiter="/") == (["dir/", "dir/1", "dir/2"], ["dir//", "dir/sub/"], "")
    assert tree.list_page("dir", delimiter="/") == ([], ["dir/"], "")


def test_a_delimiter_may_have_several_characters(tree: Client) -> None:
    assert tree.list_page("d", delimiter="sub/") == (["dir/", "dir//z", "dir/1", "dir/2"], ["dir/sub/"], "")


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10])
def test_pages_give_every_key_once(tree: Client, size: int) -> None:
    pages = tree.list_all(max_keys=size)
    assert [key for page in pages for key in page.keys] == sorted(TREE)
    assert [len(page.keys) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert len(pages) == -(-len(TREE) // size)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_pages_with_a_delimiter_give_every_key_and_prefix_once(tree: Client, size: int) -> None:
    pages = tree.list_all("dir/", delimiter="/", max_keys=size)
    assert [key for page in pages for key in page.keys] == ["dir/", "dir/1", "dir/2"]
    assert [prefix for page in pages for prefix in page.prefixes] == ["dir//", "dir/sub/"]
    assert {len(page.keys) + len(page.prefixes) for page in pages[:-1]} <= {size}


def test_a_listing_starts_after_a_key_and_not_with_it(tree: Client) -> None:
    assert tree.list_page(start_after="dir/2").keys == ["dir/sub/x", "dir/sub/y", "e", "other/q"]


def test_a_listing_starts_after_a_key_that_need_not_exist(tree: Client) -> None:
    assert tree.list_page(start_after="dir/20").keys == ["dir/sub/x", "dir/sub/y", "e", "other/q"]
    assert tree.list_page(start_after="zzz") == ([], [], "")


def test_start_after_and_prefix_both_hold(tree: Client) -> None:
    assert tree.list_page("dir/", start_after="dir/1").keys == ["dir/2", "dir/sub/x", "dir/sub/y"]
    assert tree.list_page("dir/", start_after="a").keys == tree.keys("dir/")
    assert tree.list_page("dir/", start_after="e").keys == []


def test_pages_go_on_from_where_start_after_began(tree: Client) -> None:
    first = tree.list_page(start_after="dir/1", max_keys=2)
    second = tree.list_page(token=first.token, max_keys=2)
    assert (first.keys, second.keys) == (["dir/2", "dir/sub/x"], ["dir/sub/y", "e"])


def test_an_object_written_between_pages_is_found_if_it_comes_later(client: Client) -> None:
    for key in "abcd":
        client.put(key, b"")
    first = client.list_page(max_keys=2)
    client.put("aa", b"")
    client.put("bb", b"")
    client.delete("c")
    assert client.list_page(token=first.token).keys == ["bb", "d"]


@pytest.mark.parametrize("size", [0, 1001])
def test_a_page_has_1_to_1000_keys(client: Client, size: int) -> None:
    with pytest.raises(Refused) as caught:
        client.list_page(max_keys=size)
    assert (caught.value.status, caught.value.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_bucket_larger_than_a_page_is_listed_whole(
    make_client: Callable[[str, str], Client], crowded_bucket: str, name: str
) -> None:
    client = make_client(name, crowded_bucket)
    pages = client.list_all("crowd/")
    assert [len(page.keys) for page in pages] == [1000, 1]
    assert [key for page in pages for key in page.keys] == [f"crowd/{number:04}" for number in range(1001)]
    assert client.list_page("crowd/1").keys == ["crowd/1000"]
    assert len(client.sizes_and_etags()) == 1001
