from __future__ import annotations

import mmap
import sys

import pytest
from scripts import run_python

from osstorchconnector.client.memory import CopiedMemory, FreshMemory, copy_bytes, fresh_memory, prefault


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


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 9 << 20])
def test_memory_keeps_its_bytes_when_its_pages_are_found(size):
    data = bytearray(b"x" * size)
    prefault(memoryview(data))
    assert data == b"x" * size


@pytest.mark.parametrize(("start", "stop"), [(0, 9 << 20), (5000, (9 << 20) - 7), (4000, 4100)])
def test_fresh_memory_is_all_zero_when_its_pages_were_found(start, stop):
    memory = mmap.mmap(-1, 9 << 20)
    prefault(memoryview(memory)[start:stop])
    assert memory[:] == bytes(9 << 20)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_bytes_are_copied_few_or_many(size):
    source, target = bytes(range(256)) * (size // 256 + 1), bytearray(size + 2)
    copy_bytes(memoryview(target)[1:-1], memoryview(source)[:size])
    assert target == b"\0" + source[:size] + b"\0"


@pytest.mark.parametrize("size", [2, 100_000])
def test_no_other_number_of_bytes_is_copied(size):
    with pytest.raises(ValueError, match="shape|size|structure"):
        copy_bytes(memoryview(bytearray(size + 1)), memoryview(bytes(size)))


def test_memory_of_objects_that_come_and_go_is_used_again():
    program = (
        "import platform, resource\n"
        "from osstorchconnector.client.memory import raise_malloc_threshold\n"
        "raise_malloc_threshold()\n"
        "def turn():\n"
        "    return [b'x' * 100_000 for _ in range(40)]\n"
        "turn()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): turn()\n"
        "pages = 20 * 40 * 100_000 // resource.getpagesize()\n"
        "found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "assert found < pages / 10 or platform.libc_ver()[0] != 'glibc', (found, pages)\n"
    )
    assert run_python("-c", program) == ("", "")
