from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssConfigError
from osstorchconnector.index.labels import are_folders, folder_around, folder_below, pack_classes, unpack_classes

NAMES = st.text(min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("key", "folder", "expected"),
    [
        ("train/cat/1.jpg", "train/", "cat"),
        ("train/cat/indoors/1.jpg", "train/", "cat"),
        ("cat/1.jpg", "", "cat"),
        ("./cat/1.jpg", "", "cat"),
        ("train/1.jpg", "train/", ""),
        ("train//1.jpg", "train/", ""),
        ("train/cat/", "train/", "cat"),
        ("", "", ""),
    ],
)
def test_the_first_folder_below_the_prefix_is_the_class(key: str, folder: str, expected: str) -> None:
    assert folder_below(key, folder) == expected


@given(st.lists(NAMES.filter(lambda name: "/" not in name and name != "."), min_size=1, max_size=4), NAMES)
def test_what_lies_deeper_does_not_matter(folders: list[str], name: str) -> None:
    assert folder_below("/".join([*folders, name])) == folders[0]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("cat/1.jpg", "cat"), ("train/cat/1.jpg", "cat"), ("/bucket/cat/1", "cat"), ("./1", ""), ("/1", ""), ("1", "")],
)
def test_a_member_of_a_tar_is_of_the_folder_around_it(key: str, expected: str) -> None:
    assert folder_around(key) == expected


def test_labels_come_from_folders_or_not() -> None:
    assert are_folders("folders")
    assert not are_folders("")
    with pytest.raises(OssConfigError, match="labels: 'folder' is neither"):
        are_folders("folder")  # type: ignore[arg-type]


@given(st.lists(NAMES, max_size=4))
def test_names_of_classes_come_back(names: list[str]) -> None:
    assert unpack_classes(pack_classes(names)) == tuple(names)


@pytest.mark.parametrize("stored", [b"", b"3", b'["a", 3]', b'{"a": 1}', b"\xff"])
def test_what_is_no_list_of_names_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        unpack_classes(stored)
