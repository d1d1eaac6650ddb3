"""What `doctor` makes of what it measured: pure decisions, each a line with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from ..errors import OssError, OssNotFoundError, OssPermissionError
from .show import size_text

_MIB, _GIB = 1 << 20, 1 << 30
# OSS refuses signatures whose time differs by more.
_MOST_SKEW_SECONDS, _SOME_SKEW_SECONDS = 900.0, 60.0
_SOON_SECONDS = 900.0
_LITTLE_SHARED_MEMORY_BYTES = _GIB
_LITTLE_MEMORY_BYTES = 4 * _GIB
_FEW_FILES = 4096
_FAR_SECONDS = 0.010


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """A line of the report: what was looked at, what was seen, and what to do if something is wrong."""

    level: Level
    topic: str
    seen: str
    todo: str = ""


def about_clock(skew_seconds: float) -> Finding:
    """Judge how far this machine's clock is ahead of OSS's."""
    seen = f"{abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} OSS's"
    if abs(skew_seconds) > _MOST_SKEW_SECONDS:
        return Finding(Level.FAIL, "clock", seen, "set the clock (NTP): OSS refuses requests that are 15 minutes off")
    if abs(skew_seconds) > _SOME_SKEW_SECONDS:
        return Finding(Level.WARN, "clock", seen, "set the clock (NTP), before it is 15 minutes off")
    return Finding(Level.OK, "clock", "agrees with OSS's")


def about_expiry(left_seconds: float | None, source: str) -> Finding:
    """Judge how long credentials are still valid."""
    if left_seconds is None:
        return Finding(Level.OK, "credentials", f"from {source}; they don't expire")
    if left_seconds <= 0:
        return Finding(
            Level.FAIL, "credentials", f"from {source}; expired", "renew them, or let a role or profile do it"
        )
    seen = f"from {source}; valid for another {left_seconds / 60:.0f} minutes"
    if left_seconds < _SOON_SECONDS:
        return Finding(Level.WARN, "credentials", seen, "see that their source renews them while a job runs")
    return Finding(Level.OK, "credentials", seen)


def about_shared_memory(total_bytes: int | None, free_bytes: int) -> Finding:
    """Judge /dev/shm, through which DataLoader workers hand batches over and share the table of objects."""
    if total_bytes is None:
        return Finding(Level.WARN, "/dev/shm", "there is none", "run the container with --shm-size=8g, or set indexDir")
    seen = f"{size_text(free_bytes)} free of {size_text(total_bytes)}"
    if total_bytes < _LITTLE_SHARED_MEMORY_BYTES:
        todo = "DataLoader workers need more for batches: docker run --shm-size=8g, or an emptyDir of medium Memory"
        return Finding(Level.WARN, "/dev/shm", seen, todo)
    return Finding(Level.OK, "/dev/shm", seen)


def about_open_files(soft: int, hard: int) -> Finding:
    """Judge the limit of open files: each connection is one."""
    seen = f"{soft:,} at a time ({hard:,} if raised)"
    if soft < _FEW_FILES:
        return Finding(Level.WARN, "open files", seen, f"ulimit -n {min(hard, 65536)}: each connection is an open file")
    return Finding(Level.OK, "open files", seen)


def about_processors(usable: int, quota: float | None) -> Finding:
    """Judge the processors that this process may use, and the share that a container leaves of them."""
    if quota is not None and quota < usable:
        todo = f"a container limits {usable} cores to {quota:g}: num_workers beyond that wait for each other"
        return Finding(Level.WARN, "processors", f"{usable} cores, {quota:g} of them usable", todo)
    if usable == 1:
        todo = "give the job more cores: loading and training take turns on one, whatever num_workers is"
        return Finding(Level.WARN, "processors", "1 core", todo)
    return Finding(Level.OK, "processors", f"{usable} cores")


def about_memory(limit_bytes: int | None, total_bytes: int) -> Finding:
    """Judge the memory, and a container's limit of it."""
    if limit_bytes is not None and limit_bytes < total_bytes:
        seen = f"{size_text(limit_bytes)} (a container's limit)"
        if limit_bytes < _LITTLE_MEMORY_BYTES:
            todo = "raise the container's limit: torch and each DataLoader worker take some hundred MiB"
            return Finding(Level.WARN, "memory", seen, todo)
        return Finding(Level.OK, "memory", seen)
    return Finding(Level.OK, "memory", size_text(total_bytes))


