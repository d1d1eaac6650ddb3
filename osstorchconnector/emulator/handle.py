"""`serve()`: an emulator in a process of its own, and the handle that steers it.

The process has its own interpreter lock, so it does not slow down the program that uses it, and that program may fork.
It ends with the handle, or with the program that started it, even if that is killed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ..credentials import Credentials
from ..local_files import written_whole
from .control import PREFIX, TOKEN_HEADER, encode_data
from .counters import Counters
from .network import Network
from .sockets import endpoint_of, loopback_of

DEFAULT_KEY_ID = "emulator-key-id"
DEFAULT_REGION = "cn-test"
STOP_SECONDS = 10.0
# Like `-m osstorchconnector.emulator`, but works if the parent has found the package through its own `sys.path`.
_PROGRAM = """
import sys
sys.path.append(sys.argv.pop(1))
from osstorchconnector.emulator.__main__ import main
sys.exit(main())
"""
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])


class EmulatorError(RuntimeError):
    """The emulator did not start, or refused a request of its handle; then `status` is the HTTP status."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class PendingUpload(NamedTuple):
    """A multipart upload that is neither completed nor aborted, with the numbers of its parts."""

    key: str
    upload_id: str
    parts: list[int]


def serve(
    root: str | os.PathLike[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    region: str = DEFAULT_REGION,
    access_key_id: str = DEFAULT_KEY_ID,
    access_key_secret: str = "",
    security_token: str = "",
    buckets: Sequence[str] = (),
    domains: Sequence[str] = (),
    cnames: Mapping[str, str] | None = None,
    certfile: str = "",
    keyfile: str = "",
    discard_bodies: bool = False,
    fast_etag: bool = False,
    network: Network | None = None,
) -> Emulator:
    """Start an emulator and return its handle, which is a context manager.

    Without `root` the objects are in a temporary folder that is deleted with the handle; with it they stay there for
    the next server. Without a secret, one is generated: see `credentials`. `domains` are host names that buckets are
    in front of (`bucket.NAME`); `cnames` maps whole host names to buckets. `discard_bodies` keeps no bytes of uploads,
    `fast_etag` computes no MD5 of them: both for benchmarks. `network` is the distance to the server, such as
    `Network.oss()`. Raises `EmulatorError` if the emulator does not start.
    """
    credentials = Credentials(
        access_key_id=access_key_id,
        access_key_secret=access_key_secret or secrets.token_hex(16),
        security_token=security_token,
    )
    is_temporary = root is None
    folder = Path(tempfile.mkdtemp(prefix="oss-emulator-") if root is None else root)
    settings = {
        "root": str(folder),
        "is_temporary": is_temporary,
        "host": host,
        "port": port,
        "identities": [asdict(credentials)],
        "policy": {"region": region, "discard_bodies": discard_bodies, "fast_etag": fast_etag},
        "domains": list(domains),
        "cnames": dict(cnames or {}),
        "buckets": list(buckets),
        "certfile": certfile,
        "keyfile": keyfile,
        "network": network and network.dump(),
    }
    emulator = Emulator(settings, credentials)
    try:
        emulator.start()
    except BaseException:
        emulator.close()
        raise
    return emulator


class Emulator:
    """A running emulator. Its methods need no signature, are never faulty and are not counted."""

    def __init__(self, settings: dict[str, Any], credentials: Credentials) -> None:
        self.credentials = credentials
        self.region: str = settings["policy"]["region"]
        self.root = Path(settings["root"])
        self._settings = {**settings, "control_token": secrets.token_hex(16)}
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._scheme = "https" if settings["certfile"] else "http"
        self._connect_host = loopback_of(settings["host"])

    @property
    def port(self) -> int:
        """The port that it listens on; the same after `restart`."""
        port: int = self._settings["port"]
        return port

    @property
    def endpoint(self) -> str:
        """The endpoint for clients on this machine."""
        return endpoint_of(self._scheme, self._connect_host, self.port)

    @property
    def pid(self) -> int:
        """The process id of the server. Raises `EmulatorError` if it does not run."""
        if self._process is None:
            raise EmulatorError("the emulator is not running")
        return self._process.pid

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- its process

    def start(self) -> None:
        """Start the process; again after `stop` or `kill`, on the same port with the same objects."""
        if self._process is not None:
            raise EmulatorError("the emulator is running already")
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, _PACKAGE_FOLDER, "--settings-from-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self._settings).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        said = json.loads(line) if line.startswith(b"{") else {"error": "what it wrote to stderr says why"}
        if "error" in said:
            self.kill()
            raise EmulatorError(f"the emulator did not start: {said['error']}")
        self._settings["port"] = said["port"]

    def stop(self) -> None:
        """End the process with SIGTERM; the port is closed, the objects stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it at the same port with the same objects, without faults and with new counters."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the temporary folder. Does nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        self.stop()
        if self._settings["is_temporary"]:
            shutil.rmtree(self.root, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    # --- credentials and clock

    def credentials_file(self, folder: str | os.PathLike[str]) -> str:
        """Write the credentials as the JSON file that `cred_path` takes; return its path."""
        path = Path(folder) / "credentials.json"
        write_credentials(path, self.credentials)
        return str(path)

    def accept(self, credentials: Credentials) -> None:
        """Accept another key pair, or replace secret, token and expiry of a known one."""
        self._ask("PUT", "credentials", body=json.dumps(asdict(credentials)).encode())

    def revoke(self, access_key_id: str) -> None:
        """Stop accepting a key pair."""
        self._ask("DELETE", "credentials", {"id": access_key_id})

    def set_clock(self, offset_seconds: float) -> None:
        """Set the server's clock to the real time plus this many seconds."""
        self._ask("PUT", "clock", {"offset": str(offset_seconds)})

    def set_policy(self, **changes: object) -> None:
        """Change fields of the server's `Policy`, such as `discard_bodies` and `keep_up_to_bytes`."""
        self._ask("PUT", "policy", body=json.dumps(changes).encode())

    def set_network(self, network: Network | None) -> None:
        """Put this network before the server from the next request on; None takes it away."""
        self._ask("PUT", "network", body=json.dumps(network and network.dump()).encode())

    def reset(self) -> None:
        """Undo all changes since the start: faults, network, counters, clock, policy, credentials; objects stay."""
        self._ask("DELETE", "changes")

    # --- faults

    def fail(
        self,
        operation: str = "",
        fault: str = "500",
        *,
        bucket: str = "",
        key: str = "",
        prefix: str = "",
        query: Mapping[str, str] | None = None,
        times: int | None = None,
        after: int = 0,
        probability: float = 1.0,
        seed: int = 0,
        per_key: bool = False,
        above_rate: float | None = None,
        **options: object,
    ) -> None:
        """Let requests fail from now on. `faults.Rule` says which requests, `faults.CATALOGUE` lists the faults.

        `oss.fail("GetObject", "reset_body", times=1, at=1000)` breaks the next download after 1000 bytes.
        """
        rule = {
            "fault": fault,
            "operation": operation,
            "bucket": bucket,
            "key": key,
            "prefix": prefix,
            "query": dict(query or {}),
            "times": times,
            "after": after,
            "probability": probability,
            "seed": seed,
            "per_key": per_key,
            "above_rate": above_rate,
            "options": encode_data(options),
        }
        self._ask("POST", "faults", body=json.dumps(rule).encode())

    def script(
        self, faults: Sequence[str | Mapping[str, object] | None], operation: str = "", *, key: str = ""
    ) -> None:
        """Give the matching requests these faults, one by one: a name, a mapping with `fault` and options, or None."""
        entries = [encode_data(entry) if isinstance(entry, Mapping) else entry for entry in faults]
        self._ask("POST", "faults", body=json.dumps({"script": entries, "operation": operation, "key": key}).encode())

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._ask("DELETE", "faults")

    # --- counters

    def counters(self, *, with_log: bool = True) -> Counters:
        """Return the counts since the start or the last reset."""
        query = {} if with_log else {"log": "no"}
        return Counters.load(json.loads(self._ask("GET", "counters", query)))

    def reset_counters(self) -> None:
        """Count from zero, with an empty log."""
        self._ask("DELETE", "counters")

    # --- objects

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket, unless it exists."""
        self._ask("PUT", "bucket", {"bucket": bucket})

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket and everything in it."""
        self._ask("DELETE", "bucket", {"bucket": bucket})

    def put(self, bucket: str, key: str, data: bytes | bytearray | memoryview) -> None:
        """Store an object."""
        self._ask("PUT", "object", {"bucket": bucket, "key": key}, data)

    def get(self, bucket: str, key: str) -> bytes:
        """Return an object's bytes. Raises `KeyError` if it does not exist."""
        try:
            return self._ask("GET", "object", {"bucket": bucket, "key": key})
        except EmulatorError as error:
            if error.status != 404:
                raise
            raise KeyError(f"oss://{bucket}/{key}") from error

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, if it exists."""
        self._ask("DELETE", "object", {"bucket": bucket, "key": key})

    def keys(self, bucket: str) -> list[str]:
        """Return all keys in UTF-8 byte order."""
        keys: list[str] = json.loads(self._ask("GET", "keys", {"bucket": bucket}))
        return keys

    def uploads(self, bucket: str) -> list[PendingUpload]:
        """Return the multipart uploads that are neither completed nor aborted."""
        return [PendingUpload(**entry) for entry in json.loads(self._ask("GET", "uploads", {"bucket": bucket}))]

    def fill(self, bucket: str, pattern: str, count: int, data: bytes = b"") -> None:
        """Put `count` objects with the same bytes in one step; the keys are `pattern.format(number)`."""
        wanted = {"bucket": bucket, "pattern": pattern, "count": count, **encode_data({"data": data})}
        self._ask("POST", "fill", body=json.dumps(wanted).encode())

    def _ask(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        body: bytes | bytearray | memoryview | None = None,
    ) -> bytes:
        """Send a control request on a new connection, so that threads and forked processes share none."""
        if self._process is None:
            raise EmulatorError("the emulator is not running")
        connection = self._connect()
        try:
            target = f"{PREFIX}{name}?{urlencode(query or {})}"
            connection.request(method, target, body=body, headers={TOKEN_HEADER: self._settings["control_token"]})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise EmulatorError(f"{method} {name}: {answer.decode(errors='replace')}", status=response.status)
        return answer

    def _connect(self) -> HTTPConnection:
        if self._scheme == "http":
            return HTTPConnection(self._connect_host, self.port)
        # Trust this certificate, whatever its issuer and names.
        context = ssl.create_default_context(cafile=self._settings["certfile"])
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return HTTPSConnection(self._connect_host, self.port, context=context)


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Write a credential file, atomically and readable by its owner only."""
    content = {"AccessKeyId": credentials.access_key_id, "AccessKeySecret": credentials.access_key_secret}
    if credentials.security_token:
        content["SecurityToken"] = credentials.security_token
    if credentials.expires_at is not None:
        content["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(credentials.expires_at))
    with written_whole(path, mode=0o600) as file:
        file.write(json.dumps(content).encode())
