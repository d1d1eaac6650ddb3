"""What doctor makes of what it measured."""

from __future__ import annotations

import re

import pytest

from osstorchconnector.cli import Finding, Level, worst
from osstorchconnector.cli.findings import (
    about_allocator,
    about_clock,
    about_endpoint,
    about_expiry,
    about_in_flight,
    about_latency,
    about_memory,
    about_open_files,
    about_processors,
    about_rate,
    about_shared_memory,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("finding", "level", "says"),
    [
        (about_clock(3.0), Level.OK, "agrees"),
        (about_clock(-100.0), Level.WARN, "100 s behind OSS's.*NTP"),
        (about_clock(1000.0), Level.FAIL, "1000 s ahead of OSS's.*NTP"),
        (about_expiry(None, "a file"), Level.OK, "from a file; they don't expire"),
        (about_expiry(7200.0, "a role"), Level.OK, "valid for another 120 minutes"),
        (about_expiry(600.0, "a role"), Level.WARN, "another 10 minutes.*renews them"),
        (about_expiry(-1.0, "a role"), Level.FAIL, "expired.*renew them"),
        (about_shared_memory(None, 0), Level.WARN, "there is none.*--shm-size"),
        (about_shared_memory(64 << 20, 64 << 20), Level.WARN, "64.0 MiB free of 64.0 MiB.*--shm-size"),
        (about_shared_memory(8 * GIB, 4 * GIB), Level.OK, "4.0 GiB free of 8.0 GiB"),
        (about_open_files(1024, 1 << 20), Level.WARN, "1,024 at a time.*ulimit -n 65536"),
        (about_open_files(65536, 65536), Level.OK, "65,536"),
        (about_processors(16, 2.5), Level.WARN, "16 cores, 2.5 of them usable.*num_workers"),
        (about_processors(16, None), Level.OK, "16 cores"),
        (about_processors(2, 4.0), Level.OK, "2 cores"),
        (about_memory(4 * GIB, 16 * GIB), Level.OK, "4.0 GiB .a container's limit"),
        (about_memory(None, 16 * GIB), Level.OK, "16.0 GiB"),
        (about_allocator("glibc 2.36", ""), Level.OK, "glibc 2.36"),
        (about_allocator("glibc 2.36", "/usr/lib/libjemalloc.so.2"), Level.OK, "jemalloc"),
        (about_allocator("musl 1.2", ""), Level.WARN, "musl 1.2.*jemalloc"),
        (about_allocator("", ""), Level.WARN, "not known.*glibc"),
        (about_in_flight("prefetchConcurrency", "auto", [0.035]), Level.OK, "finds itself"),
        (about_in_flight("prefetchConcurrency", 24, [0.0005]), Level.OK, "24 requests in flight bring 48,000"),
        (about_in_flight("prefetchConcurrency", 24, [0.04]), Level.WARN, "600 small.*leave prefetchConcurrency out"),
        (about_latency([0.01] * 39 + [0.5]), Level.OK, "takes 10.0 ms, the slowest of 40 took 500.0 ms"),
        (about_latency([0.2]), Level.WARN, "200.0 ms.*own region"),
        (about_rate(1e8, 1e9, 32, 4000.0)[0], Level.OK, "100 MB/s by one connection, 1000 MB/s by 32"),
        (about_rate(1e8, 1e9, 32, 4000.0)[1], Level.OK, "4,000 a second"),
        (about_endpoint("http", "host", True, "")[1], Level.WARN, "plain http.*use https"),
        (about_endpoint("https", "host", False, "proxy")[1], Level.WARN, "through proxy.*no_proxy"),
    ],
)
def test_a_finding_says_how_bad_it_is_and_what_to_do(finding: Finding, level: Level, says: str) -> None:
    assert finding.level is level
    assert bool(finding.todo) is (level is not Level.OK)
    assert re.search(says, f"{finding.seen} {finding.todo}")


def test_the_worst_finding_counts() -> None:
    levels = [Finding(level, "", "") for level in Level]
    assert [worst(levels[:count]) for count in range(4)] == [Level.OK, Level.OK, Level.WARN, Level.FAIL]
