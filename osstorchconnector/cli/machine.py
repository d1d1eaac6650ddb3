"""What this machine and its container allow, read from the system."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from .findings import Finding, Level, about_memory, about_open_files, about_processors, about_shared_memory

_CGROUP = Path("/sys/fs/cgroup")
_PACKAGES = ("osstorchconnector", "torch", "torchdata", "oss2", "fsspec", "safetensors", "numpy", "uvloop")


def about_this_machine(cgroup: Path = _CGROUP, shared_memory: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Yield what is known of versions, cores, memory, shared memory and limits."""
    yield Finding(Level.OK, "python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding(Level.OK, "packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    yield about_processors(_usable_cores(), _quota(cgroup))
    yield about_memory(_memory_limit(cgroup), _memory())
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


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is missing"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Return how many cores a container may use, `None` for all."""
    quota, _, period = _line(cgroup / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _memory_limit(cgroup: Path) -> int | None:
    text = _line(cgroup / "memory.max")
    return int(text) if text.isdecimal() else None


def _memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
