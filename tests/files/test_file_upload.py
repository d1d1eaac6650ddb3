"""Files that are given up: all at once, with a word about those that stay."""

from __future__ import annotations

from typing import cast

import pytest

from osstorchconnector.files.file_upload import FileUpload, give_up
from osstorchconnector.files.upload import ABORT_SECONDS
from osstorchconnector.uri import OssUri


class Upload:
    """Notes what it is told to do."""

    def __init__(self, name: str, notes: list[tuple[str, str]], *, is_gone: bool = True) -> None:
        self._name, self._notes, self._is_gone = name, notes, is_gone
        self.uri = OssUri("bucket", name)

    def abort(self) -> None:
        self._notes.append(("abort", self._name))

    def wait_until_gone(self, seconds: float) -> bool:
        assert 0 <= seconds <= ABORT_SECONDS
        self._notes.append(("wait", self._name))
        return self._is_gone


def test_all_files_are_aborted_before_one_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[tuple[str, str]] = []
    give_up([cast(FileUpload, Upload(name, notes)) for name in "ab"])
    assert notes == [("abort", "a"), ("abort", "b"), ("wait", "a"), ("wait", "b")]
    assert caplog.text == ""


def test_a_file_that_is_still_being_aborted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    uploads = [Upload("a", [], is_gone=False), Upload("b", [])]
    give_up([cast(FileUpload, upload) for upload in uploads], 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the upload of oss://bucket/a is still being aborted after 0 s"
    ]
