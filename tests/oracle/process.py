"""The oracle in a process of its own: its own interpreter lock, and none of its threads in a test that forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from .messages import Account
from .signed_http import SignedHttp

DEFAULT_ACCOUNT = Account("oracle-key-id", "oracle-key-secret")
DEFAULT_REGION = "cn-test"


@dataclass(frozen=True)
class OracleServer:
    """A running oracle, and a back door to it."""

    endpoint: str
    region: str
    credentials: Account

    def http(self, account: Account | None = None) -> SignedHttp:
        """Return a client that signs and shows what comes back as it is."""
        return SignedHttp(self.endpoint, self.region, account or self.credentials)

    def create_bucket(self, name: str) -> None:
        self.http().send("PUT", name).expect(200)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.http().send("PUT", bucket, key, body=data).expect(200)

    def get(self, bucket: str, key: str) -> bytes:
        return self.http().send("GET", bucket, key).expect(200).body

    def keys(self, bucket: str) -> list[str]:
        """Return all keys in UTF-8 byte order."""
        keys: list[str] = []
        while True:
            query = {
                "list-type": "2",
                "max-keys": "1000",
                "encoding-type": "url",
                "start-after": keys[-1] if keys else "",
            }
            page = self.http().send("GET", bucket, query=query).expect(200).document()
            keys += [unquote(node.text or "") for node in page.findall("Contents/Key")]
            if page.findtext("IsTruncated") != "true":
                return keys


@contextmanager
def serve(
    *, region: str = DEFAULT_REGION, accounts: tuple[Account, ...] = (DEFAULT_ACCOUNT,)
) -> Iterator[OracleServer]:
    """Run an empty oracle on a free port of 127.0.0.1; the first account is the one the handle uses."""
    tests = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", __package__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"accounts": accounts, "region": region}) + "\n")
        process.stdin.flush()
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError(f"the oracle did not start: status {process.wait()}")
        try:
            yield OracleServer(endpoint, region, accounts[0])
        finally:
            process.terminate()
