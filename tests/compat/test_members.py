"""Members of tars as the client of 1.2.3 gives them: by bucket, keys and numbers."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from tar.conftest import index_of_bytes, tar_of

from osstorchconnector import OssClient, OssNotFoundError, OssTarError, OssUsageError
from osstorchconnector.testing import OssBucket

FILES = {f"{number}.txt": b"%d" % number * (number * 100) for number in range(6)}
ITEMS = list(FILES.items())


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    put(oss_bucket, "a", FILES)
    return OssClient(oss_bucket.endpoint, oss_bucket.cred_path, region=oss_bucket.region)


def put(bucket: OssBucket, name: str, files: dict[str, bytes]) -> None:
    bucket.put(f"{name}.tar", tar_of(files))
    bucket.put(f"{name}.idx", index_of_bytes(tar_of(files)))


def listed(bucket: OssBucket, client: OssClient, *arguments: Any, index: str = "a.idx") -> list[tuple[str, bytes]]:
    return [
        (found.key, found.read()) for found in client.list_objects_from_tar(bucket.name, "a.tar", index, *arguments)
    ]


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize(
    ("chunks", "sizes", "numbers"),
    [
        ([], [], range(6)),
        ([4, 0, 4], [], [4, 0, 4]),
        ([1], [3], [1, 2, 3]),
        ([4, 0], [9, 2], [4, 5, 0, 1]),
        ([2, 3], [0, 1], [3]),
    ],
)
def test_all_members_or_some_or_chunks_of_them(
    oss_bucket: OssBucket, client: OssClient, chunks: list[int], sizes: list[int], numbers: list[int], prefetch: bool
) -> None:
    assert listed(oss_bucket, client, chunks, sizes, prefetch) == [ITEMS[number] for number in numbers]


def test_a_member_has_what_an_object_has(oss_bucket: OssBucket, client: OssClient) -> None:
    for found in (
        client.get_object(oss_bucket.name, "a.tar", 3, 3, "a.idx"),
        next(client.list_objects_from_tar(oss_bucket.name, "a.tar", "a.idx", [3])),
    ):
        assert (found.key, found.label, found.size, found.err(), found.error_msg()) == ("3.txt", "3", 300, 0, "")
        assert (found.read(), found.seek(0), found.copy().read()) == (FILES["3.txt"], 0, FILES["3.txt"])


def test_without_an_index_the_headers_are_read(oss_bucket: OssBucket, client: OssClient) -> None:
    assert listed(oss_bucket, client, [5, 1], index="") == [ITEMS[5], ITEMS[1]]
    with pytest.raises(OssNotFoundError, match=r"none\.idx"):
        listed(oss_bucket, client, index="none.idx")


def test_the_index_is_read_once_for_members_and_again_if_the_tar_is_replaced(
    oss_bucket: OssBucket, client: OssClient
) -> None:
    def member(number: int) -> bytes:
        return client.get_object(oss_bucket.name, "a.tar", number, 3, "a.idx").read()

    assert member(5) == FILES["5.txt"]
    oss_bucket.server.reset_counters()
    assert [member(number) for number in range(6)] == list(FILES.values())
    assert len(oss_bucket.server.counters().log) == 6
    put(oss_bucket, "a", {"else": b"else", **FILES})
    assert (member(0), member(1)) == (b"else", FILES["0.txt"])
    twin = pickle.loads(pickle.dumps(client))
    assert twin.get_object(oss_bucket.name, "a.tar", 1, 3, "a.idx").key == "0.txt"


def test_the_indexes_of_a_few_tars_are_kept(oss_bucket: OssBucket, client: OssClient) -> None:
    for number in range(20):
        put(oss_bucket, f"t{number}", {f"{number}": b"%d" % number})
    for number in [*range(20), *range(20)]:
        found = client.get_object(oss_bucket.name, f"t{number}.tar", 0, 3, f"t{number}.idx")
        assert found.read() == b"%d" % number


def test_a_number_that_no_member_has(oss_bucket: OssBucket, client: OssClient) -> None:
    arguments = (oss_bucket.name, "a.tar", "a.idx", [6, 1, 7], [], True)
    with pytest.raises(OssTarError, match=r"a\.tar has no member 6: there are 6"):
        list(client.list_objects_from_tar(*arguments))
    with pytest.raises(OssTarError, match="no member 6"):
        client.get_object(oss_bucket.name, "a.tar", 6, 3, "a.idx")
    first, second, third = client.list_objects_from_tar(*arguments, include_errors=True)
    assert (first.err(), first.key, first.label, second.read(), third.key) == (5, "6", "6", ITEMS[1][1], "7")
    assert "no member 6" in first.error_msg()
    with pytest.raises(OssTarError, match="no member 7"):
        pickle.loads(pickle.dumps(third)).read()


def test_a_member_that_can_not_be_read_stands_for_its_error(oss_bucket: OssBucket, client: OssClient) -> None:
    tar = bytearray(tar_of(FILES))
    tar[512 + 10] ^= 1  # in the header of member 1
    oss_bucket.put("a.tar", bytes(tar))
    found = list(client.list_objects_from_tar(oss_bucket.name, "a.tar", "a.idx", include_errors=True))
    assert [each.err() for each in found[1:3]] == [5, 0]
    assert "the member at byte" in found[1].error_msg()
    with pytest.raises(OssTarError, match="the member at byte"):
        listed(oss_bucket, client)


@pytest.mark.parametrize(("chunks", "sizes"), [([1, 2], [1]), ([], [1]), ([-1], []), ([1], [-1])])
def test_numbers_that_make_no_sense(oss_bucket: OssBucket, client: OssClient, chunks: Any, sizes: Any) -> None:
    with pytest.raises(OssUsageError, match="chunks"):
        client.list_objects_from_tar(oss_bucket.name, "a.tar", "a.idx", chunks, sizes)
    with pytest.raises(OssUsageError, match="negative"):
        client.get_object(oss_bucket.name, "a.tar", -1, 3, "a.idx")


def test_a_client_packs_a_tar(oss_bucket: OssBucket, client: OssClient) -> None:
    oss_bucket.put("in/x", b"x")
    tar, index = oss_bucket.uri + "new.tar", oss_bucket.uri + "new.idx"
    assert client.gen_tar_archive(tar, index, oss_bucket.uri + "in/") == 0
    assert client.gen_tar_archive(tar, oss_bucket.uri + "again.idx", "", True) == 0
    for key in ("new.idx", "again.idx"):
        (found,) = client.list_objects_from_tar(oss_bucket.name, "new.tar", key)
        assert (found.key, found.read()) == (f"/{oss_bucket.name}/in/x", b"x")
