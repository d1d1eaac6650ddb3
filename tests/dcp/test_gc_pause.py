from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

import pytest

from osstorchconnector.dcp.gc_pause import collection_put_off


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_collection_is_off_until_the_last_one_ends() -> None:
    with collection_put_off():
        with collection_put_off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collection_goes_on_after_an_error() -> None:
    with contextlib.suppress(ZeroDivisionError), collection_put_off():
        _ = 1 / 0
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    with collection_put_off():
        pass
    assert not gc.isenabled()


def test_threads_that_overlap_do_not_turn_it_on_for_each_other() -> None:
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first() -> None:
        with collection_put_off():
            first_is_in.set()
            second_is_in.wait()

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait()
    with collection_put_off():
        second_is_in.set()
        thread.join()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_child_that_is_forked_meanwhile_collects() -> None:
    with collection_put_off():
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 1)
        assert not gc.isenabled()
    _, status = os.waitpid(child, 0)
    assert status == 0
