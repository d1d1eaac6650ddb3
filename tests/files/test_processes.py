"""Readers and writers when processes fork, end or are killed: nothing half is seen, and parts are cleared away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from files.on_oss import DATA, config_file, reader_of, writer_of

from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssError
from osstorchconnector.files.read_plan import KIB, MIB
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_a_child(work: Callable[[], bool]) -> bool:
    """Fork, run `work` in the child, and return what it returned; an error of the child is printed."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_reader_goes_on_in_a_forked_child(oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket) -> None:
    oss_bucket.put(uri.key, DATA)
    with reader_of(oss_client, uri) as reader:
        for start in range(0, 3 * MIB, 64 * KIB):
            assert reader.read(64 * KIB) == DATA[start : start + 64 * KIB]
        at = reader.tell()
        assert in_a_child(
            lambda: reader.read(5 * MIB) == DATA[at : at + 5 * MIB] and reader.read() == DATA[at + 5 * MIB :]
        )
        assert in_a_child(lambda: reader.close() is None and reader.closed)
        assert in_a_child(lambda: b"".join(iter(lambda: reader.read(70_000), b"")) == DATA[at:])
        assert reader.read() == DATA[at:]


def test_a_forked_child_neither_ends_nor_aborts_the_writers_of_its_parent(
    oss_client: OssClient, uri: OssUri, oss_bucket: OssBucket
) -> None:
    oss_bucket.put(uri.key, b"old")
    writer = writer_of(oss_client, uri)
    writer.write(DATA)
    while not oss_bucket.server.uploads(oss_bucket.name):  # it is on its way; the limit of the test ends this
        threading.Event().wait(0.001)

    def misuse() -> bool:
        for use in (lambda: writer.write(b"x"), writer.close):
            try:
                use()
            except OssError:
                continue
            return False
        writer.discard()
        writer.__del__()
        return writer.closed

    assert in_a_child(misuse)
    assert len(oss_bucket.server.uploads(oss_bucket.name)) == 1
    assert oss_bucket.get(uri.key) == b"old"
    writer.close()
    assert oss_bucket.get(uri.key) == DATA


# the end of a process

PROGRAM = """
import os, sys, threading
from osstorchconnector.client.client import OssClient
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.uri import OssUri

endpoint, cred_path, region, config_path, bucket, key = sys.argv[1:]
client = OssClient(endpoint, cred_path=cred_path, region=region, config_path=config_path)
writer = OssWriter(client, OssUri(bucket, key), transfer=client.config.checkpoint)
"""

ENDINGS = {
    "falls off the end": "writer.write(bytes(5_000_000))",
    "falls off the end before the first part": "writer.write(b'little')",
    "sys.exit": "writer.write(bytes(5_000_000)); sys.exit(3)",
    "an exception": "writer.write(bytes(5_000_000)); raise KeyError('of the user')",
    "an exception in the block": "with writer: writer.write(bytes(5_000_000)); raise KeyError('of the user')",
    "in a thread": "t = threading.Thread(target=writer.write, args=(bytes(5_000_000),)); t.start(); t.join()",
    "in the midst of a daemon thread": "threading.Thread(target=lambda: [writer.write(bytes(1_000_000)) "
    "for _ in iter(int, 1)], daemon=True).start()\nwhile writer.tell() < 3_000_000: pass",
    "in a cycle": "writer.write(bytes(5_000_000)); cycle = [writer]; cycle.append(cycle); del writer, cycle",
    "a forked child": "writer.write(bytes(5_000_000))\nif not os.fork(): sys.exit()\nos.wait()",
    "two writers": "writer.write(bytes(5_000_000)); other = OssWriter(client, OssUri(bucket, key + '2'), "
    "transfer=client.config.checkpoint); other.write(bytes(5_000_000))",
}


def command(bucket: OssBucket, folder: Path, key: str, ending: str) -> list[str]:
    config = config_file(folder, partSize=1_000_000)
    where = [bucket.endpoint, bucket.cred_path, bucket.region, config, bucket.name, key]
    return [sys.executable, "-c", PROGRAM + ending, *where]


@pytest.mark.parametrize("name", ENDINGS)
def test_the_end_of_the_interpreter_aborts(name: str, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("key", b"old")
    done = subprocess.run(
        command(oss_bucket, tmp_path, "key", ENDINGS[name]), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == {"sys.exit": 3, "an exception": 1, "an exception in the block": 1}.get(name, 0)
    assert "Exception ignored" not in done.stderr
    assert "never awaited" not in done.stderr
    if "daemon" not in name:  # which dies while it tells of its exception, or before
        assert ("Traceback" in done.stderr) == name.startswith("an exception")
        writers = {"an exception in the block": 0, "two writers": 2}.get(name, 1)
        assert done.stderr.count("was never closed, so nothing was stored") == writers
    assert oss_bucket.server.uploads(oss_bucket.name) == []
    assert oss_bucket.keys() == ["key"]
    assert oss_bucket.get("key") == b"old"
    assert oss_bucket.server.counters().requests["CompleteMultipartUpload"] == 0


def test_the_end_of_the_interpreter_does_not_wait_for_ever(oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fail("AbortMultipartUpload", "stall_head", seconds=3600)
    subprocess.run(
        command(oss_bucket, tmp_path, "key", "writer.write(bytes(5_000_000))"),
        capture_output=True,
        timeout=200,
        check=True,
    )
    assert oss_bucket.keys() == []


@pytest.mark.parametrize(
    ("operation", "size"),
    [
        ("InitiateMultipartUpload", 5_000_000),
        ("UploadPart", 5_000_000),
        ("CompleteMultipartUpload", 5_000_000),
        ("PutObject", 900_000),
    ],
)
def test_a_killed_writer_leaves_the_old_object_or_the_new_one(
    operation: str, size: int, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    oss_bucket.put("key", b"old")
    oss_bucket.server.fail(operation, "stall_head", bucket=oss_bucket.name)
    ending = f"writer.write(bytes({size})); writer.close()"
    process = subprocess.Popen(command(oss_bucket, tmp_path, "key", ending))
    while not oss_bucket.server.counters(with_log=False).concurrency[operation]:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    while oss_bucket.server.counters(with_log=False).concurrency[operation]:
        pass
    assert oss_bucket.get("key") in (b"old", bytes(size))
    if operation in ("InitiateMultipartUpload", "UploadPart"):
        assert oss_bucket.get("key") == b"old"
