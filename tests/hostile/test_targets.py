"""Any bytes, and well-formed ones with a few bytes changed, where bytes from elsewhere come in."""

from __future__ import annotations

import pytest
from hostile.targets import TARGETS, run
from hypothesis import given, settings
from hypothesis import strategies as st

edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=6)), max_size=8)


def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Return `data` with some places cut out and others put in."""
    for position, cut, put in changes:
        start = position % (len(data) + 1)
        data = data[:start] + put + data[start + cut :]
    return data


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_are_taken_or_refused(name: str, data: bytes) -> None:
    run(name, data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=120)
def test_changed_bytes_are_taken_or_refused(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(TARGETS[name][1]))
    run(name, edited(seed, data.draw(edits)))


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_changes_start_from_is_taken_or_refused(name: str) -> None:
    for seed in TARGETS[name][1]:
        run(name, seed)
        run(name, seed * 50)
