from __future__ import annotations

from typing import Any, cast

from osstorchconnector.dcp.file_upload import ABORT_SECONDS, FileUpload, give_up


class Upload:
    """Notes what it is told to do."""

    def __init__(self, name: str, notes: list[Any]) -> None:
        self._name, self._notes = name, notes

    def abort(self) -> None:
        self._notes.append(("abort", self._name))

    def wait_until_gone(self, seconds: float) -> bool:
        assert 0 <= seconds <= ABORT_SECONDS
        self._notes.append(("wait", self._name))
        return True


def test_all_files_are_aborted_before_one_is_waited_for() -> None:
    notes: list[Any] = []
    give_up([cast(FileUpload, Upload(name, notes)) for name in "ab"])
    assert notes == [("abort", "a"), ("abort", "b"), ("wait", "a"), ("wait", "b")]
