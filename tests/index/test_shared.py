from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.errors import OssError, OssNotFoundError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.shared import SharedIndex
from osstorchconnector.index.shared_file import Wait

FORK = multiprocessing.get_context("fork")


class Numbers:
    """A source of keys "0", "1", ...; each asking is one line in a journal, whatever process asks."""

    def __init__(self, count: int, journal: Path, *, batch_rows: int = 10, skipped: int = 0) -> None:
        self.count, self.journal, self.batch_rows, self.skipped = count, journal, batch_rows, skipped

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        start = int(cursor or 0)
        while start < self.count:
            with self.journal.open("a") as journal:
                journal.write(f"{start}\n")
            self.at(start)
            stop = min(start + self.batch_rows, self.count)
            keys = list(map(str, range(start, stop)))
            yield Batch("bucket/", keys, [7] * len(keys), None, str(stop).encode(), self.skipped)
            start = stop

    def at(self, start: int) -> None:
        """Called before the rows from `start` are given."""

    def asked(self) -> list[int]:
        return list(map(int, self.journal.read_text().split()))


class Gated(Numbers):
    """Gives the rows from `gate` on only after `open` was called; tells by `reached` that it is there."""

    def __init__(self, count: int, journal: Path, *, gate: int) -> None:
        super().__init__(count, journal)
        self.gate, self.is_open = gate, False
        self.opened, self.reached = os.pipe(), os.pipe()

    def at(self, start: int) -> None:
        if start >= self.gate and not self.is_open:
            os.write(self.reached[1], b"x")
            self.is_open = bool(os.read(self.opened[0], 1))

    def opens(self) -> None:
        os.write(self.opened[1], b"any number of readers")

    def is_reached(self) -> None:
        os.read(self.reached[0], 1)


class Breaking(Numbers):
    """Fails at row 20 as long as a file says how."""

    def at(self, start: int) -> None:
        how = self.journal.with_suffix(".how")
        if start == 20 and how.exists():
            raise {"oss": OssNotFoundError, "foreign": LookupError}[how.read_text()]("row 20 is not there")

    def breaks(self, how: str) -> None:
        self.journal.with_suffix(".how").write_text(how)

    def is_mended(self) -> None:
        self.journal.with_suffix(".how").unlink()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tables"
    path.mkdir()
    return path


@pytest.fixture
def shared(folder: Path) -> Callable[[Numbers], SharedIndex]:
    return lambda source: SharedIndex(source, folder=str(folder))


Shared = Callable[[Numbers], SharedIndex]


def numbers(infos: Iterator[ObjectInfo]) -> list[int]:
    return [int(info.uri.key) for info in infos]


@contextlib.contextmanager
def in_child(work: Callable[[Connection], None]) -> Iterator[tuple[Connection, Any]]:
    """Run `work` in a forked process with one end of a pipe; yield the other end and the process."""
    here, there = FORK.Pipe()
    child = FORK.Process(target=work, args=(there,))
    child.start()
    there.close()
    try:
        yield here, child
    finally:
        if here.poll(0) or child.is_alive():
            child.kill()
        child.join()


def test_rows_come_in_order_and_the_source_is_asked_once(shared: Shared, journal: Path) -> None:
    source = Numbers(95, journal)
    index = shared(source)
    assert [numbers(index.items()) for _ in range(2)] == [list(range(95))] * 2
    assert index.count() == 95
    assert index.info(94) == ObjectInfo(index.info(94).uri, 7)
    assert source.asked() == list(range(0, 95, 10))


def test_an_empty_source_makes_an_empty_index(shared: Shared, journal: Path) -> None:
    index = shared(Numbers(0, journal))
    assert list(index.items()) == []
    assert index.count() == 0


def test_the_first_rows_are_out_before_the_listing_is_done(shared: Shared, journal: Path) -> None:
    source = Gated(30, journal, gate=10)
    infos = shared(source).items()
    assert [next(infos).uri.key for _ in range(10)] == list(map(str, range(10)))
    source.opens()
    assert numbers(infos) == list(range(10, 30))


def test_several_iterators_at_once_read_one_listing(shared: Shared, journal: Path) -> None:
    source = Numbers(50, journal)
    index = shared(source)
    assert [(int(a.uri.key), int(b.uri.key)) for a, b in zip(index.items(), index.items(), strict=True)] == [
        (number, number) for number in range(50)
    ]
    assert source.asked() == list(range(0, 50, 10))


