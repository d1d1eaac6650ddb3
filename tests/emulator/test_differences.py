"""The page about the emulator shows the table of differences, and each row is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from emulator.driver import Driver, pauses

from osstorchconnector.emulator.differences import DIFFERENCES, render
from osstorchconnector.emulator.interface import OPERATIONS
from osstorchconnector.emulator.service import Policy
from osstorchconnector.protocol.checksum import crc64

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"
BEGIN, END = "writes this part -->\n", "<!-- end of differences -->"


def test_the_page_shows_the_table() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == render(), "run python -m osstorchconnector.emulator.differences and put its output there"


def test_every_operation_is_named() -> None:
    assert all(name in render() for name in OPERATIONS)


def query_parameters(send: Driver) -> None:
    assert send("DELETE", "photos", "k", [("v", "3")]).status == 501
    assert send("GET", "photos", "k", [("v", "3")]).status == 200


def headers(send: Driver) -> None:
    assert send("PUT", "photos", "k", headers=[("x-oss-callback", "e30=")]).status == 501
    assert send("PUT", "photos", "k", headers=[("if-none-match", "*")]).status == 400


def encryption(send: Driver) -> None:
    send("PUT", "photos", "e", body=b"plain", headers=[("x-oss-server-side-encryption", "KMS")])
    record = send.frontend.service.bucket("photos").objects["e"]
    assert send.frontend.service.blobs.read(record.content) == b"plain"


def storage_classes(send: Driver) -> None:
    send("PUT", "photos", "cold", headers=[("x-oss-storage-class", "Archive")])
    assert send("GET", "photos", "cold").status == 403
    send("POST", "photos", "cold", [("restore", "")])
    assert send("GET", "photos", "cold").status == 403
    send.frontend.service.clock_offset_seconds = 61
    assert send("GET", "photos", "cold").status == 200
    assert send("DELETE", "photos", "cold").status == 204


def access(send: Driver) -> None:
    assert send("GET", "photos", query=[("policy", "")]).status == 501
    assert send("GET", "photos", query=[("acl", "")]).texts("Owner/ID") == send("GET").texts("Owner/ID")


def endpoints(send: Driver) -> None:
    assert set(send("GET").texts("Buckets/Bucket/ExtranetEndpoint")) == {"http://127.0.0.1:9000"}


def throttling(send: Driver) -> None:
    assert {send("GET", "photos", "k").status for _ in range(300)} == {200}
    assert pauses(send("GET", "photos", "k", headers=[("x-oss-traffic-limit", "245760")]))


def ranges(send: Driver) -> None:
    assert send("GET", "photos", "k", headers=[("range", "bytes=0-1,3-4")]).status == 200
    standard = [("range", "bytes=-1000"), ("x-oss-range-behavior", "standard")]
    assert send("GET", "photos", "k", headers=standard).body == b"0123456789"


def discarded_bodies(send: Driver) -> None:
    send.frontend.service.policy = Policy(discard_bodies=True)
    send("PUT", "photos", "d", body=b"x")
    assert (send("GET", "photos", "d").status, send("GET", "photos", "d").code) == (403, "InvalidObjectState")


def compression(send: Driver) -> None:
    send("PUT", "photos", "a.txt", body=b"a" * 2000, headers=[("content-type", "text/plain")])
    answer = send("GET", "photos", "a.txt", headers=[("accept-encoding", "gzip")])
    assert (answer.body, "content-encoding" in answer.headers) == (b"a" * 2000, False)


def sizes_of_copies(send: Driver) -> None:
    assert send("PUT", "photos", "copy", headers=[("x-oss-copy-source", "/photos/k")]).status == 200


def etags(send: Driver) -> None:
    send.frontend.service.policy = Policy(fast_etag=True)
    assert send("PUT", "photos", "f", body=b"x").headers["etag"] == f'"{crc64(b"x"):016X}{1:016X}"'


CHECKS: dict[str, Callable[[Driver], None]] = {
    "query parameters": query_parameters,
    "headers": headers,
    "encryption": encryption,
    "storage classes": storage_classes,
    "access": access,
    "endpoints": endpoints,
    "throttling": throttling,
    "ranges": ranges,
    "discarded bodies": discarded_bodies,
    "compression": compression,
    "sizes of copies": sizes_of_copies,
    "ETags under `fast_etag`": etags,
}


@pytest.mark.parametrize("matter", [row.matter for row in DIFFERENCES])
def test_it_differs_as_it_says(send: Driver, matter: str) -> None:
    send("PUT", "photos", "k", body=b"0123456789")
    CHECKS[matter](send)
