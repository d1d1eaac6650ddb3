from __future__ import annotations

from osstorchconnector.dcp.fetching import FIRST_HELD_BYTES, HeldBytes

MOST_BYTES = 96 << 20


def after(rounds: int, waited_seconds: float, worked_seconds: float, most_bytes: int = MOST_BYTES) -> int:
    held = HeldBytes(most_bytes)
    for _ in range(rounds):
        held.note(waited_seconds=waited_seconds, worked_seconds=worked_seconds)
    return held.limit_bytes


def test_few_bytes_are_asked_for_while_they_come_as_fast_as_they_are_copied() -> None:
    assert after(1000, waited_seconds=0.002, worked_seconds=0.002) == FIRST_HELD_BYTES


def test_more_are_asked_for_where_they_take_long_to_come() -> None:
    assert FIRST_HELD_BYTES < after(8, waited_seconds=0.05, worked_seconds=0.002) < MOST_BYTES
    assert after(1000, waited_seconds=0.05, worked_seconds=0.002) == MOST_BYTES


def test_never_more_than_allowed() -> None:
    assert after(0, 0.05, 0.002, most_bytes=5_000_000) == 5_000_000
    assert after(1000, 0.05, 0.002, most_bytes=5_000_000) == 5_000_000


def test_one_late_answer_is_no_reason_to_ask_for_more() -> None:
    held = HeldBytes(MOST_BYTES)
    held.note(waited_seconds=0.02, worked_seconds=0.002)
    for _ in range(100):
        held.note(waited_seconds=0.0, worked_seconds=0.002)
    assert held.limit_bytes == FIRST_HELD_BYTES
