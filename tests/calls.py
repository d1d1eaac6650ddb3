"""How many calls a small object, or a member of a tar, costs: `python tests/calls.py` prints them, `--each` names them.

Calls of Python functions (the steps of a coroutine and of a generator count, too) and of C functions are counted by
`sys.setprofile`, in all threads. The whole way of an object goes from the emulator to the user, and so does that of a
member of a tar, in order. The way below `Operations.get` is counted without sockets, so that each count is exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import osstorchconnector
from osstorchconnector import emulator
from osstorchconnector.client.operations import Operations
from osstorchconnector.client.sender import Session
from osstorchconnector.client.transport.connection import Connection
from osstorchconnector.client.transport.outliers import FirstBytes
from osstorchconnector.client.transport.states import Incoming
from osstorchconnector.config import Config
from osstorchconnector.credentials import Credentials, CredentialsCache, CredentialsSource
from osstorchconnector.emulator import Emulator
from osstorchconnector.logs import audit_log
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.endpoint import parse_endpoint, plan_signing
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.uri import OssUri

PACKAGE = Path(osstorchconnector.__file__).parent
ENDPOINT, BUCKET = "http://127.0.0.1:8080", "bucket"
OBJECTS = 1000
SIZES = {"4 KB": 4096, "110 KB": 110 << 10}


class Calls(NamedTuple):
    """Calls for each object, of Python and of C functions."""

    python: float
    c: float


class Counts:
    """Counts the calls of all threads that start from now on, and of this one, while it is told to.

    With `inside`, only calls of functions in that folder, and calls of C functions by them.
    """

    def __init__(self, inside: str = "") -> None:
        self._is_on, self._inside = False, inside
        self._python: Counter[CodeType] = Counter()
        self._c: Counter[tuple[str, CodeType]] = Counter()
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._is_on or not frame.f_code.co_filename.startswith(self._inside):
            return
        if event == "call":
            self._python[frame.f_code] += 1
        elif event == "c_call":
            self._c[getattr(argument, "__qualname__", repr(argument)), frame.f_code] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        self._is_on = True
        yield
        self._is_on = False

    def each(self, objects: int) -> Calls:
        return Calls(sum(self._python.values()) / objects, sum(self._c.values()) / objects)

    def named(self, objects: int) -> Iterator[str]:
        """Yield a line for each function, from the one that is called most often."""
        found = Counter({f"Python {_name(code)}": count for code, count in self._python.items()})
        found.update({f"C      {name} in {_name(code)}": count for (name, code), count in self._c.items()})
        for name, count in found.most_common():
            yield f"{count / objects:8.2f} {name}"


def _name(code: CodeType) -> str:
    return f"{Path(code.co_filename).stem}:{getattr(code, 'co_qualname', code.co_name)}"


# --- below Operations.get, without sockets


class FixedCredentials(CredentialsSource):
    def __str__(self) -> str:
        return "fixed credentials"

    def mark(self) -> None:
        return None

    def fetch(self) -> Credentials:
        return Credentials(access_key_id="AK", access_key_secret="SK")


class FakeSocket(asyncio.Transport):
    """The transport of one connection: it answers each request with the same bytes, a turn of the loop later."""

    def __init__(self, connection: Connection, answer: bytes) -> None:
        super().__init__()
        self._connection, self._answer = connection, answer
        connection.connection_made(self)

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._connection.get_buffer(-1)[: len(self._answer)] = self._answer
        self._connection.buffer_updated(len(self._answer))

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def get_write_buffer_size(self) -> int:
        return 0


def answer_with(body: bytes) -> bytes:
    """Return what OSS answers to a GET of an object by a span."""
    lines = [
        "HTTP/1.1 206 Partial Content",
        "Server: AliyunOSS",
        "Date: Fri, 14 Mar 2025 15:09:26 GMT",
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(body)}",
        "Connection: keep-alive",
        "x-oss-request-id: 67D446A6F5F1B53939000000",
        f"Content-Range: bytes 0-{len(body) - 1}/{len(body)}",
        'ETag: "5B3C1A2E053D763E1B002CC607C5A0FE"',
        "Last-Modified: Fri, 24 Feb 2012 06:07:48 GMT",
        "x-oss-object-type: Normal",
        f"x-oss-hash-crc64ecma: {crc64(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def operations(answer: bytes, audit_path: str) -> Operations:
    """Return the operations of a client with an open connection, which is no socket."""
    endpoint, config = parse_endpoint(ENDPOINT), Config(audit_path=audit_path)
    session = Session(
        endpoint=endpoint,
        signing=plan_signing(endpoint, "cn-test", "v4"),
        config=config,
        credentials=CredentialsCache(FixedCredentials()),
        user_agent="calls",
        audit=audit_log(config),
    )
    made, origin, connections = Operations(session), endpoint.route(BUCKET).origin, set[Connection]()
    made._sender._choose(origin, "GetObject", False)
    pool = made._sender._pool
    assert pool is not None
    connection = Connection(asyncio.get_running_loop(), connections, Incoming(), FirstBytes(time.perf_counter))
    FakeSocket(connection, answer)
    pool._keep(origin, connection)
    return made


async def get_many(answer: bytes, size: int, audit_path: str, warm: int, many: int, around: Any) -> None:
    """Read an object `warm` times, and then `many` times within the context `around`."""
    reads = operations(answer, audit_path)
    uri, span = OssUri(BUCKET, "images/000123.jpg"), ByteSpan(0, size)
    for _ in range(warm):
        await reads.get(uri, span)
    with around:
        for _ in range(many):
            await reads.get(uri, span)
        audit = audit_log(Config(audit_path=audit_path))
        if audit is not None:
            audit.flush()
    await reads.aclose()


def below_get(size: int, objects: int = 1000) -> Counts:
    """Count the calls of reads, one after the other, from `Operations.get` down to where bytes come and go."""
    counts = Counts(inside=str(PACKAGE))
    with tempfile.TemporaryDirectory() as folder:
        answer = answer_with(bytes(size))
        asyncio.run(get_many(answer, size, f"{folder}/audit", 20, objects, counts.counting()))
    sys.setprofile(None)
    return counts


# --- the whole way


def whole(size: int, objects: int = 1000) -> Counts:
    """Count the calls of an epoch, after another one has opened the connections."""
    from osstorchconnector import OssIterableDataset

    with serving("images/{}", objects, size) as (oss, access, audit):
        dataset = OssIterableDataset.from_prefix(f"oss://{BUCKET}/images/", oss.endpoint, **access)
        return second_epoch(dataset, audit)


def member(size: int, objects: int = 1000) -> Counts:
    """Count the calls of an epoch over a tar that was made of as many objects, after another epoch."""
    from osstorchconnector import OssIterableDataset, generate_tar_archive

    with serving("images/{}", objects, size) as (oss, access, audit):
        tar, index = f"oss://{BUCKET}/images.tar", f"oss://{BUCKET}/images.tar.idx"
        where = (oss.endpoint, access["cred_path"], access["config_path"], tar, index, f"oss://{BUCKET}/images/")
        generate_tar_archive(*where, region=oss.region)
        return second_epoch(OssIterableDataset.from_tar(tar, index, oss.endpoint, **access), audit)


@contextmanager
def serving(key: str, objects: int, size: int) -> Iterator[tuple[Emulator, dict[str, str], Path]]:
    """Serve objects; yield the server, how to reach it, and the audit log.

    Answers take 5 ms: a server that answers at once wakes the client for each, more or less often.
    """
    with emulator.serve(buckets=[BUCKET]) as oss, tempfile.TemporaryDirectory() as folder:
        oss.fill(BUCKET, key, objects, bytes(size))
        oss.set_network(emulator.Network(latency_seconds=0.005))
        audit, config = Path(folder, "audit"), Path(folder, "config.json")
        config.write_text(
            json.dumps({"logPath": "", "auditPath": str(audit), "datasetConfig": {"prefetchConcurrency": 24}})
        )
        yield oss, {"cred_path": oss.credentials_file(folder), "config_path": str(config), "region": oss.region}, audit


def second_epoch(dataset: Iterable[Any], audit: Path) -> Counts:
    """Count the calls of the second epoch of a dataset."""
    counts = Counts()
    read_all(dataset, audit)
    with counts.counting():
        read_all(dataset, audit)
    sys.setprofile(None)
    return counts


def read_all(dataset: Iterable[Any], audit_path: Path) -> None:
    """Read all objects, and write all lines of the audit log."""
    for item in dataset:
        item.read()
    audit = audit_log(Config(audit_path=str(audit_path)))
    assert audit is not None
    audit.flush()


WAYS: dict[str, Callable[[int, int], Counts]] = {"below get": below_get, "whole": whole, "member": member}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", action="store_true", help="name each function")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIZE"), help="count one way, and print it as JSON")
    options = parser.parse_args()
    if options.one:
        way, size = options.one
        counts = WAYS[way](SIZES[size], OBJECTS)
        print(json.dumps([counts.each(OBJECTS), list(counts.named(OBJECTS))]))
        return
    for way in WAYS:
        for size in SIZES:  # in a process of its own, in which nothing has been learnt
            command = [sys.executable, "-W", "ignore", __file__, "--one", way, size]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            (python, c), named = json.loads(output)
            print(f"{way}, {size}: {python:.1f} Python calls and {c:.1f} C calls")
            if options.each:
                print(*named, sep="\n")


if __name__ == "__main__":
    main()
