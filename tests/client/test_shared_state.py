"""What a client and its copies in other processes have in common."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading

import pytest
from client.scripted_server import ScriptedServer, answer

from osstorchconnector import OssClient
from osstorchconnector.client.sharing import SharedState

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="shares nothing with spawned processes")


def retry_and_reach(state: SharedState, times: int) -> None:
    for _ in range(times):
        state.count_retry()
    state.note_reached()


def run(method: str, *arguments: object) -> None:
    child = multiprocessing.get_context(method).Process(target=retry_and_reach, args=arguments)
    child.start()
    child.join()
    assert child.exitcode == 0


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_childs_retries_are_counted_and_what_it_reached_is_known(method: str) -> None:
    state = SharedState()
    state.count_retry()
    assert (state.retries, state.is_reached) == (1, False)
    run(method, state, 3)
    assert (state.retries, state.is_reached) == (4, True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_know_of_each_other(method: str) -> None:
    state = SharedState()
    run(method, state, 1)
    run(method, state, 2)
    assert state.retries == 3


def spawn_another(state: SharedState) -> None:
    run("spawn", state, 5)
    run("fork", state, 2)


def test_a_childs_children_count_too() -> None:
    state = SharedState()
    child = multiprocessing.get_context("spawn").Process(target=spawn_another, args=(state,))
    child.start()
    child.join()
    assert state.retries == 7


def test_threads_lose_no_retry() -> None:
    state = SharedState()
    threads = [threading.Thread(target=retry_and_reach, args=(state, 2000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.retries == 8000


def test_where_no_memory_can_be_shared_a_process_that_is_spawned_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    state = SharedState()
    state.count_retry()
    run("spawn", state, 3)
    assert (state.retries, state.is_reached) == (1, False)


def test_copies_that_travel_otherwise_begin_anew() -> None:
    with ScriptedServer.in_turn(answer(b"", status="404 Not Found")) as server:
        client = OssClient(server.endpoint, cred_provider=print, region="cn-test")
        client._shared.count_retry()
        for twin in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
            assert (client.retries, twin.retries) == (1, 0)