def about_allocator(libc: str, preloaded: str) -> Finding:
    """Judge what allocates memory: the C library (`platform.libc_ver`), or what `LD_PRELOAD` puts in its place."""
    other = re.search("jemalloc|tcmalloc|mimalloc", preloaded)
    if other:
        return Finding(Level.OK, "allocator", f"{other[0]} (LD_PRELOAD)")
    if libc.startswith("glibc"):
        return Finding(Level.OK, "allocator", libc)
    todo = "small objects come faster with glibc (an image of Debian or Ubuntu), or with jemalloc in LD_PRELOAD"
    return Finding(Level.WARN, "allocator", f"{libc or 'not known'}, which is no glibc", todo)


def about_in_flight(key: str, in_flight: int | str, seconds: Sequence[float]) -> Finding:
    """Judge a config key for requests in flight, with the times that small objects took."""
    median = sorted(seconds)[len(seconds) // 2]
    if isinstance(in_flight, str):
        return Finding(Level.OK, key, "not set: the number of requests in flight finds itself")
    seen = f"{in_flight} requests in flight bring {in_flight / median:,.0f} small objects a second at most"
    if median < _FAR_SECONDS:
        return Finding(Level.OK, key, seen)
    return Finding(Level.WARN, key, seen, f"leave {key} out of the config: the number then finds itself")


def about_package(name: str, version: str, least: str) -> Finding | None:
    """Judge the version of a package that is needed; "" for one that is missing. `None` if it is all right."""
    if version and _numbers(version) >= _numbers(least):
        return None
    seen = f"{name} {version} is older than {least}" if version else f"{name} is missing"
    return Finding(Level.FAIL, "packages", seen, f"pip install '{name}>={least}'")


def about_import(name: str, problem: Exception) -> Finding:
    """Say that a package is there and can't be imported."""
    todo = f"pip install --force-reinstall {name}, in a version for this torch (docs/install.md)"
    return Finding(Level.WARN, "packages", f"{name} can't be imported: {type(problem).__name__}: {problem}", todo)


def about_refusal(topic: str, error: OssError, action: str) -> Finding:
    """Judge a request that failed; `action` is the permission that it needs, by its name in policies."""
    level = Level.WARN if isinstance(error, OssNotFoundError) and error.code == "NoSuchKey" else Level.FAIL
    todo = f"allow {action} in the RAM policy of this user or role, or in the bucket's policy"
    is_denied = isinstance(error, OssPermissionError) and error.code == "AccessDenied"
    return Finding(level, topic, str(error), todo if is_denied else "")


def about_retries(count: int) -> Finding:
    """Judge how many requests of the examination had to be sent again."""
    if count:
        todo = "see the warnings above; if OSS throttles (503), use fewer workers or ask for a higher limit"
        return Finding(Level.WARN, "retries", f"{count} requests were sent again", todo)
    return Finding(Level.OK, "retries", "every request was answered at once")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0])))


def about_latency(seconds: Sequence[float]) -> Finding:
    """Say what the first byte of a small object takes, and what a worker can make of it."""
    ordered = sorted(seconds)
    median, late = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    seen = f"a small object takes {median * 1000:.1f} ms, the slowest of {len(ordered)} took {late * 1000:.1f} ms"
    if median > 10 * _FAR_SECONDS:
        todo = "use the bucket's own region, its -internal endpoint, or the accelerator (oss-accelerate)"
        return Finding(Level.WARN, "latency", seen, todo)
    return Finding(Level.OK, "latency", seen)


def about_rate(one: float, many: float, connections: int, small: float) -> list[Finding]:
    """Say what one connection and many bring, in bytes a second, and how many small objects a worker gets."""
    return [
        Finding(Level.OK, "rate", f"{one / 1e6:.0f} MB/s by one connection, {many / 1e6:.0f} MB/s by {connections}"),
        Finding(Level.OK, "small objects", f"{small:,.0f} a second by one process"),
    ]


def about_endpoint(scheme: str, host: str, is_exposed: bool, proxy: str) -> list[Finding]:
    """Judge the way to OSS as it is written."""
    found = [Finding(Level.OK, "endpoint", f"{scheme}://{host}")]
    if is_exposed:
        found.append(
            Finding(Level.WARN, "TLS", "plain http", "use https: anybody on the way can read data and signatures")
        )
    if proxy:
        todo = "set no_proxy=.aliyuncs.com if OSS can be reached directly: a proxy is seldom as fast"
        found.append(Finding(Level.WARN, "proxy", f"requests go through {proxy}", todo))
    return found


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level among these."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
