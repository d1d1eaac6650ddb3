"""The retries of a whole process."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.traffic import EARNED_PER_SUCCESS, RetryBudget, shared


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20))
def test_retries_stay_within_a_fifth_of_the_successes_plus_the_limit(story: list[bool], limit: int) -> None:
    budget = RetryBudget()
    successes = retries = 0
    for is_success in story:
        if is_success:
            successes += 1
            budget.earn()
        elif budget.spend(limit):
            retries += 1
        assert retries <= limit + EARNED_PER_SUCCESS * successes + 1e-6


def test_what_is_owed_is_earned_back() -> None:
    budget = RetryBudget()
    assert [budget.spend(1), budget.spend(1)] == [True, False]
    for _ in range(5):
        budget.earn()
    assert [budget.spend(1), budget.spend(1)] == [True, False]


def test_a_child_begins_with_a_budget_of_its_own() -> None:
    server = "http://host:1"
    before, gate = shared.budget(server), shared.gate(server)
    pid = os.fork()
    if not pid:
        os._exit(shared.budget(server) is before or shared.gate(server) is gate)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.budget(server) is before and shared.gate(server) is gate


def test_each_server_has_a_budget_of_its_own_and_one_for_all_clients() -> None:
    one, other = shared.budget("http://one:80"), shared.budget("http://other:80")
    assert one.spend(1) and not one.spend(1)
    assert other.spend(1)
    assert shared.budget("http://one:80") is one
    shared.forget()
    assert one.debt == other.debt == 0
