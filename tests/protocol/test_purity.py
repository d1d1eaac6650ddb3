"""`protocol/` is bytes in, values out: its modules use nothing that does I/O or differs from call to call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import osstorchconnector.protocol

PACKAGE = Path(osstorchconnector.protocol.__file__).parent

# Everything that a module of `protocol/` may import, or a beginning of it. So asyncio, socket, threading, selectors,
# ssl, subprocess, random, os.environ and the rest are refused without being named.
ALLOWED = frozenset(
    {
        *("__future__", "collections", "dataclasses", "functools", "heapq", "itertools", "operator", "re", "typing"),
        *(
            "anycrc",
            "base64",
            "binascii",
            "calendar",
            "fastcrc",
            "hashlib",
            "hmac",
            "ipaddress",
            "typing_extensions.Buffer",
        ),
        *("http.HTTPStatus", "os.PathLike", "time.gmtime", "time.strftime", "urllib.parse", "xml.parsers.expat"),
        *("osstorchconnector.errors", "osstorchconnector.redaction", "osstorchconnector.uri"),
        *("osstorchconnector.protocol", "osstorchconnector.credentials.Credentials"),
    }
)
# With fewer arguments these read the clock. Only calls of them are allowed, no other mention.
FEWEST_ARGUMENTS = {"gmtime": 1, "strftime": 2}
REFUSED_BUILTINS = frozenset({"open", "input", "print", "breakpoint", "eval", "exec", "__import__"})


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = ["osstorchconnector", "protocol"][: 3 - node.level] if node.level else []
    return [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]


def is_allowed(name: str) -> bool:
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED)


def impurities(source: str) -> Iterator[str]:
    """Yield what a module of `protocol/` must not have."""
    tree = ast.parse(source)
    calls = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{node.lineno}: imports {name}" for name in imported(node) if not is_allowed(name))
        elif isinstance(node, ast.Name):
            if calls.get(id(node), 0) < FEWEST_ARGUMENTS.get(node.id, 0):
                yield f"{node.lineno}: {node.id} reads the clock"
            if node.id in REFUSED_BUILTINS:
                yield f"{node.lineno}: uses {node.id}"


@pytest.mark.parametrize("name", sorted(path.stem for path in PACKAGE.glob("*.py")))
def test_a_module_of_the_protocol_is_pure(name: str) -> None:
    assert list(impurities((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import os",
        "import time",
        "import urllib.request",
        "import xml",
        "from os import environ",
        "from os import getenv",
        "from time import monotonic",
        "from time import time",
        "from http import client",
        "from ..logs import AuditLog",
        "def f():\n    import socket",
        "from concurrent.futures import Future",
        "from random import random",
        "import threading",
        "import selectors",
        "import ssl",
        "import subprocess",
        "from time import gmtime\ngmtime()",
        "from time import gmtime\ndef f(clock=gmtime): ...",
        "from time import strftime\nstrftime('%Y')",
        "open('/etc/hosts')",
        "__import__('socket')",
    ],
)
def test_what_is_not_pure_is_found(source: str) -> None:
    assert list(impurities(source))
