from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.chunked import ChunkedDecoder

BODY = b"Hello, chunked world"
CODED = b"5\r\nHello\r\n9;name=value\r\n, chunked\r\n006\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, len(CODED)), max_size=6))
def test_a_body_is_the_same_however_it_is_split(cuts: list[int]) -> None:
    decoder = ChunkedDecoder()
    places = [0, *sorted(cuts), len(CODED)]
    body = rest = b""
    for start, stop in pairwise(places):
        if decoder.is_done:
            rest += CODED[start:stop]
        else:
            body += b"".join(decoder.feed(memoryview(CODED)[start:stop]))
    assert body == BODY
    assert decoder.is_done
    assert decoder.rest + rest == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    "coded",
    [
        b"x\r\n",
        b"-5\r\nHello",
        b"5\nHello\r\n",
        b"5\r\nHelloX\r\n",
        b"\r\n",
        b"1" * 16 + b"\r\n",
        b"5;" + b"x" * 10_000,
        b"0\r\n" + b"x" * 10_000,
    ],
)
def test_what_is_not_chunked_coding_is_refused(coded: bytes) -> None:
    with pytest.raises(OssProtocolError, match="chunk"):
        ChunkedDecoder().feed(memoryview(coded))
