"""Sources and targets: URIs, files and folders; no key leads out of a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.cli import Local, Remote, place
from osstorchconnector.cli.places import remote, target_of
from osstorchconnector.errors import OssUriError, OssUsageError


@pytest.mark.parametrize(
    ("source", "target", "final"),
    [
        ("file.bin", "oss://bucket/dir/", "oss://bucket/dir/file.bin"),
        ("file.bin", "oss://bucket", "oss://bucket/file.bin"),
        ("file.bin", "oss://bucket/key", "oss://bucket/key"),
        ("oss://bucket/dir/a", "oss://other/", "oss://other/a"),
        ("oss://bucket/dir/a", "new.bin", "new.bin"),
        ("oss://bucket/dir/a", "/", "/a"),
    ],
)
def test_a_single_file_goes_into_a_folder_or_to_a_name(source: str, target: str, final: str) -> None:
    assert str(target_of(place(target), place(source))) == final


def test_an_existing_folder_is_a_folder_without_a_slash(tmp_path: Path) -> None:
    assert str(target_of(place(str(tmp_path)), place("oss://bucket/dir/a"))) == str(tmp_path / "a")


@given(st.text(st.sampled_from("a./\0\\ü"), max_size=8))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with contextlib.suppress(OssUsageError):
        below = Local("/folder").below(name).path
        assert Path(below).is_relative_to("/folder")
        assert below == f"/folder/{name}"


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a\0b"])
def test_names_that_lead_out_or_say_nothing_are_refused(name: str) -> None:
    with pytest.raises(OssUsageError, match="can't be a path below /folder"):
        Local("/folder").below(name)


def test_a_local_path_is_no_uri() -> None:
    with pytest.raises(OssUsageError, match="write oss://bucket/key"):
        remote("bucket/key")
    with pytest.raises(OssUriError):
        remote("oss://B/")


def test_names_below_a_prefix_are_keys() -> None:
    where = place("oss://bucket/dir")
    assert isinstance(where, Remote)
    assert str(where.folder().below("a/b")) == "oss://bucket/dir/a/b"
    assert not where.is_folder()
