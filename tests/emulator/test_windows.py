"""Parts of files in memory: the right bytes, never more of them than allowed, gone when the file goes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.emulator.blobs import Windows

PAGE = mmap.ALLOCATIONGRANULARITY


def windows_on(folder: Path, *, max_windows: int = 4, max_pages: int = 8) -> Windows:
    return Windows(
        lambda name: folder / name, max_windows=max_windows, max_bytes=max_pages * PAGE, window_bytes=2 * PAGE
    )


def mapped(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


@given(st.integers(0, 5 * PAGE - 1), st.integers(1, 5 * PAGE))
def test_views_one_after_the_other_give_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, start: int, size: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytes(range(256)) * (5 * PAGE // 256)
    (folder / "file").write_bytes(data)
    windows, found, stop = windows_on(folder), b"", min(start + size, len(data))
    while start + len(found) < stop:
        found += windows.view("file", start + len(found), stop)
    assert found == data[start:stop]
    windows.close()


def test_few_windows_are_open_at_a_time(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 100)
    windows = windows_on(tmp_path, max_windows=3)
    assert [bytes(windows.view(str(number), 0, 100))[:1] for number in range(9)] == [bytes([n]) for n in range(9)]
    assert mapped(tmp_path) == 3
    windows.close()
    assert mapped(tmp_path) == 0


def test_little_is_mapped_of_a_large_file(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(20 * PAGE))
    windows = windows_on(tmp_path, max_pages=4)
    for start in range(0, 20 * PAGE, PAGE):
        windows.view("large", start, 20 * PAGE)
        assert mapped(tmp_path) <= 2
    windows.close()


def test_a_view_outlives_its_window_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    windows = windows_on(tmp_path)
    view = windows.view("file", 0, 5)
    windows.forget("file")
    (tmp_path / "file").unlink()
    assert bytes(view) == b"hello"
    del view
    assert mapped(tmp_path) == 0


def test_a_file_that_is_shorter_than_thought_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    os.truncate(tmp_path / "file", 3)
    with pytest.raises(OSError, match="shorter than its record"):
        windows_on(tmp_path).view("file", 0, 5)
