from __future__ import annotations

import sys

import pytest
from scripts import run_python

from osstorchconnector.client.memory import CopiedMemory, FreshMemory, fresh_memory


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
