from __future__ import annotations

import sys

import pytest
from scripts import run_python

from osstorchconnector.client.memory import (
    HUGE_PAGE_BYTES,
    CopiedMemory,
    FreshMemory,
    fresh_memory,
    prefer_huge_pages,
    whole_huge_pages,
)


@pytest.mark.parametrize("kind", [FreshMemory, CopiedMemory, fresh_memory])
def test_what_was_filled_in_is_given_out(kind):
    memory = kind(10)
    with memory.getbuffer() as view:
        view[:5] = b"01234"
    assert memory.getvalue() == b"01234\0\0\0\0\0"


def test_it_is_given_out_without_a_copy():
    memory = FreshMemory(10)
    assert memory.getvalue() is memory.getvalue()


def test_garbage_in_a_cycle_is_collected_without_a_word():
    # So a traceback may hold a view. Errors of finalisers are told by Python 3.13, and by others in development mode.
    program = (
        "import gc\n"
        "from osstorchconnector.client.memory import fresh_memory\n"
        "cycle = [fresh_memory(100).getbuffer()]\n"
        "cycle.append(cycle)\n"
        "del cycle\n"
        "gc.collect()\n"
    )
    assert run_python("-X", "dev", "-c", program) == ("", "")


def test_memory_that_cannot_be_had_is_an_error():
    with pytest.raises((MemoryError, OverflowError)):
        fresh_memory(sys.maxsize)


@pytest.mark.parametrize("size", [0, 1, HUGE_PAGE_BYTES, 4 * HUGE_PAGE_BYTES])
def test_memory_for_which_huge_pages_are_preferred_keeps_its_bytes(size):
    data = bytearray(b"x" * size)
    prefer_huge_pages(memoryview(data))
    assert data == b"x" * size


@pytest.mark.parametrize(
    ("start", "size", "pages"),
    [(0, 3, range(3)), (0.5, 3, range(1, 3)), (1, 2.9, range(1, 3)), (0.5, 1, range(0)), (0.1, 0.5, range(0))],
)
def test_only_whole_huge_pages_within_the_memory_are_asked_for(start, size, pages):
    found, size_bytes = whole_huge_pages(int(start * HUGE_PAGE_BYTES), int(size * HUGE_PAGE_BYTES))
    assert size_bytes == len(pages) * HUGE_PAGE_BYTES
    assert not pages or found == pages[0] * HUGE_PAGE_BYTES
