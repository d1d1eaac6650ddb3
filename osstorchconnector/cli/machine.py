"""What this machine and its container allow, read from the system."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from .findings import (
    Finding,
    Level,
    about_allocator,
    about_import,
    about_memory,
    about_open_files,
    about_package,
    about_processors,
    about_shared_memory,
)

_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 1 << 60  # version 1 of cgroups writes a huge number
# One that is needed everywhere, without a condition on the platform or an extra.
_REQUIREMENT = re.compile(r"([\w.-]+)>=([\d.]+)")
_IMPORTED = ("torch", "torchdata.stateful_dataloader")
_PACKAGES = ("osstorchconnector", "torch", "torchdata", "oss2", "fsspec", "safetensors", "numpy", "uvloop")


def about_this_machine(
    cgroup: Path = _CGROUP, shared_memory: Path = Path("/dev/shm"), site: Sequence[str] | None = None
) -> Iterator[Finding]:
    """Yield what is known of versions, cores, memory, allocator, shared memory and limits.

    `site` are the folders in which packages are installed: those of `sys.path`.
    """
    yield Finding(Level.OK, "python", f"{platform.python_version()} on {platform.platform()}")
    yield from _about_packages(sys.path if site is None else site)
    yield about_processors(_usable_cores(), _quota(cgroup))
    yield about_memory(_memory_limit(cgroup), _memory())
    yield about_allocator(" ".join(platform.libc_ver()).strip(), os.environ.get("LD_PRELOAD", ""))
    if shared_memory.is_dir():
        usage = shutil.disk_usage(shared_memory)
        yield about_shared_memory(usage.total, usage.free)
    else:
        yield about_shared_memory(None, 0)
    try:
        import resource
    except ImportError:  # Windows
        return
    yield about_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def _about_packages(site: Sequence[str]) -> Iterator[Finding]:
    """Yield the versions of packages, which of them are too old or missing, and which can't be imported."""
    shown = (f"{name} {_version(name, site) or 'is missing'}" for name in _PACKAGES)
    yield Finding(Level.OK, "packages", ", ".join(shown))
    for name, least in _needed():
        finding = about_package(name, _version(name, site), least)
        if finding is not None:
            yield finding
    for name in _IMPORTED:
        try:
            importlib.import_module(name)
        except Exception as error:  # of a broken package anything may come
            if _version(name.partition(".")[0], site):
                yield about_import(name.partition(".")[0], error)


def _needed() -> Iterator[tuple[str, str]]:
    """Yield the packages that this library needs everywhere, and their lowest versions."""
    try:
        requirements = metadata.requires("osstorchconnector") or []
    except metadata.PackageNotFoundError:  # a copy that was not installed
        return
    for requirement in requirements:
        found = _REQUIREMENT.fullmatch(requirement)
        if found:
            yield found[1], found[2]


def _version(name: str, site: Sequence[str]) -> str:
    found = next(iter(metadata.distributions(name=name, path=list(site))), None)
    return found.version if found is not None else ""


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Return how many cores a container may use, `None` for all; version 2 of cgroups has one file, version 1 two."""
    quota, _, period = _line(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_line(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _memory_limit(cgroup: Path) -> int | None:
    text = _line(cgroup / "memory.max") or _line(cgroup / "memory" / "memory.limit_in_bytes")
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT_BYTES else None


def _memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
