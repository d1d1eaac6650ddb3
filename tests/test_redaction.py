"""Secrets are masked, and what others wrote is escaped and cut."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.redaction import MASK, Secret, SecretBuffer, SecretBytes, keeper, printable, without


@pytest.mark.parametrize("secret", [Secret("CANARY"), SecretBytes(b"CANARY"), SecretBuffer(b"CANARY")])
def test_what_is_secret_is_itself_but_for_its_repr(secret: str | bytes | bytearray) -> None:
    plain = "CANARY" if isinstance(secret, str) else b"CANARY"
    assert secret == plain
    assert len(secret) == 6
    assert "CANARY" not in f"{secret!r} {[secret]} {(secret, {'x': secret})}"
    assert repr(pickle.loads(pickle.dumps(secret))) == repr(secret)
    assert MASK in repr(secret)


@pytest.mark.parametrize("secret", [Secret("CANARY" * 20), SecretBytes(b"CANARY" * 20)])
def test_a_part_of_what_is_secret_is_secret(secret: str | bytes) -> None:
    for part in (secret[:80], secret[6:], secret[::2], secret[3:4]):  # as rich cuts long texts before it shows them
        assert not any(letters in repr(part) for letters in ("CANARY", "CNR", "A"))
    assert secret[:6] == ("CANARY" if isinstance(secret, str) else b"CANARY")


def test_a_keeper_shows_nothing_of_what_it_keeps() -> None:
    kept = keeper({"secret": "CANARY"})
    assert "CANARY" not in repr(kept)
    assert kept() == {"secret": "CANARY"}


@given(st.text(), st.integers(3, 50))
def test_what_is_printable_is_one_line_of_bounded_length(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= 10 * most  # an escape has ten letters at most
    if text.isprintable() and len(text) <= most:
        assert shown == text


def test_secrets_in_what_others_say_are_masked() -> None:
    assert without("bad token T0KEN and T0KEN, key S3C", ["T0KEN", "S3C"]) == "bad token *** and ***, key ***"
    assert without("no secret", [""]) == "no secret"
