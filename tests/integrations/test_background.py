"""Work beside training: in order, few at a time, no error lost."""

from __future__ import annotations

import pickle
import threading

import pytest

from osstorchconnector.integrations.background import Background


def test_calls_are_made_in_order_in_one_other_thread() -> None:
    background, made = Background("beside"), list[tuple[int, str]]()
    for number in range(20):
        background.begin(lambda number=number: made.append((number, threading.current_thread().name)))
    background.close()
    assert [number for number, _ in made] == list(range(20))
    assert {name for _, name in made} == {"beside_0"}


def test_waiting_leaves_as_many_calls_as_allowed() -> None:
    background, gate, made = Background("beside"), threading.Event(), list[int]()
    background.begin(made.append, 1)
    background.begin(gate.wait)
    background.wait(left=1)  # the one that waits for the gate may stay
    assert made == [1]
    gate.set()
    background.wait()


def test_each_error_is_raised_once_and_the_calls_after_it_are_made() -> None:
    background, made = Background("beside"), list[int]()
    background.begin(int, "one")
    background.begin(made.append, 2)
    background.begin(int, "three")
    with pytest.raises(ValueError, match="one"):
        background.wait()
    assert background.has_failed
    with pytest.raises(ValueError, match="three"):
        background.wait()
    assert made == [2] and not background.has_failed
    background.wait()


def test_calls_behind_one_that_failed_see_that_before_its_error_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the removal of the last good checkpoint is made, although the new one could not be stored."""
    background, gate, seen = Background("beside"), threading.Event(), list[bool]()
    background.begin(int, "one")
    background.begin(gate.wait)
    background.begin(lambda: seen.append(background.has_failed))
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(ValueError, match="one"):
        background.wait(left=2)
    assert seen == [True]
    assert "beside: what was to be stored while training goes on has failed: invalid literal" in caplog.text


def test_it_goes_on_after_close() -> None:
    background, made = Background("beside"), list[int]()
    background.begin(int, "one")
    with pytest.raises(ValueError, match="one"):
        background.close()
    background.begin(made.append, 2)
    background.close()
    assert made == [2]


def test_a_copy_has_no_calls() -> None:
    background, gate = Background("beside"), threading.Event()
    background.begin(gate.wait)
    pickle.loads(pickle.dumps(background)).wait()
    gate.set()
    background.close()
