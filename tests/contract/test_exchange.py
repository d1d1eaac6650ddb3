"""What one client writes, the other reads back identical."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from contract.clients import CLIENTS, Client

PART_BYTES = 102400
KEY = "exchange/数据 +%/\x02"


@pytest.mark.parametrize("writer", CLIENTS)
@pytest.mark.parametrize("reader", CLIENTS)
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 65537, 3 * PART_BYTES + 7])
def test_one_clients_object_is_the_others(
    make_client: Callable[[str, str], Client], bucket: str, writer: str, reader: str, parts: int, size: int
) -> None:
    body = random.Random(size).randbytes(size + (parts - 1) * PART_BYTES)
    write, read = make_client(writer, bucket), make_client(reader, bucket)
    if parts == 1:
        written = write.put(KEY, body)
    else:
        cuts = [body[index * PART_BYTES : (index + 1) * PART_BYTES] for index in range(parts - 1)]
        written = write.put_in_parts(KEY, *cuts, body[(parts - 1) * PART_BYTES :])
    assert read.get(KEY) == body
    assert read.head(KEY) == written
    assert read.sizes_and_etags("exchange/") == {KEY: (len(body), written.etag)}
    if body:
        assert read.get_range(KEY, len(body) // 2, len(body) + 10) == body[len(body) // 2 :]
