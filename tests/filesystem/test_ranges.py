from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.filesystem.ranges import WantedRange, cut_out, even_spans, join, resolved

OBJECTS = {"a": bytes(range(200)), "b": bytes(range(200, 0, -1))}
wanted = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 220), st.integers(1, 60)).map(
        lambda each: (each[0], each[1], each[1] + each[2])
    ),
    max_size=20,
)


@given(wanted, st.integers(0, 50), st.integers(1, 100))
def test_every_range_gets_its_bytes_and_requests_stay_small(
    ranges: list[tuple[str, int, int]], gap: int, most: int
) -> None:
    planned = join(
        [WantedRange(path, start, stop, place) for place, (path, start, stop) in enumerate(ranges)],
        gap_bytes=gap,
        most_bytes=most,
    )
    found = dict(
        piece for request in planned for piece in cut_out(request, OBJECTS[request.path][slice(*request.span)])
    )
    assert found == {place: OBJECTS[path][start:stop] for place, (path, start, stop) in enumerate(ranges)}
    for request in planned:
        assert (
            request.span.size <= most
            or len({each[1:3] for each in request.wanted}) == 1
            or any(each.stop - each.start > most for each in request.wanted)
        )
        assert {each.path for each in request.wanted} == {request.path}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_neighbours_within_the_gap_are_one_request(starts: list[int]) -> None:
    planned = join([WantedRange("a", start, start + 10, place) for place, start in enumerate(starts)], gap_bytes=1000)
    assert len(planned) == 1 and len(planned[0].wanted) == len(starts)


@given(st.integers(-50, 50) | st.none(), st.integers(-50, 50) | st.none(), st.integers(0, 40))
def test_bounds_are_those_of_slices(start: int | None, end: int | None, size: int) -> None:
    data = bytes(range(size))
    first, stop = resolved(start, end, size)
    assert data[first:stop] == data[start:end] and first <= stop


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_even_spans_are_the_whole_in_order(size: int, most: int) -> None:
    spans = even_spans(size, most)
    assert [spans[0].start, *(span.stop for span in spans)] == [*(span.start for span in spans), size]
    assert max(span.size for span in spans) <= most and max(s.size for s in spans) - min(s.size for s in spans) <= 1
