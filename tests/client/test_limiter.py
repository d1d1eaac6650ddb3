"""Limits of requests in flight as they are measured, kept for the next pipeline, and shared with other processes."""

from __future__ import annotations

import logging
import multiprocessing

import pytest

from osstorchconnector.client import limiter as module
from osstorchconnector.client.concurrency import LEAST_LIMIT
from osstorchconnector.client.limiter import (
    FAR_FIRST_LIMITS,
    FIRST_LIMITS,
    LOOK_SECONDS,
    allowed_descriptors,
    limiter,
    transfer_limit,
    usable_cores,
)
from osstorchconnector.client.sharing import SharedState
from osstorchconnector.client.traffic import shared

SERVER = "http://server"


@pytest.fixture(autouse=True)
def nothing_is_known():
    module.forget()
    shared.forget()
    yield
    module.forget()
    shared.forget()


class Clocks:
    """A clock of the time, and one of the thread's CPU time."""

    def __init__(self) -> None:
        self.now, self.busy = 100.0, 0.0


def timed(clocks, configured="auto", kind="objects", known=None, **options):
    return limiter(
        SERVER,
        kind,
        configured,
        known or SharedState(),
        clock=lambda: clocks.now,
        busy_clock=lambda: clocks.busy,
        **options,
    )


def run(limit, clocks, seconds, *, busy_share=0.05, is_wanted=True):
    """Let a round's requests end in so many seconds."""
    limit.begin_round()
    clocks.now += seconds
    clocks.busy += busy_share * seconds
    limit.meter.finished = limit.meter.quota
    return limit.end_round(is_wanted=is_wanted)


def grown(known, clocks, **options):
    limit = timed(clocks, known=known, **options)
    for _ in range(2):
        assert run(limit, clocks, 0.035)
    return limit


def test_it_grows_as_long_as_the_rate_follows_and_tells_when_it_has():
    limit = grown(SharedState(), Clocks())
    assert limit.limit > 4 * FIRST_LIMITS["objects"]


def test_the_next_one_goes_on_where_the_last_one_ended():
    known, clocks = SharedState(), Clocks()
    first = grown(known, clocks)
    first.close()
    assert not run(first, clocks, 0.035), "it measures no more"
    assert limiter(SERVER, "objects", "auto", known).limit == first.limit
    assert limiter("http://other", "objects", "auto", SharedState()).limit == FIRST_LIMITS["objects"]
    assert limiter(SERVER, "lookups", "auto", known).limit == FIRST_LIMITS["lookups"]


def test_several_at_a_time_share_what_one_may_have():
    known, clocks = SharedState(), Clocks()
    one = grown(known, clocks)
    one.close()
    limits = [limiter(SERVER, "objects", "auto", known) for _ in range(64)]
    assert limits[-1].most < limits[0].most


def test_more_processes_have_less_each(monkeypatch):
    alone = limiter(SERVER, "objects", "auto", SharedState()).most
    module.forget()
    shares = limiter(SERVER, "objects", "auto", SharedState(), processes=32).most
    assert shares < alone
    module.forget()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "32")
    assert limiter(SERVER, "objects", "auto", SharedState()).most == shares


def settle(known, clocks):
    """Grow, and end start-up: the rate follows no more."""
    limit = grown(known, clocks)
    for _ in range(4):
        run(limit, clocks, 0.2)
    return limit


def learn(known):
    settle(known, Clocks())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_worker_learned_its_successors_begin_with(method):
    known = SharedState()
    child = multiprocessing.get_context(method).Process(target=learn, args=(known,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert known.learned("objects") > FIRST_LIMITS["objects"]
    assert limiter(SERVER, "objects", "auto", known).limit == known.learned("objects")
    assert (known.learned("uploads"), known.retries) == (0, 0)


def test_where_the_server_asks_to_slow_down_it_does_not_grow():
    clocks = Clocks()
    limit = timed(clocks)
    shared.gate(SERVER).refused(shared.gate(SERVER).steps)
    assert not run(limit, clocks, 0.035)
    assert limit.limit == FIRST_LIMITS["objects"]


def test_where_the_server_asks_to_slow_down_no_more_are_in_flight_than_its_rate_takes():
    clocks = Clocks()
    limit = grown(SharedState(), clocks)
    shared.gate(SERVER).refused(shared.gate(SERVER).steps)
    assert run(limit, clocks, 5.0)
    assert limit.limit == FIRST_LIMITS["objects"]
    assert not run(limit, clocks, 5.0)


def look(limit, clocks, *, busy_share):
    clocks.now += LOOK_SECONDS
    clocks.busy += busy_share * LOOK_SECONDS
    return limit.look()


def test_it_begins_with_more_where_no_answer_comes_though_the_thread_has_nothing_to_do():
    clocks = Clocks()
    limit = timed(clocks)
    assert limit.is_new
    looks = [look(limit, clocks, busy_share=share) for share in (0.0, 0.9, 0.5, 0.0)]
    assert looks == [False, False, False, True], "the first look only begins; one of a busy thread tells nothing"
    assert limit.limit == FAR_FIRST_LIMITS["objects"]
    assert not limit.is_new


@pytest.mark.parametrize(
    "options", [{"configured": 24}, {"kind": "lookups"}, {"kind": "uploads"}, {"processes": 10_000}], ids=str
)
def test_it_does_not_where_there_is_no_more_to_begin_with(options):
    assert not timed(Clocks(), **options).is_new


def test_many_processes_begin_with_no_more_than_their_share():
    clocks = Clocks()
    limit = timed(clocks, processes=16 * usable_cores())
    look(limit, clocks, busy_share=0.0)
    look(limit, clocks, busy_share=0.0)
    assert limit.limit <= limit.most
    assert not limit.is_new


def test_what_was_learned_is_not_looked_for_again():
    known, clocks = SharedState(), Clocks()
    known.learn("objects", 30)
    assert not timed(clocks, known=known).is_new


def test_more_may_be_in_flight_when_retries_were_saved():
    clocks = Clocks()
    limit = timed(clocks, retries=100)
    assert limit.most == 50
    for _ in range(5000):
        shared.gate(SERVER).accepted(0)
    run(limit, clocks, 0.035)
    assert limit.most == 100
    for _ in range(400):
        shared.budget(SERVER).spend(100)
    run(limit, clocks, 0.035)
    assert limit.most == LEAST_LIMIT


def test_a_slow_consumer_does_not_make_it_grow():
    clocks = Clocks()
    limit = timed(clocks)
    assert not run(limit, clocks, 0.035, is_wanted=False)
    assert limit.limit == FIRST_LIMITS["objects"]


def test_a_configured_number_stays_and_one_line_says_what_would_gain(caplog):
    caplog.set_level(logging.INFO, "osstorchconnector")
    clocks = Clocks()
    for _ in range(2):
        limit = timed(clocks, 24)
        for _ in range(6):
            run(limit, clocks, 0.035)
        assert limit.limit == 24
    (record,) = caplog.records
    assert "allows 24 requests in flight" in record.getMessage()
    assert '"auto"' in record.getMessage()


def test_large_reads_of_one_server_have_one_limit_and_a_number_its_own():
    assert transfer_limit(SERVER, "auto") is transfer_limit(SERVER, "auto")
    assert transfer_limit(SERVER, 5).limit == 5
    transfer_limit(SERVER, "auto").note(0.4, 8 << 20)
    assert transfer_limit(SERVER, "auto").limit > 24


def test_the_machine_says_what_it_has():
    assert usable_cores() >= 1
    assert allowed_descriptors() >= 1
