"""The server that work is done on: an emulator with data, a host name for its bucket, credentials, configuration."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from osstorchconnector import OssCheckpoint, OssClient, emulator
from osstorchconnector.emulator import Emulator, Network
from osstorchconnector.protocol.signing import V4Signer
from osstorchconnector.protocol.values import Request

from .values import Access

BUCKET = "bench"
HOST = "oss-local.test"
HOSTS_FILE = Path("/etc/hosts")
HOSTS_LINE = f"127.0.0.1 {HOST} {BUCKET}.{HOST}"
MEMORY_FOLDER = Path("/dev/shm")
CONFIG: Mapping[str, Any] = {
    "logLevel": 2,
    "datasetConfig": {"prefetchConcurrency": 24, "prefetchWorker": 2},
    "checkpointConfig": {"prefetchConcurrency": 24, "prefetchWorker": 4, "uploadConcurrency": 64},
}
# The same without any concurrency: this library finds it, or takes its defaults.
DEFAULTS: Mapping[str, Any] = {"datasetConfig": {}, "checkpointConfig": {}}
# For clients of this process, which writes the rest of its audit log when it ends: the site's folder is gone by then.
NO_LOGS: Mapping[str, Any] = {"logPath": "", "auditPath": ""}
ROUND_TRIP_SECONDS = 0.002


@dataclass(frozen=True)
class Site:
    """A running server with an empty bucket, and how to reach it.

    `memory` is a folder in memory, if the system has one. The C++ connector needs a host name for the bucket:
    `name_missing` says why there is none. The site closes `stack` when it closes. `groups` holds the keys that
    were put: those of one list are in the same folder and have the same bytes. `config` holds config keys for all
    clients.
    """

    server: Emulator
    folder: Path
    memory: Path
    name_missing: str = ""
    certificate: str = ""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    copies: list[Emulator] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """The endpoint for all clients: a host name that the bucket's name can be put in front of."""
        return self._endpoint_of(self.server)

    @property
    def servers(self) -> list[Emulator]:
        """The server, and those that `serve_copies` has started."""
        return [self.server, *self.copies]

    def serve_copies(self, count: int) -> None:
        """Start `count` more servers with the objects that are there now, for readers that one server can't feed."""
        secret = self.server.credentials.access_key_secret
        for number in range(count):
            root = self.memory / f"copy-{number}"
            shutil.copytree(self.server.root, root)
            copy = emulator.serve(root, domains=[HOST], access_key_secret=secret)
            self.copies.append(self.stack.enter_context(copy))

    def accesses(self, config: Mapping[str, Any] | None = None) -> list[Access]:
        """Return what `access` returns, for each of `servers`."""
        access = self.access(config)
        return [{**access, "endpoint": self._endpoint_of(server)} for server in self.servers]

    def access(self, config: Mapping[str, Any] | None = None) -> Access:
        """Return the keyword arguments of this library's classes, which are those of the C++ connector too.

        `config` holds the config keys that differ from the README's.
        """
        return {
            "endpoint": self.endpoint,
            "cred_path": self.server.credentials_file(self.folder),
            "config_path": self._config_file(config or {}),
            "region": self.server.region,
        }

    def keys(self) -> dict[str, str]:
        """Return the arguments of clients that read no credential file."""
        credentials = self.server.credentials
        return {
            "endpoint": self.server.endpoint,
            "host_endpoint": self.endpoint,
            "bucket": BUCKET,
            "path": f"/{BUCKET}",
            "region": self.server.region,
            "key_id": credentials.access_key_id,
            "secret": credentials.access_key_secret,
            "ca_file": self.certificate,
        }

    def fill(self, folder: str, count: int, data: bytes = b"") -> list[str]:
        """Put `count` objects of the same bytes into a folder of the bucket; return their URIs."""
        self.server.fill(BUCKET, f"{folder}/{{:06d}}", count, data)
        keys = [f"{folder}/{number:06d}" for number in range(count)]
        self.groups.append(keys)
        return [f"oss://{BUCKET}/{key}" for key in keys]

    def put_stream(self, key: str, blocks: Iterable[bytes]) -> None:
        """Put an object block by block; it need not fit into memory."""
        client = OssCheckpoint(**self.access(NO_LOGS))
        with client.writer(f"oss://{BUCKET}/{key}") as writer:
            for block in blocks:
                writer.write(block)
        self.groups.append([key])

    def put_file(self, key: str, path: Path) -> None:
        """Put a file's content as an object."""
        with open(path, "rb") as file:
            self.put_stream(key, iter(lambda: file.read(16 << 20), b""))

    def discard_uploads(self) -> None:
        """Let the server check uploads and keep none of their bytes, except small objects: a checkpoint's metadata."""
        self.server.set_policy(discard_bodies=True, keep_up_to_bytes=4 << 20)

    def publish(self) -> None:
        """Make the bucket readable for all: clients of S3 can't sign for OSS."""
        credentials, region = self.server.credentials, self.server.region
        request = Request("PutBucketAcl", "PUT", BUCKET, "", (("acl", ""),), (("x-oss-acl", "public-read"),))
        headers = dict([*request.headers, *V4Signer(credentials, region).sign(request, int(time.time()))])
        context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        url = f"{self.server.endpoint}/{BUCKET}/?acl"
        urlopen(urllib.request.Request(url, method="PUT", headers=headers), context=context).close()

    def client(self) -> OssClient:
        return OssClient(**self.access(NO_LOGS))

    def _endpoint_of(self, server: Emulator) -> str:
        scheme = "https" if self.certificate else "http"
        return server.endpoint if self.name_missing else f"{scheme}://{HOST}:{server.port}"

    def _config_file(self, config: Mapping[str, Any]) -> str:
        logs = {"logPath": str(self.folder / "connector.log"), "auditPath": str(self.folder / "audit.log")}
        trust = {"caFile": self.certificate} if self.certificate else {}
        text = json.dumps({**CONFIG, **logs, **trust, **self.config, **config})
        path = self.folder / f"config-{abs(hash(text)):x}.json"
        path.write_text(text)
        return str(path)