def test_threads_share_one_listing(shared: Shared, journal: Path) -> None:
    source = Numbers(300, journal)
    index, found = shared(source), {}
    threads = [
        threading.Thread(target=lambda share=share: found.update({share: numbers(index.items(share, 4))}))
        for share in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {share: list(range(share, 300, 4)) for share in range(4)}
    assert source.asked() == list(range(0, 300, 10))


def test_copies_are_the_same_table(shared: Shared, journal: Path) -> None:
    source = Numbers(50, journal)
    index = shared(source)
    copies = [pickle.loads(pickle.dumps(index)) for _ in range(2)]
    assert [numbers(copy.items()) for copy in (index, *copies)] == [list(range(50))] * 3
    assert source.asked() == list(range(0, 50, 10))


def test_processes_share_one_listing(shared: Shared, journal: Path) -> None:
    source = Numbers(1000, journal)
    index = shared(source)
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(in_child(lambda pipe, n=n: pipe.send(numbers(index.items(n, 3)))))[0] for n in range(3)
        ]
        assert [child.recv() for child in children] == [list(range(n, 1000, 3)) for n in range(3)]
    assert sorted(source.asked()) == list(range(0, 1000, 10))


def test_processes_read_while_another_one_lists(shared: Shared, journal: Path) -> None:
    source = Gated(30, journal, gate=20)
    index = shared(source)

    def read_first(pipe: Connection) -> None:
        infos = index.items()
        pipe.send([int(next(infos).uri.key) for _ in range(15)])
        pipe.send(numbers(infos))

    mine = index.items()
    next(mine)
    with in_child(read_first) as (pipe, _):
        assert pipe.recv() == list(range(15))
        source.opens()
        assert pipe.recv() == list(range(15, 30))
    assert source.asked() == [0, 10, 20]


def test_a_child_forked_from_a_process_that_lists_reads_on(shared: Shared, journal: Path) -> None:
    source = Gated(30, journal, gate=10)
    index = shared(source)
    infos = index.items()
    next(infos)
    source.is_reached()
    with in_child(lambda pipe: pipe.send((index.count(), numbers(index.items())))) as (pipe, _):
        source.opens()
        assert pipe.recv() == (30, list(range(30)))
    assert numbers(infos) == list(range(1, 30))
    assert source.asked() == [0, 10, 20]


def test_a_forked_child_may_drop_the_iterators_that_it_inherited(shared: Shared, journal: Path) -> None:
    source = Gated(30, journal, gate=10)
    index = shared(source)
    begun = [index.items()]
    next(begun[0])
    source.is_reached()

    def drop_and_read(pipe: Connection) -> None:
        begun.clear()
        pipe.send(numbers(index.items()))

    with in_child(drop_and_read) as (pipe, _):
        source.opens()
        assert pipe.recv() == list(range(30))
    assert numbers(begun[0]) == list(range(1, 30))
    assert source.asked() == [0, 10, 20]


def test_when_the_listing_process_is_killed_another_goes_on_after_its_last_page(shared: Shared, journal: Path) -> None:
    source = Gated(40, journal, gate=20)
    index = shared(source)

    def list_until_killed(pipe: Connection) -> None:
        pipe.send(next(index.items()).uri.key)
        next(itertools.islice(index.items(), 20, None))

    with in_child(list_until_killed) as (pipe, child):
        pipe.recv()
        source.is_reached()
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    source.opens()
    assert numbers(index.items()) == list(range(40))
    assert source.asked() == [0, 10, 20, 20, 30]


def test_a_child_of_a_listing_process_that_is_killed_goes_on_with_the_listing(shared: Shared, journal: Path) -> None:
    source = Gated(30, journal, gate=10)
    index = shared(source)
    killed, found = os.pipe(), FORK.SimpleQueue()

    def list_until_killed(pipe: Connection) -> None:
        infos = index.items()
        next(infos)
        source.is_reached()
        if os.fork():
            pipe.send("forked")
            numbers(infos)
        os.read(killed[0], 1)
        found.put(numbers(index.items()))
        os._exit(0)

    with in_child(list_until_killed) as (pipe, child):
        pipe.recv()
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    source.opens()
    os.write(killed[1], b"x")
    assert found.get() == list(range(30))
    assert source.asked() == [0, 10, 10, 20]


def test_nobody_reads_nobody_lists(shared: Shared, journal: Path) -> None:
    source = Gated(1000, journal, gate=10)
    index = shared(source)
    infos = index.items()
    next(infos)
    source.is_reached()
    del infos
    source.opens()
    for thread in threading.enumerate():
        if thread.name == "oss-index":
            thread.join()
    assert source.asked() == [0, 10]
    assert index.count() == 1000
    assert sorted(source.asked()) == list(range(0, 1000, 10))


def test_what_was_left_out_is_counted(shared: Shared, journal: Path) -> None:
    index = shared(Numbers(30, journal, skipped=2))
    index.count()
    assert index.skipped() == 6


