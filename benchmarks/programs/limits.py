"""The limits of the machine: clients that check nothing, discard everything, or have signed in advance."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from benchmarks.gauge import Done, Program, one_by_one, warm_memory
from benchmarks.values import Keys

from .signed import signed_gets

RECEIVE_BYTES = 4 << 20
_SCRIPT = """
local requests = {
%s
}
local turn = 0
request = function()
  turn = turn %% #requests + 1
  return requests[turn]
end
done = function(summary, latency, _)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "errors": %%d}\\n',
    summary.requests, summary.duration / 1e6, lost))
end
"""


def wrk(keys: Keys, path: str, names: Sequence[str], size: int, connections: int, seconds: int) -> Program:
    """Let wrk send signed requests for `seconds`; it discards the answers."""
    heads = signed_gets(keys, _authority(keys), [(name, 0, size) for name in names])
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % ",\n".join(_lua_text(head) for head in heads))
        script.flush()
        command = [path, "--threads=1", f"--connections={connections}", f"--duration={seconds}s"]
        command += [f"--script={script.name}", keys["endpoint"]]
        yield None
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    summary = json.loads(output.splitlines()[-1])
    assert summary["errors"] == 0, output
    # By its own clock, without the time to start and to read the script.
    yield Done(summary["requests"], seconds=summary["seconds"])


def bare_reads(keys: Keys, name: str, size: int, part: int, threads: int) -> Program:
    """Read an object by ranges signed in advance, with `recv_into` in threads: no check, no retry, no error but EOF."""
    spans = [(start, min(start + part, size)) for start in range(0, size, part)]
    heads = signed_gets(keys, _authority(keys), [(name, start, stop) for start, stop in spans])
    buffer = memoryview(bytearray(size))
    work = iter(list(zip(heads, spans, strict=True)))
    lock = threading.Lock()
    readers = [threading.Thread(target=_read_parts, args=(keys, work, lock, buffer)) for _ in range(threads)]
    warm_memory(2 * size)
    yield None
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    yield Done(size)
    assert next(work, None) is None


def bare_get_one_by_one(keys: Keys, name: str, reads: int, size: int) -> Program:
    """Send the same signed request again and again from this thread, and receive each answer: no check, no retry."""
    (head,) = signed_gets(keys, _authority(keys), [(name, 0, size)])
    target = memoryview(bytearray(size))
    with _connected(keys) as connection:

        def read() -> int:
            connection.sendall(head)
            _receive(connection, target)
            return size

        yield from one_by_one(read, reads, size)


def _read_parts(
    keys: Keys, work: Iterator[tuple[bytes, tuple[int, int]]], lock: threading.Lock, buffer: memoryview
) -> None:
    with _connected(keys) as connection:
        while True:
            with lock:
                head, (start, stop) = next(work, (b"", (0, 0)))
            if not head:
                return
            connection.sendall(head)
            _receive(connection, buffer[start:stop])


def _connected(keys: Keys) -> socket.socket:
    address = urlsplit(keys["endpoint"])
    connection = socket.create_connection((str(address.hostname), address.port or 80))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    if not keys["ca_file"]:
        return connection
    context = ssl.create_default_context(cafile=keys["ca_file"])
    return context.wrap_socket(connection, server_hostname=address.hostname)


def _receive(connection: socket.socket, target: memoryview) -> None:
    """Receive one answer, its body into `target`."""
    head = bytearray()
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            raise EOFError
        head += piece
    if not head.startswith(b"HTTP/1.1 206"):
        raise ValueError(bytes(head))
    first = memoryview(head)[head.index(b"\r\n\r\n") + 4 :]
    target[: len(first)] = first
    filled = len(first)
    while filled < len(target):
        count = connection.recv_into(target[filled:])
        if not count:
            raise EOFError
        filled += count


def _authority(keys: Keys) -> str:
    return urlsplit(keys["endpoint"]).netloc


def _lua_text(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" if byte < 32 or byte in b'"\\' else chr(byte) for byte in data) + '"'
