"""Multipart uploads: what they publish, when, and what they refuse."""

from __future__ import annotations

import hashlib
import random

import pytest
from contract.clients import Client, Part, Refused
from oracle.checksum import crc64_of

MIN_PART_BYTES = 102400
UNKNOWN_UPLOAD = "0123456789ABCDEF0123456789ABCDEF"

one, two, three = (random.Random(seed).randbytes(MIN_PART_BYTES + seed) for seed in (1, 2, 3))


def test_an_upload_joins_its_parts(client: Client) -> None:
    stored = client.put_in_parts("k", one, two, b"tail")
    whole = one + two + b"tail"
    assert client.get("k") == whole
    assert stored.crc64 == crc64_of(whole)
    assert client.head("k") == (len(whole), stored.etag, stored.crc64)


def test_the_etag_of_an_upload_tells_the_number_of_parts(client: Client) -> None:
    etag = client.put_in_parts("k", one, two, b"tail").etag
    digest, _, count = etag.partition("-")
    assert count == "3"
    assert len(digest) == 32
    assert digest == digest.upper()


def test_a_part_answers_the_md5_as_etag_and_the_crc64_of(client: Client) -> None:
    part = client.upload_part("k", client.create_upload("k"), 7, one)
    digest = hashlib.md5(one, usedforsecurity=False).hexdigest().upper()
    assert part == (7, digest, len(one), crc64_of(one))


def test_one_small_part_is_enough(client: Client) -> None:
    client.put_in_parts("k", b"x")
    assert client.get("k") == b"x"


def test_parts_may_arrive_in_any_order_and_leave_gaps(client: Client) -> None:
    upload_id = client.create_upload("k")
    parts = [client.upload_part("k", upload_id, number, body) for number, body in ((10000, b"z"), (3, one), (700, two))]
    client.complete_upload("k", upload_id, sorted(parts))
    assert client.get("k") == one + two + b"z"


def test_a_part_sent_again_replaces_the_first(client: Client) -> None:
    upload_id = client.create_upload("k")
    client.upload_part("k", upload_id, 1, one)
    parts = [client.upload_part("k", upload_id, 1, two), client.upload_part("k", upload_id, 2, b"tail")]
    client.complete_upload("k", upload_id, parts)
    assert client.get("k") == two + b"tail"


def test_parts_that_are_not_named_are_left_out(client: Client) -> None:
    upload_id = client.create_upload("k")
    parts = [client.upload_part("k", upload_id, number, body) for number, body in ((1, one), (2, two), (3, three))]
    client.complete_upload("k", upload_id, [parts[0], parts[2]])
    assert client.get("k") == one + three


def test_nothing_is_seen_before_an_upload_is_completed(client: Client) -> None:
    upload_id = client.create_upload("new")
    client.upload_part("new", upload_id, 1, one)
    assert client.keys() == []
    with pytest.raises(Refused) as caught:
        client.head("new")
    assert (caught.value.status, caught.value.code) == (404, "NoSuchKey")


def test_the_old_object_stays_until_an_upload_is_completed(client: Client) -> None:
    client.put("k", b"old")
    upload_id = client.create_upload("k")
    part = client.upload_part("k", upload_id, 1, one)
    assert client.get("k") == b"old"
    client.complete_upload("k", upload_id, [part])
    assert client.get("k") == one


