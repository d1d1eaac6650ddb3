"""Temporary credentials are fetched once for all processes of a user, and anew when somebody needs newer ones."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from credentials.services import Asked, Instance, Reply, Service, document

from osstorchconnector.credentials import CredentialsCache, EcsRoleCredentials, UriCredentials
from osstorchconnector.credentials.temporary import LEAST_SECONDS
from osstorchconnector.credentials.values import spelled_moment

Serve = Callable[[Callable[[Asked], Reply]], Service]


def kept() -> list[Path]:
    return [
        path
        for folder in Path(tempfile.gettempdir()).glob("osstorchconnector-credentials-*")
        for path in folder.glob("*.json")
    ]


def fetched_key(url: str) -> str:
    return UriCredentials(url).fetch().access_key_id


def test_another_process_uses_what_one_has_fetched(serve: Serve) -> None:
    service = serve(lambda asked: document())
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(fetched_key, [f"{service.url}/"] * 6, chunksize=1) == ["STS.1"] * 6
    assert len(service.asked) == 1


def test_other_sources_have_files_of_their_own(serve: Serve) -> None:
    service = serve(lambda asked: document(int(asked.target[1:])))
    assert [fetched_key(f"{service.url}/{number}") for number in (1, 2, 1)] == ["STS.1", "STS.2", "STS.1"]
    assert len(service.asked) == 2


def test_the_file_is_for_this_user_alone(serve: Serve) -> None:
    fetched_key(f"{serve(lambda asked: document()).url}/")
    (path,) = kept()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o644),
        lambda path: path.write_bytes(b"{"),
        lambda path: (path.rename(path.with_suffix(".else")), path.symlink_to(path.with_suffix(".else"))),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: path.parent.chmod(0o755),
    ],
)
def test_a_file_that_somebody_else_may_have_touched_is_not_used(serve: Serve, spoil: Callable[[Path], object]) -> None:
    service = serve(lambda asked: document())
    fetched_key(f"{service.url}/")
    spoil(kept()[0])
    assert fetched_key(f"{service.url}/") == "STS.1"
    assert len(service.asked) == 2


def test_where_nothing_can_be_kept_each_process_asks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    service = serve(lambda asked: document())
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    assert [fetched_key(f"{service.url}/") for _ in range(2)] == ["STS.1"] * 2
    assert len(service.asked) == 2


@pytest.mark.parametrize("seconds", [LEAST_SECONDS - 10, -10])
def test_what_ends_soon_is_fetched_anew(serve: Serve, seconds: float) -> None:
    ends = [spelled_moment(time.time() + seconds), "2100-01-01T00:00:00Z"]
    service = serve(lambda asked: document(len(service.asked), ends[len(service.asked) - 1]))
    assert [fetched_key(f"{service.url}/") for _ in range(3)] == ["STS.1", "STS.2", "STS.2"]


def test_who_has_it_already_wants_a_newer_one(serve: Serve) -> None:
    service = serve(lambda asked: document(len(service.asked)))
    one, two = UriCredentials(f"{service.url}/"), UriCredentials(f"{service.url}/")
    assert [one.fetch().access_key_id, two.fetch().access_key_id] == ["STS.1", "STS.1"]
    assert one.fetch().access_key_id == "STS.2"  # OSS has refused the first
    assert two.fetch().access_key_id == "STS.2"  # and the other need not ask again
    assert len(service.asked) == 2


def test_credentials_without_an_end_are_not_kept(serve: Serve) -> None:
    service = serve(lambda asked: document(Expiration=""))
    assert [fetched_key(f"{service.url}/") for _ in range(2)] == ["STS.1"] * 2
    assert (len(service.asked), kept()) == (2, [])


def test_files_that_nobody_renewed_for_a_day_are_removed(serve: Serve) -> None:
    service = serve(lambda asked: document())
    fetched_key(f"{service.url}/1")
    (old,) = kept()
    os.utime(old, (1, 1))
    fetched_key(f"{service.url}/2")
    assert old not in kept()
    assert len(kept()) == 1


def test_a_role_that_is_renewed_reaches_a_client_that_runs(serve: Serve) -> None:
    instance, now = Instance(), [time.time()]
    server = serve(instance)
    cache = CredentialsCache(EcsRoleCredentials(server=server.url), clock=lambda: now[0])
    assert cache.refresh().access_key_id == "STS.1"
    instance.number = 2
    now[0] = 4102444800 - 200
    assert (cache.current() or cache.refresh()).access_key_id == "STS.2"
