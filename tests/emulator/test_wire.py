"""Answers as steps: cut into loads, with the same bytes in the same order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.emulator.blobs import Blob, BlobSpan
from osstorchconnector.emulator.wire import Pause, Step, in_loads, size_of_step

BLOB = Blob("blob")
steps = st.lists(
    st.one_of(
        st.binary(max_size=50),
        st.builds(lambda start, size: BlobSpan(BLOB, start, start + size), st.integers(0, 100), st.integers(0, 50)),
        st.just(Pause(1.0)),
    )
)


def bytes_of(found: list[Step]) -> list[object]:
    """Return each byte: its value, or its place in the blob; and the steps that send nothing, between them."""
    whole: list[object] = []
    for step in found:
        whole += (
            [step] if isinstance(step, Pause) else range(step.start, step.stop) if isinstance(step, BlobSpan) else step
        )
    return whole


@given(steps, st.integers(1, 60))
def test_loads_hold_the_same_bytes_and_are_as_full_as_can_be(given_steps: list[Step], load_bytes: int) -> None:
    loads = list(in_loads(given_steps, load_bytes))
    assert bytes_of([step for _size, load in loads for step in load]) == bytes_of(given_steps)
    for position, (size, load) in enumerate(loads):
        assert size == sum(map(size_of_step, load)) <= load_bytes
        is_last = position + 1 == len(loads) or isinstance(loads[position + 1][1][0], Pause)
        assert size == load_bytes or is_last or load == [Pause(1.0)]


def test_an_answer_without_end_can_be_begun() -> None:
    loads = in_loads(iter(lambda: b"more", b""), 10)
    assert [next(loads) for _ in range(2)] == [(10, [b"more", b"more", b"mo"]), (10, [b"re", b"more", b"more"])]