def network_at(milliseconds: float, *, connection_mb: float | None = None) -> Network | None:
    """Return a network with this fixed latency, and so many MB/s on each connection; None for none at all."""
    if not milliseconds and connection_mb is None:
        return None
    return Network(
        latency_seconds=milliseconds / 1000,
        connection_bytes_per_second=None if connection_mb is None else connection_mb * 1e6,
        round_trip_seconds=ROUND_TRIP_SECONDS,
    )


@contextlib.contextmanager
def open_site(
    *, is_secure: bool = False, busy_cores: int = 0, config: Mapping[str, Any] | None = None
) -> Iterator[Site]:
    """Serve an empty bucket for one work, from a folder in memory if there is one; `is_secure` means https.

    `busy_cores` other processes compute at the same time, as decoding and a model do beside a real loader. `config`
    holds config keys for all clients: `NO_LOGS` where programs run in this process.
    """
    name_missing = name_the_bucket()
    with contextlib.ExitStack() as stack:
        base = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
        memory = stack.enter_context(tempfile.TemporaryDirectory(prefix="oss-benchmark-", dir=base))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oss-benchmark-")))
        certificate = _certificate(folder) if is_secure else ""
        root = Path(memory) / "root"
        options: dict[str, Any] = {"buckets": [BUCKET], "domains": [HOST], "fast_etag": True}
        server = stack.enter_context(emulator.serve(root, certfile=certificate, **options))
        site = Site(server, folder, Path(memory), name_missing, certificate, stack, config=config or {})
        site.publish()
        for _ in range(busy_cores):
            stack.enter_context(_busy_process())
        yield site


@contextlib.contextmanager
def _busy_process() -> Iterator[None]:
    """Keep one core full."""
    process = subprocess.Popen([sys.executable, "-ISc", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def name_the_bucket() -> str:
    """Give the bucket a host name on this machine, if that is allowed; otherwise return what the user must do."""
    if _is_loopback(f"{BUCKET}.{HOST}"):
        return ""
    try:
        with open(HOSTS_FILE, "a") as file:
            file.write(f"{HOSTS_LINE}\n")
    except OSError:
        pass
    return "" if _is_loopback(f"{BUCKET}.{HOST}") else f"add the line '{HOSTS_LINE}' to {HOSTS_FILE}"


def _certificate(folder: Path) -> str:
    """Make a certificate for our names; return the file with key, certificate and the authority to trust."""
    import trustme

    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", HOST, f"{BUCKET}.{HOST}")
    path = folder / "certificate.pem"
    blobs = [leaf.private_key_pem, *leaf.cert_chain_pems, authority.cert_pem]
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return str(path)


def tool(name: str, package: str) -> tuple[str, str]:
    """Return the path of a program and "", or "" and how to install it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return (path, "") if path else ("", f"not installed: apt-get install {package}")


def names_of(uris: Sequence[str]) -> list[str]:
    """Return the keys of URIs in our bucket."""
    return [uri.removeprefix(f"oss://{BUCKET}/") for uri in uris]


def _is_loopback(host: str) -> bool:
    try:
        return socket.gethostbyname(host) == "127.0.0.1"
    except OSError:
        return False
