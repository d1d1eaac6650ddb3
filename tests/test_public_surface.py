"""What `import osstorchconnector` gives, and what it does not cost."""

from __future__ import annotations

import ast
import inspect
import json

import pytest
from loaders import needs_torch
from scripts import run_python

import osstorchconnector

HEAVY = ["torch", "torchdata", "oss2", "aiohttp", "uvloop", "anycrc", "fastcrc", "asyncio", "numpy"]


def typed_names() -> set[str]:
    """The names that a type checker sees: those imported under TYPE_CHECKING."""
    tree = ast.parse(inspect.getsource(osstorchconnector))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert sorted(set(osstorchconnector.__all__)) == osstorchconnector.__all__


def test_type_checkers_and_users_see_the_same_names() -> None:
    assert typed_names() | {"__version__"} == set(osstorchconnector.__all__)


@pytest.mark.parametrize("name", osstorchconnector.__all__)
def test_each_public_name_loads_and_is_kept(name: str) -> None:
    value = getattr(osstorchconnector, name)
    assert getattr(osstorchconnector, name) is value
    assert name in dir(osstorchconnector)


def test_every_error_is_public() -> None:
    from osstorchconnector import errors

    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert found <= set(osstorchconnector.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="osstorchconnector.*OssNothing"):
        osstorchconnector.OssNothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy_and_starts_no_thread() -> None:
    program = (
        "import json, sys, threading, osstorchconnector\n"
        "print(json.dumps([sorted(sys.modules), threading.active_count()]))"
    )
    loaded, threads = json.loads(run_python("-c", program)[0])
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []
    assert [name for name in loaded if name.startswith("osstorchconnector")] == [
        "osstorchconnector",
        "osstorchconnector.leftovers",
        "osstorchconnector.version",
    ]
    assert threads == 1


# Python's own modules, torch's and pytest find their ways without these when they are imported: so they come first.
ELSEWHERE = """
import asyncio, importlib, logging, mmap, multiprocessing.connection, multiprocessing.util, os, pkgutil, random, signal
import socket, subprocess, sys, tempfile, threading
import pytest, torch.distributed.checkpoint, torchdata

for name in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[name] = None
absent = {
    os: "fork register_at_fork getuid geteuid getgid killpg setsid sched_getaffinity posix_fallocate posix_fadvise "
    "sendfile pread preadv pwrite pwritev statvfs fchmod O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_sigmask setitimer",
    mmap: "MAP_ANONYMOUS MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE MADV_DONTNEED MADV_HUGEPAGE MADV_WILLNEED",
    socket: "AF_UNIX MSG_DONTWAIT MSG_MORE MSG_NOSIGNAL SO_REUSEPORT TCP_CORK TCP_QUICKACK",
}
for module, names in absent.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

import osstorchconnector
for module in pkgutil.walk_packages(osstorchconnector.__path__, "osstorchconnector."):
    importlib.import_module(module.name)
print("imported")
"""


@needs_torch(2, 7)  # before, torch leaves a folder behind, and a warning
def test_every_module_imports_where_there_is_no_fork_no_fcntl_and_no_uvloop() -> None:
    assert run_python("-c", ELSEWHERE) == ("imported\n", "")
