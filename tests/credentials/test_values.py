"""Credentials show no secret and are never pickled; what they are made of is checked without showing it either."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.credentials import Credentials
from osstorchconnector.credentials.values import checked_credentials, expiry, spelled_moment
from osstorchconnector.errors import OssCredentialsError

NAMES = {name: name for name in ("access_key_id", "access_key_secret", "security_token", "expires_at")}
MOMENT = 1722611045  # 2024-08-02T15:04:05Z


def test_printing_credentials_shows_the_id_only() -> None:
    credentials = Credentials(access_key_id="LTAI", access_key_secret="CANARY-1", security_token="CANARY-2")
    assert "CANARY" not in f"{credentials} {credentials!r}"
    assert "LTAI" in repr(credentials)


def test_credentials_refuse_to_be_pickled() -> None:
    with pytest.raises(OssCredentialsError, match="never pickled"):
        pickle.dumps(Credentials(access_key_id="a", access_key_secret="b"))


@pytest.mark.parametrize(
    "value",
    [
        "2024-08-02T15:04:05Z",
        " 2024-08-02t15:04:05z ",
        "2024-08-02 15:04:05",
        "2024-08-02T15:04:05.123456789Z",
        "2024-08-02T23:04:05+08:00",
        "2024-08-02T10:34:05-0430",
        MOMENT,
        float(MOMENT),
        datetime(2024, 8, 2, 15, 4, 5, tzinfo=timezone.utc),
        datetime(2024, 8, 2, 17, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        datetime.fromisoformat("2024-08-02T15:04:05"),
    ],
    ids=str,
)
def test_a_moment_may_be_spelled_in_many_ways(value: object) -> None:
    assert expiry(value) == MOMENT


@pytest.mark.parametrize("value", [None, ""])
def test_no_expiration_means_never(value: object) -> None:
    assert expiry(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow",
        "2024-08-02",
        "2024-13-02T15:04:05Z",
        "2024-08-02T15:04:61Z",
        "2024-08-02T15:04:05+99:00",
        "٢٠٢٤-08-02T15:04:05Z",
        True,
        -1,
        float("nan"),
        float("inf"),
        10**400,
        [2024],
        b"2024-08-02T15:04:05Z",
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_moment_is_described(value: object) -> None:
    assert str(expiry(value)).startswith(("must be a time like", "is no moment in time"))


@given(st.datetimes(timezones=st.just(timezone.utc)).map(lambda moment: moment.replace(microsecond=0)))
def test_what_we_spell_we_read(moment: datetime) -> None:
    epoch_seconds = moment.timestamp()
    assert expiry(spelled_moment(epoch_seconds)) == epoch_seconds


def test_blanks_around_a_key_are_not_part_of_it() -> None:
    found = checked_credentials(
        {"access_key_id": " a\n", "access_key_secret": "\tb", "security_token": "c "}.get, NAMES
    )
    assert found == Credentials(access_key_id="a", access_key_secret="b", security_token="c")


def test_a_token_may_be_missing_or_null() -> None:
    for token in ({}, {"security_token": None}, {"security_token": ""}):
        found = checked_credentials({"access_key_id": "a", "access_key_secret": "b", **token}.get, NAMES)
        assert found == Credentials(access_key_id="a", access_key_secret="b")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "access_key_id is missing or empty"),
        ({"access_key_id": "a"}, "access_key_secret is missing or empty"),
        ({"access_key_id": "  ", "access_key_secret": "b"}, "access_key_id is missing or empty"),
        ({"access_key_id": 5, "access_key_secret": "b"}, "access_key_id must be a string, not int"),
        ({"access_key_id": "a", "access_key_secret": b"b"}, "access_key_secret must be a string, not bytes"),
        ({"access_key_id": "a", "access_key_secret": "b", "security_token": 0}, "security_token must be a string"),
        ({"access_key_id": "a", "access_key_secret": "b", "expires_at": "soon"}, "expires_at must be a time like"),
    ],
)
def test_what_is_wrong_is_named_in_words(values: dict[str, object], complaint: str) -> None:
    assert str(checked_credentials(values.get, NAMES)).startswith(complaint)


@pytest.mark.parametrize("field", ["access_key_id", "access_key_secret", "security_token"])
@pytest.mark.parametrize("letter", ["\r\n", "\0", " ", "\x7f", "\u00e9", "\u2028"])
def test_a_key_can_forge_no_header(field: str, letter: str) -> None:
    values: dict[str, object] = {"access_key_id": "a", "access_key_secret": "b", field: f"CANARY{letter}x"}
    found = checked_credentials(values.get, NAMES)
    assert isinstance(found, str)
    assert found.startswith(f"{field} holds a character that no key has")
    assert "CANARY" not in found
