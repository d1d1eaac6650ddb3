"""Objects that grow, which only oss2 can make."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import oss2
import pytest
from contract.clients import Client, Server


@pytest.fixture
def growing(server: Server, bucket: str) -> Iterator[oss2.Bucket]:
    session = oss2.Session()
    keys = server.credentials
    auth = oss2.AuthV4(keys.access_key_id, keys.access_key_secret)
    yield oss2.Bucket(auth, server.endpoint, bucket, session=session, region=server.region)
    session.session.close()


def test_an_object_grows_at_its_end(growing: oss2.Bucket) -> None:
    first = growing.append_object("log", 0, b"1234", init_crc=0)
    assert first.next_position == 4
    second = growing.append_object("log", 4, b"56789", init_crc=first.crc)
    assert (second.next_position, second.crc) == (9, 11051210869376104954)
    assert growing.get_object("log").read() == b"123456789"
    assert growing.head_object("log").object_type == "Appendable"


def test_a_wrong_position_is_refused_with_the_right_one(growing: oss2.Bucket) -> None:
    growing.append_object("log", 0, b"1234")
    for position in (0, 3, 5):
        with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as caught:
            growing.append_object("log", position, b"x")
        assert caught.value.next_position == 4
    assert growing.get_object("log").read() == b"1234"


def test_an_ordinary_object_does_not_grow(growing: oss2.Bucket) -> None:
    growing.put_object("k", b"1234")
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        growing.append_object("k", 4, b"56789")


def test_a_put_makes_it_an_ordinary_object_again(growing: oss2.Bucket) -> None:
    growing.append_object("log", 0, b"1234")
    growing.put_object("log", b"1234")
    assert growing.head_object("log").object_type == "Normal"


def test_every_client_reads_what_was_appended(
    growing: oss2.Bucket, client: Client, make_client: Callable[[str, str], Client]
) -> None:
    growing.append_object("log", 0, b"1234")
    growing.append_object("log", 4, b"56789")
    assert client.get("log") == b"123456789"
    assert client.get_range("log", 2, 6) == b"3456"
    assert client.head("log").size == 9
