"""How the pages of a prefix are listed: as many requests as pages where OSS is near, few more where it is far."""

from __future__ import annotations

import pytest

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.listing import PrefixPages
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 12_000, b"x")
    oss_bucket.server.fill(oss_bucket.name, "two/{:05}", 1500, b"x")
    return OssClient(**oss_bucket.options)


def listed(client: OssClient, bucket: OssBucket, prefix: str, *, is_far: bool, start_after: str = "") -> list[str]:
    """List a prefix, as if OSS were near or far."""
    uri = OssUri(bucket.name, prefix)
    pages = PrefixPages(client, uri, start_after=start_after, is_distance=lambda waited, read: is_far).pages(8)
    found, tokens = [], []
    for page in pages:
        found += page.keys
        tokens.append(bool(page.next_token))
    assert tokens == [True] * (len(tokens) - 1) + [False]
    return found


@pytest.mark.parametrize(("is_far", "most"), [(False, 12), (True, 12 + 1 + 4 + 1)])
def test_many_keys_come_in_order_near_and_far(
    client: OssClient, oss_bucket: OssBucket, is_far: bool, most: int
) -> None:
    names = [f"many/{number:05}" for number in range(12_000)]
    assert listed(client, oss_bucket, "many/", is_far=is_far) == names
    counters = oss_bucket.server.counters()
    assert 12 <= counters.requests["ListObjectsV2"] <= most
    assert listed(client, oss_bucket, "many/", is_far=is_far, start_after=names[4321]) == names[4322:]


@pytest.mark.parametrize("is_far", [False, True])
def test_two_pages_are_two_requests_and_none_is_one(client: OssClient, oss_bucket: OssBucket, is_far: bool) -> None:
    assert len(listed(client, oss_bucket, "two/", is_far=is_far)) == 1500
    assert listed(client, oss_bucket, "none/", is_far=is_far) == []
    assert oss_bucket.server.counters().requests["ListObjectsV2"] == 3


@pytest.mark.parametrize("is_far", [False, True])
def test_a_listing_that_nobody_reads_to_the_end_stops(client: OssClient, oss_bucket: OssBucket, is_far: bool) -> None:
    uri = OssUri(oss_bucket.name, "many/")
    for count in range(1, 6):
        pages = PrefixPages(client, uri, is_distance=lambda waited, read: is_far).pages(8)
        for _ in range(count):
            next(pages)
        pages.close()
    assert oss_bucket.server.counters().requests["ListObjectsV2"] <= 5 * 12
    assert len(listed(client, oss_bucket, "many/", is_far=is_far)) == 12_000


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_an_error_of_a_page_is_the_listing_s_error(client: OssClient, oss_bucket: OssBucket, after: int) -> None:
    oss_bucket.server.fail("ListObjectsV2", "NoSuchBucket", after=after)
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        listed(client, oss_bucket, "many/", is_far=True)