def test_rows_before_a_failure_come_before_the_error(shared: Shared, journal: Path) -> None:
    source = Breaking(50, journal)
    source.breaks("oss")
    infos = shared(source).items()
    assert [int(next(infos).uri.key) for _ in range(20)] == list(range(20))
    with pytest.raises(OssNotFoundError, match="row 20 is not there"):
        next(infos)


def test_the_original_error_reaches_who_lists(shared: Shared, journal: Path) -> None:
    source = Breaking(50, journal)
    source.breaks("foreign")
    with pytest.raises(LookupError, match="row 20"):
        shared(source).count()


@pytest.mark.parametrize(("how", "text"), [("oss", "^row 20 is not there$"), ("foreign", "^LookupError: row 20")])
def test_an_error_of_the_listing_process_reaches_the_others(shared: Shared, journal: Path, how: str, text: str) -> None:
    class Waiting(Gated, Breaking):
        def at(self, start: int) -> None:
            Gated.at(self, start)
            Breaking.at(self, start)

    source = Waiting(50, journal, gate=20)
    source.breaks(how)
    index = shared(source)

    def list_until_broken(pipe: Connection) -> None:
        infos = index.items()
        pipe.send(next(infos).uri.key)
        with contextlib.suppress(LookupError, OssError):
            numbers(infos)
        pipe.send("failed")
        pipe.recv()

    with in_child(list_until_broken) as (pipe, _):
        pipe.recv()
        infos = index.items()
        assert next(infos).uri.key == "0"
        source.opens()
        with pytest.raises(OssNotFoundError if how == "oss" else OssError, match=text):
            numbers(infos)
        assert pipe.recv() == "failed"
        pipe.send("end")


def test_an_old_failure_is_tried_again(shared: Shared, journal: Path) -> None:
    source = Breaking(50, journal)
    source.breaks("oss")
    index = shared(source)
    for _ in range(2):
        with pytest.raises(OssNotFoundError):
            index.count()
    source.is_mended()
    assert numbers(index.items()) == list(range(50))
    assert source.asked() == [0, 10, 20, 20, 20, 30, 40]


def test_the_file_goes_with_the_last_copy_in_the_process_that_made_it(folder: Path, journal: Path) -> None:
    index = SharedIndex(Numbers(5, journal), folder=str(folder))
    copy = pickle.loads(pickle.dumps(index))
    index.count()
    del index
    gc.collect()
    assert len(list(folder.iterdir())) == 1
    assert copy.count() == 5
    del copy
    gc.collect()
    assert list(folder.iterdir()) == []


def test_a_copy_that_outlives_its_process_begins_a_table_of_its_own(folder: Path, journal: Path) -> None:
    source = Numbers(5, journal)

    def make_and_end(pipe: Connection) -> None:
        index = SharedIndex(source, folder=str(folder))
        pipe.send((pickle.dumps(index), index.count()))

    with in_child(make_and_end) as (pipe, child):
        pickled, count = pipe.recv()
        child.join()
    assert list(folder.iterdir()) == []
    copy = pickle.loads(pickled)
    assert copy.count() == count == 5
    assert source.asked() == [0, 0]
    assert len(list(folder.iterdir())) == 1
    del copy
    assert list(folder.iterdir()) == []


def test_an_object_by_number_waits_for_the_listing(shared: Shared, journal: Path) -> None:
    assert shared(Numbers(25, journal)).info(24).uri.key == "24"


def test_a_copy_in_another_process_leaves_the_file_alone(folder: Path, journal: Path) -> None:
    index = SharedIndex(Numbers(5, journal), folder=str(folder))

    def use_and_end(pipe: Connection) -> None:
        pipe.send(pickle.loads(pickle.dumps(index)).count())

    with in_child(use_and_end) as (pipe, child):
        assert pipe.recv() == 5
        child.join()
    assert len(list(folder.iterdir())) == 1


def test_the_file_goes_when_a_process_of_multiprocessing_ends(folder: Path, journal: Path) -> None:
    def make_and_end(pipe: Connection) -> None:
        index = SharedIndex(Numbers(5, journal), folder=str(folder))
        pipe.send((index.count(), len(list(folder.iterdir()))))

    with in_child(make_and_end) as (pipe, child):
        assert pipe.recv() == (5, 1)
        child.join()
    assert list(folder.iterdir()) == []


def test_a_thread_that_can_not_be_started_is_an_error_each_time_and_none_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, journal: Path, shared: Shared
) -> None:
    index = shared(Numbers(20, journal))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        for _ in range(2):
            with pytest.raises(OssError, match="the table of objects can't be filled: no thread can be started"):
                index.count()
    assert index.count() == 20


def _no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
