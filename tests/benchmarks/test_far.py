"""Work at a distance: who is behind which network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.gauge import measure
from benchmarks.programs import objects
from benchmarks.site import BUCKET, NO_LOGS, Site, network_at, open_site
from benchmarks.values import CXX, OURS, Contender
from benchmarks.works import far
from osstorchconnector.emulator import Network

AWAY = Network(latency_seconds=0.035, round_trip_seconds=0.002)
WORKS = {work.name: work for work in far.WORKS}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_site(config=NO_LOGS) as site:
        yield site


def contenders(site: Site, name: str, **sizes: object) -> dict[str, Contender]:
    work = WORKS[name]
    return {each.name: each for each in work.prepare(site, **{**work.sizes(is_quick=True), **sizes})}


def test_no_distance_is_no_network() -> None:
    assert network_at(0) is None
    assert network_at(35) == AWAY
    assert network_at(0, connection_mb=50) == Network(connection_bytes_per_second=50e6, round_trip_seconds=0.002)


@pytest.mark.parametrize("name", ["far-small", "far-loader", "far-map"])
def test_all_but_one_are_away_and_only_the_second_has_a_config_of_ours(site: Site, name: str) -> None:
    found = contenders(site, name, count=2, size=10)
    assert {who: each.network for who, each in found.items()} == {
        OURS: AWAY,
        f"{OURS}, 24 in flight": AWAY,
        CXX: AWAY,
        far.NEAR: None,
    }
    configs = [each.options["access"]["config_path"] for each in found.values()]
    assert configs[0] == configs[3] != configs[1] == configs[2]


def test_a_large_object_comes_over_slow_connections(site: Site) -> None:
    found = contenders(site, "far-readinto", size=1000)
    assert found[CXX].network == Network(
        latency_seconds=0.035, round_trip_seconds=0.002, connection_bytes_per_second=100e6
    )
    assert len(site.server.get(BUCKET, "large")) == 1000


def test_a_limit_of_requests_is_the_rate_to_reach(site: Site) -> None:
    found = contenders(site, "far-limit", count=2, size=10)
    network, best = found[OURS].network, found[far.ALLOWED].sample
    assert network is not None
    assert best is not None
    assert (network.requests_per_second, best.rate) == (500, 500)


def test_the_first_objects_are_read_and_no_more(site: Site) -> None:
    found = contenders(site, "far-first", count=500, size=10, first=20)
    assert found[far.SETUP].sample is not None
    site.server.reset_counters()
    sample = measure(objects.first_objects(**found[OURS].options))
    assert sample.amount == 1
    assert 20 <= site.server.counters().requests["GetObject"] < 500