def test_an_aborted_upload_leaves_nothing(client: Client) -> None:
    upload_id = client.create_upload("k")
    part = client.upload_part("k", upload_id, 1, one)
    client.abort_upload("k", upload_id)
    assert client.list_uploads() == []
    assert client.keys() == []
    for call in (
        lambda: client.upload_part("k", upload_id, 2, two),
        lambda: client.complete_upload("k", upload_id, [part]),
        lambda: client.list_parts("k", upload_id),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert (caught.value.status, caught.value.code) == (404, "NoSuchUpload")


def test_an_upload_that_never_was_is_no_such_upload(client: Client) -> None:
    for call in (
        lambda: client.upload_part("k", UNKNOWN_UPLOAD, 1, b"x"),
        lambda: client.complete_upload("k", UNKNOWN_UPLOAD, [Part(1, "0" * 32, 1, crc64_of(b"x"))]),
        lambda: client.list_parts("k", UNKNOWN_UPLOAD),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert (caught.value.status, caught.value.code) == (404, "NoSuchUpload")


def test_a_completed_upload_is_over(client: Client) -> None:
    upload_id = client.create_upload("k")
    part = client.upload_part("k", upload_id, 1, one)
    client.complete_upload("k", upload_id, [part])
    assert client.list_uploads() == []
    for call in (
        lambda: client.upload_part("k", upload_id, 2, two),
        lambda: client.complete_upload("k", upload_id, [part]),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert (caught.value.status, caught.value.code) == (404, "NoSuchUpload")
    assert client.get("k") == one


def test_an_upload_belongs_to_its_key(client: Client) -> None:
    upload_id = client.create_upload("k")
    with pytest.raises(Refused) as caught:
        client.upload_part("other", upload_id, 1, one)
    assert (caught.value.status, caught.value.code) == (404, "NoSuchUpload")


def test_only_the_last_part_may_be_small(client: Client) -> None:
    upload_id = client.create_upload("k")
    parts = [client.upload_part("k", upload_id, number, body) for number, body in ((1, one[:102399]), (2, two))]
    with pytest.raises(Refused) as caught:
        client.complete_upload("k", upload_id, parts)
    assert (caught.value.status, caught.value.code) == (400, "EntityTooSmall")
    assert client.keys() == []
    # the upload is still there, and can be put right
    parts[0] = client.upload_part("k", upload_id, 1, one[:102400])
    client.complete_upload("k", upload_id, parts)
    assert client.get("k") == one[:102400] + two


@pytest.mark.parametrize("wrong", ["etag", "number"])
def test_a_part_that_is_not_as_named_is_an_invalid_part(client: Client, wrong: str) -> None:
    upload_id = client.create_upload("k")
    part = client.upload_part("k", upload_id, 1, one)
    named = part._replace(etag="0" * 32) if wrong == "etag" else part._replace(number=2)
    with pytest.raises(Refused) as caught:
        client.complete_upload("k", upload_id, [named])
    assert (caught.value.status, caught.value.code) == (400, "InvalidPart")
    assert client.keys() == []


@pytest.mark.parametrize("number", [0, 10001])
def test_part_numbers_go_from_1_to_10000(client: Client, number: int) -> None:
    upload_id = client.create_upload("k")
    with pytest.raises(Refused) as caught:
        client.upload_part("k", upload_id, number, b"x")
    assert (caught.value.status, caught.value.code) == (400, "InvalidArgument")


def test_uploads_of_one_key_do_not_know_each_other(client: Client) -> None:
    first, second = client.create_upload("k"), client.create_upload("k")
    first_part = client.upload_part("k", first, 1, one)
    second_part = client.upload_part("k", second, 1, two)
    client.complete_upload("k", second, [second_part])
    assert client.get("k") == two
    client.complete_upload("k", first, [first_part])
    assert client.get("k") == one


def test_parts_are_listed_with_number_etag_and_size(client: Client) -> None:
    upload_id = client.create_upload("k")
    assert client.list_parts("k", upload_id) == []
    sent = [client.upload_part("k", upload_id, number, body) for number, body in ((9, one), (2, two), (400, b"tail"))]
    assert client.list_parts("k", upload_id) == [(part.number, part.etag, part.size) for part in sorted(sent)]


def test_pending_uploads_are_listed_by_key(client: Client) -> None:
    pending = [(key, client.create_upload(key)) for key in ("b", "a/ü+ %", "a/2", "b")]
    assert client.list_uploads() == sorted(pending)
    assert client.list_uploads("a/") == sorted(pending)[:2]
    assert client.list_uploads("c") == []
