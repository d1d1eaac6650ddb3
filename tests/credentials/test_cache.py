"""Credentials are fetched early enough and not too often, by one thread, and kept while they are good."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import pytest
from scripts import run_python

from osstorchconnector.credentials import Credentials, CredentialsCache, CredentialsSource
from osstorchconnector.credentials.sources import FileCredentials
from osstorchconnector.errors import OssCredentialsError


def keys(number: int, expires_at: float | None = None) -> Credentials:
    return Credentials(access_key_id=f"id-{number}", access_key_secret=f"CANARY-{number}", expires_at=expires_at)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scripted(CredentialsSource):
    """Gives `answer`, an error if it is a text; counts how often it is asked, and tells its `version` if it has one."""

    def __init__(self, answer: Credentials | str, version: Hashable = None) -> None:
        self.answer, self.version, self.fetches, self.marks = answer, version, 0, 0

    def fetch(self) -> Credentials:
        self.fetches += 1
        if isinstance(self.answer, str):
            raise OssCredentialsError(self.answer)
        return self.answer

    def mark(self) -> Hashable:
        self.marks += 1
        return self.version

    def __str__(self) -> str:
        return "the script"


def ask(cache: CredentialsCache) -> Credentials:
    """Do as the client does before each request."""
    return cache.current() or cache.refresh()


def fetches_over(cache: CredentialsCache, source: Scripted, clock: Clock, seconds: int) -> list[float]:
    """Ask ten times a second; return when the source was asked."""
    begin, moments = clock.now, []
    for tick in range(seconds * 10):
        clock.now = begin + tick / 10
        before = source.fetches
        ask(cache)
        if source.fetches > before:
            moments.append(clock.now - begin)
    return moments


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_fetched_before_it_is_needed(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    assert (cache.current(), source.fetches) == (None, 0)
    assert (cache.refresh(), cache.current(), source.fetches) == (keys(1), keys(1), 1)


def test_the_source_is_looked_at_once_a_second_however_many_ask(clock: Clock) -> None:
    source = Scripted(keys(1), version=1)
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    looks = source.marks
    assert fetches_over(cache, source, clock, 5) == []
    assert source.marks - looks == 4


def test_a_change_of_the_source_is_taken_over_within_a_second(clock: Clock) -> None:
    source = Scripted(keys(1), version=1)
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    source.answer, source.version = keys(2), 2
    clock.now += 0.9
    assert ask(cache) == keys(1)
    clock.now += 0.1
    assert ask(cache) == keys(2)


def test_one_caller_fetches_the_change_and_the_others_go_on_meanwhile(clock: Clock) -> None:
    source = Scripted(keys(1), version=1)
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    source.answer, source.version = keys(2), 2
    clock.now += 1
    assert [cache.current() for _ in range(3)] == [None, keys(1), keys(1)]


def test_a_source_that_tells_no_change_is_asked_every_minute(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    assert fetches_over(cache, source, clock, 130) == [60, 120]


def test_before_they_expire_credentials_are_fetched_until_the_new_ones_are_there(clock: Clock) -> None:
    source = Scripted(keys(1, clock.now + 400))
    cache = CredentialsCache(source, clock=clock, chance=lambda: 0)
    ask(cache)
    assert fetches_over(cache, source, clock, 125) == [100, 110, 120]
    source.answer = keys(2, clock.now + 4000)
    assert fetches_over(cache, source, clock, 60) == pytest.approx([5.1])
    assert cache.current() == keys(2, source.answer.expires_at)


@pytest.mark.parametrize(("chance", "first"), [(0.0, 100), (0.5, 70), (1.0, 40)])
def test_processes_of_a_job_begin_to_fetch_at_different_moments(clock: Clock, chance: float, first: int) -> None:
    source = Scripted(keys(1, clock.now + 400))
    cache = CredentialsCache(source, clock=clock, chance=lambda: chance)
    ask(cache)
    assert fetches_over(cache, source, clock, 101)[0] == first


def test_expired_credentials_are_never_used(clock: Clock) -> None:
    source = Scripted(keys(1, clock.now + 0.5), version=1)
    cache = CredentialsCache(source, clock=clock)
    assert ask(cache) == source.answer
    clock.now += 0.5
    assert cache.current() is None
    with pytest.raises(OssCredentialsError, match="the credentials from the script expired at 1970-01-01T00:16:40Z"):
        cache.refresh()
    source.answer = keys(2)
    assert ask(cache) == keys(2)


def test_an_expired_answer_does_not_replace_credentials_that_are_valid(clock: Clock) -> None:
    source = Scripted(keys(1), version=1)
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    source.answer, source.version = keys(2, clock.now - 1), 2
    clock.now += 1
    assert ask(cache) == keys(1)


def test_a_source_that_fails_leaves_valid_credentials_in_force_and_warns_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    source = Scripted(keys(1, clock.now + 100), version=1)
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    source.answer, source.version = "the script is broken", 2
    assert fetches_over(cache, source, clock, 4) == [1, 2, 3]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "the script is broken; the credentials read before stay in use"
    clock.now = 1100
    with pytest.raises(OssCredentialsError, match="the script is broken"):
        ask(cache)
    source.answer = keys(2)
    assert ask(cache) == keys(2)
    source.answer, source.version = "broken again", 3
    clock.now += 1
    assert ask(cache) == keys(2)
    assert len(caplog.records) == 2


def test_a_clock_that_is_set_back_puts_no_check_off(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    clock.now -= 500
    assert ask(cache) == keys(1)
    assert source.fetches == 2


def test_refused_credentials_are_fetched_anew_once_for_all_who_were_refused(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    source.answer = keys(2)
    clock.now += 5
    assert [cache.refresh(rejected=keys(1)) for _ in range(3)] == [keys(2)] * 3
    assert source.fetches == 2


def test_refused_credentials_come_again_while_the_source_has_no_others(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    clock.now += 5
    assert [cache.refresh(rejected=keys(1)) for _ in range(3)] == [keys(1)] * 3
    assert source.fetches == 2
    clock.now += 1
    cache.refresh(rejected=keys(1))
    assert source.fetches == 3


def test_a_failing_source_answers_a_refusal_with_what_is_still_valid(clock: Clock) -> None:
    source = Scripted(keys(1))
    cache = CredentialsCache(source, clock=clock)
    ask(cache)
    clock.now += 5
    source.answer = "gone"
    assert cache.refresh(rejected=keys(1)) == keys(1)


class Gate(CredentialsSource):
    """A source whose first `fetch` waits until all other threads wait for its answer."""

    def __init__(self, answer: Credentials | str, waiting: Callable[[], bool]) -> None:
        self.answer, self.waiting, self.fetches = answer, waiting, 0

    def fetch(self) -> Credentials:
        self.fetches += 1
        while self.fetches == 1 and not self.waiting():
            os.sched_yield()
        if isinstance(self.answer, str):
            raise OssCredentialsError(self.answer)
        return self.answer

    def __str__(self) -> str:
        return "the gate"


def outcomes_of_threads(answer: Credentials | str) -> tuple[list[str], int]:
    """Return what eight threads get that all ask during one fetch, and the number of fetches."""
    outcomes: list[str] = []
    threads: list[threading.Thread] = []

    def held_back() -> Iterator[bool]:
        frames = sys._current_frames()
        for thread in threads:
            frame = frames.get(thread.ident or 0)
            asks = frame is not None and frame.f_code is CredentialsCache.refresh.__code__
            yield asks and "flights" in frame.f_locals

    def refresh() -> None:
        try:
            outcomes.append(str(cache.refresh()))
        except OssCredentialsError as error:
            outcomes.append(str(error))

    # All but the one that is inside `fetch` have come as far as they can.
    gate = Gate(answer, lambda: len(threads) == 8 and sum(held_back()) == 7)
    cache = CredentialsCache(gate)
    for _ in range(8):
        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return outcomes, gate.fetches


@pytest.mark.parametrize("answer", [keys(1), "the gate is closed"])
def test_threads_that_ask_at_once_share_one_fetch_and_its_outcome(answer: Credentials | str) -> None:
    told = f"{answer} (docs/credentials.md)" if isinstance(answer, str) else str(answer)
    assert outcomes_of_threads(answer) == ([told] * 8, 1)


FORK_DURING_REFRESH = """
import os, sys, threading
from osstorchconnector.credentials import Credentials, CredentialsCache, CredentialsSource

