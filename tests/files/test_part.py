"""A part is the bytes that were added, in their order, and knows their CRC-64 if it can."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.part import Part
from osstorchconnector.protocol.checksum import CHECKSUM_BLOCK_BYTES, crc64


@given(st.lists(st.tuples(st.sampled_from(["copy", "fill", "hold", "hold unknown"]), st.binary(max_size=50))))
def test_a_part_is_what_was_added(steps: list[tuple[str, bytes]]) -> None:
    part = Part()
    part.memory = memoryview(bytearray(sum(len(data) for _, data in steps)))
    for how, data in steps:
        if how == "copy":
            part.copy(memoryview(data))
        elif how == "fill":
            assert part.fill_from(io.BytesIO(data), len(data)) == len(data)
        else:
            part.hold(memoryview(data), crc64(data) if how == "hold" else None)
    whole = b"".join(data for _, data in steps)
    body, crc = part.close()
    assert b"".join(body) == whole
    assert part.size_bytes == len(whole)
    assert part.held_bytes == sum(len(data) for how, data in steps if how.startswith("hold"))
    assert crc == (None if "hold unknown" in dict(steps) else crc64(whole))


def test_what_is_held_is_no_copy_and_what_is_copied_is_summed_meanwhile() -> None:
    part, data = Part(), bytes(range(256)) * (CHECKSUM_BLOCK_BYTES // 256)
    part.memory = memoryview(bytearray(2 * len(data)))
    part.copy(memoryview(data))
    part.hold(memoryview(data), crc64(data))
    part.copy(memoryview(data))
    body, crc = part.close()
    assert [view.obj is data for view in body] == [False, True, False]
    assert crc == crc64(data * 3)


def test_a_part_that_was_sent_lets_its_bytes_go() -> None:
    part = Part()
    part.hold(memoryview(b"bytes"), None)
    part.let_go()
    assert part.close() == ([], None)
    assert part.size_bytes == 5