class Source(CredentialsSource):
    def fetch(self):
        if os.getpid() == parent:
            inside.set()
            ended.wait()
        return Credentials(access_key_id="a", access_key_secret="b")
    def __str__(self):
        return "a source"

parent, inside, ended = os.getpid(), threading.Event(), threading.Event()
cache = CredentialsCache(Source())
thread = threading.Thread(target=cache.refresh)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    os._exit(0 if cache.refresh().access_key_id == "a" else 1)
_, status = os.waitpid(child, 0)
ended.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_forked_during_a_fetch_fetches_for_itself() -> None:
    run_python("-c", FORK_DURING_REFRESH)


THREADS_ASK_AT_ONCE_AFTER_FORK = """
import os, sys, threading
from osstorchconnector.credentials import Credentials, CredentialsCache, CredentialsSource

class Source(CredentialsSource):
    def fetch(self):
        return Credentials(access_key_id="a", access_key_secret="b")
    def __str__(self):
        return "a source"

def ask(cache, begin, given):
    begin.wait()
    given.append(cache.refresh().access_key_id)

sys.setswitchinterval(1e-6)
caches = [CredentialsCache(Source()) for _ in range(400)]
for cache in caches:
    cache.refresh()
child = os.fork()
if child == 0:
    given = []
    for cache in caches:
        begin = threading.Barrier(4)
        threads = [threading.Thread(target=ask, args=(cache, begin, given)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os._exit(0 if given == ["a"] * 1600 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_threads_of_a_forked_child_that_ask_at_once_all_get_credentials() -> None:
    run_python("-c", THREADS_ASK_AT_ONCE_AFTER_FORK)


def test_a_rotated_file_is_taken_over_and_a_half_written_one_is_not(clock: Clock, tmp_path: Path) -> None:
    """The whole way, with a real file: rotation by rename, by rewriting, and caught in between."""

    def text(number: int) -> str:
        return f'{{"AccessKeyId": "id-{number}", "AccessKeySecret": "CANARY-{number}"}}'

    path = tmp_path / "credentials"
    path.write_text(text(1))
    cache = CredentialsCache(FileCredentials(path, sleep=lambda _: None), clock=clock)
    taken = [ask(cache)]
    (tmp_path / "next").write_text(text(2))
    (tmp_path / "next").replace(path)
    for content in (text(2), text(3)[:20], "", text(3)):
        path.write_text(content)
        clock.now += 1
        taken.append(ask(cache))
    path.unlink()
    clock.now += 1
    taken.append(ask(cache))
    path.write_text(text(4))
    clock.now += 1
    taken.append(ask(cache))
    assert [each.access_key_id for each in taken] == ["id-1", "id-2", "id-2", "id-2", "id-3", "id-3", "id-4"]


class Hanging(Scripted):
    """A source that hangs from the moment when `hangs` is set, in its mark or in its fetch, until `go` is."""

    def __init__(self, answer: Credentials, *, where: str) -> None:
        super().__init__(answer, version=1)
        self.where, self.hangs, self.go = where, False, threading.Event()

    def fetch(self) -> Credentials:
        self._wait("fetch")
        return super().fetch()

    def mark(self) -> Hashable:
        self._wait("mark")
        return super().mark()

    def _wait(self, where: str) -> None:
        if self.hangs and where == self.where:
            self.go.wait(30)


def once_it_answers(cache: CredentialsCache) -> Credentials:
    """Return what the source gives; the thread that hung may take longer to come back than the cache is patient."""
    while True:
        with contextlib.suppress(OssCredentialsError):
            return cache.refresh()


@pytest.fixture(params=["mark", "fetch"])
def hanging(request: pytest.FixtureRequest) -> Iterator[Hanging]:
    source = Hanging(keys(1), where=request.param)
    yield source
    source.go.set()


def test_a_source_that_hangs_from_the_start_is_an_error_that_names_it(clock: Clock, hanging: Hanging) -> None:
    hanging.hangs = True
    cache = CredentialsCache(hanging, clock=clock, patience_seconds=0.05)
    for _ in range(2):
        with pytest.raises(OssCredentialsError, match="the credentials from the script: no answer within 0.05 s"):
            cache.refresh()
    hanging.go.set()
    assert once_it_answers(cache) == keys(1)


def test_a_long_wait_for_the_first_credentials_is_told_and_so_is_its_end(
    clock: Clock, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    hanging.hangs = True
    caplog.set_level(logging.WARNING, "osstorchconnector")
    told = logging.Handler()
    told.emit = lambda _: hanging.go.set()  # type: ignore[method-assign]
    logger = logging.getLogger("osstorchconnector.credentials.cache")
    logger.addHandler(told)
    try:
        assert CredentialsCache(hanging, clock=clock, news_seconds=0.01).refresh() == keys(1)
    finally:
        logger.removeHandler(told)
    assert caplog.messages == [
        "waiting for the credentials from the script: no answer for 0.01 s",
        "it goes on: the credentials from the script have come",
    ]


def test_a_source_that_hangs_later_delays_nobody_while_what_it_gave_is_good(clock: Clock, hanging: Hanging) -> None:
    cache = CredentialsCache(hanging, clock=clock, patience_seconds=30, short_patience_seconds=0.01)
    ask(cache)
    hanging.hangs, hanging.version, hanging.answer = True, 2, keys(2)
    for _ in range(5):
        clock.now += 1
        assert ask(cache) == keys(1)
        cache._short_patience = 30  # once is enough: nobody waits for it any more
    hanging.go.set()
    clock.now += 1
    while ask(cache) != keys(2):  # as soon as the thread that hung has come back
        clock.now += 1


def test_who_asks_while_another_waits_is_not_kept_waiting(clock: Clock, hanging: Hanging) -> None:
    cache = CredentialsCache(hanging, clock=clock, patience_seconds=30, short_patience_seconds=30)
    ask(cache)
    hanging.hangs, hanging.version = True, 2
    clock.now += 1
    assert cache.current() is None
    waiting = threading.Thread(target=cache.refresh)
    waiting.start()
    while cache._turns.lock.acquire(blocking=False):
        cache._turns.lock.release()
    assert cache.refresh() == keys(1)
    hanging.go.set()
    waiting.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_nobody_writes_to_is_an_error_in_time(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    cache = CredentialsCache(FileCredentials(path), patience_seconds=0.05)
    with pytest.raises(OssCredentialsError, match=f"the credential file {path}: no answer within"):
        cache.refresh()
    with path.open("w") as pipe:  # the one who hangs reads it
        pipe.write('{"AccessKeyId": "id", "AccessKeySecret": "CANARY"}')
    assert once_it_answers(cache).access_key_id == "id"
