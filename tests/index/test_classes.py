"""Numbers of classes, held against a dictionary of sorted names."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssConfigError, OssError, OssNotFoundError, OssUsageError
from osstorchconnector.index import classes
from osstorchconnector.index.classes import Classified, LabelNumbers
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.shared_file import Wait
from osstorchconnector.index.tar_places import TarPlaces
from osstorchconnector.uri import MemberUri

Rows = list[tuple[str, str]]

FOLDERS = st.sampled_from(["", "cat", "dog", "a-b", "a"])
PAGES = st.lists(st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), FOLDERS), max_size=4), max_size=4)


class Pages:
    """A source of batches that were made before."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        yield from self._batches[int(cursor or 0) :]


def source_of(pages: list[Rows], folder: str = "") -> Classified:
    batches = [
        Batch("b/", [name for name, _ in rows], [1] * len(rows), [label for _, label in rows], b"%d" % number, 1)
        for number, rows in enumerate(pages, 1)
    ]
    return Classified(Pages(batches), "oss://b/", folder=folder)


def numbered(pages: list[Rows]) -> list[Batch]:
    return list(source_of(pages).batches(b"", Future.result))


def labels_of(batches: list[Batch]) -> list[tuple[str, Any]]:
    return [(info.uri.key, info.label) for info in FixedIndex(batches).items()]


@given(PAGES)
def test_labels_are_numbers_of_the_sorted_names(pages: list[Rows]) -> None:
    rows = [row for page in pages for row in page if row[1]]
    names = sorted({label for _, label in rows})
    if not names and any(pages):
        with pytest.raises(OssNotFoundError, match="no object under oss://b/ is in a folder"):
            numbered(pages)
        return
    batches = numbered(pages)
    assert labels_of(batches) == [(name, names.index(label)) for name, label in rows]
    assert sum(batch.skipped for batch in batches) == len(pages)
    known = LabelNumbers(FixedIndex(batches))
    assert known.classes == names
    assert known.class_to_idx == {name: number for number, name in enumerate(names)}
    assert known.targets == [names.index(label) for _, label in rows]


@given(PAGES.filter(lambda pages: any(label for page in pages for _, label in page)), st.data())
def test_another_process_goes_on_behind_any_batch(pages: list[Rows], data: st.DataObject) -> None:
    batches = numbered(pages)
    taken = data.draw(st.integers(0, len(batches) - 1))
    repaged = [[row for page in pages for row in page]]  # pages need not be the same when they are listed again
    rest = list(source_of(repaged).batches(batches[taken].cursor, Future.result))
    whole = [*batches[: taken + 1], *rest]
    assert labels_of(whole) == labels_of(batches)
    assert LabelNumbers(FixedIndex(whole)).classes == LabelNumbers(FixedIndex(batches)).classes


def test_a_folder_that_comes_while_another_process_takes_over_is_an_error() -> None:
    cursor = numbered([[("a", "cat"), ("b", "dog")]])[1].cursor
    changed = source_of([[("0", "ant"), ("a", "cat"), ("b", "dog")]])
    with pytest.raises(OssError, match="folders under oss://b/ have come or gone"):
        list(changed.batches(cursor, Future.result))


def test_one_warning_tells_of_all_that_is_in_no_folder(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert labels_of(numbered([[("README", ""), ("a", "cat")], [("LICENSE", "")]])) == [("a", 0)]
    assert [record.getMessage() for record in caplog.records] == [
        "labels=\"folders\": 2 objects under oss://b/ are in no folder, and are left out, such as 'b/README'"
    ]


def test_rows_wait_in_a_file_if_they_are_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(classes, "_SPOOL_BYTES", 1000)
    pages = [[(f"{page}-{row}", "dog" if row % 2 else "cat") for row in range(50)] for page in range(20)]
    found = labels_of(list(source_of(pages, str(tmp_path)).batches(b"", Future.result)))
    assert found == [(name, int(label == "dog")) for page in pages for name, label in page]
    with pytest.raises(OssConfigError, match="indexDir"):
        list(source_of(pages, str(tmp_path / "gone")).batches(b"", Future.result))


def test_members_of_tars_keep_their_places() -> None:
    places = TarPlaces("b/t.tar", "etag", [0, 10, 20], [10, 20, 30])
    batch = Batch("", ["README", "dog/1", "cat/1"], [1, 2, 3], ["", "dog", "cat"], b"", 0, places)
    batches = list(Classified(Pages([batch]), "oss://b/t.tar").batches(b"", Future.result))
    rows = list(FixedIndex(batches).items())
    assert [(row.uri, row.size, row.label) for row in rows] == [
        (MemberUri("b", "dog/1", "t.tar", 10, 20), 2, 1),
        (MemberUri("b", "cat/1", "t.tar", 20, 30), 3, 0),
    ]


def known_of(labels: list[Any]) -> LabelNumbers:
    names = [str(number) for number in range(len(labels))]
    return LabelNumbers(FixedIndex([Batch("b/", names, [1] * len(names), labels)]))


@pytest.mark.parametrize(
    ("labels", "names", "targets"),
    [
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
        ([7, 3, 7], [3, 7], [7, 3, 7]),
        (["10", "9", "10"], ["9", "10"], [10, 9, 10]),
        (["10", "9", "x"], ["10", "9", "x"], [0, 1, 2]),
        ([], [], []),
    ],
)
def test_labels_of_manifests_have_numbers(labels: list[Any], names: list[Any], targets: list[int]) -> None:
    known = known_of(labels)
    assert (known.classes, known.targets) == (names, targets)
    assert [known.class_to_idx[label] for label in labels] == targets
    assert list(known.class_to_idx) == names


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["cat", ""], 'labels="folders", or from a manifest'),
        (["cat", 3], "these are: int, str"),
        ([[1], [2]], "these are: list"),
        ([True, False], "these are: bool"),
        ([1.5], "these are: float"),
    ],
)
def test_other_labels_have_no_classes(labels: list[Any], reason: str) -> None:
    with pytest.raises(OssUsageError, match=reason):
        known_of(labels).targets  # noqa: B018


def test_numbers_of_members_are_no_classes() -> None:
    places = TarPlaces("b/t.tar", "etag", [0, 10], [10, 20])
    with pytest.raises(OssUsageError, match='labels="folders"'):
        LabelNumbers(FixedIndex([Batch("", ["a", "b"], [1, 2], ["0", "1"], places=places)])).classes  # noqa: B018


@pytest.mark.parametrize("label", [2, -1, "cat", [0]])
def test_labels_that_are_no_numbers_of_the_classes_are_damage(label: Any) -> None:
    index = FixedIndex([Batch("", (), (), classes=["cat", "dog"]), Batch("b/", ["x"], [1], [label])])
    with pytest.raises(OssError, match="damaged"):
        LabelNumbers(index).targets  # noqa: B018


def test_a_pickle_has_no_list_of_all_numbers() -> None:
    known = known_of(["cat"] * 5000)
    before = len(pickle.dumps(known))
    assert sum(known.targets) == 0
    assert len(pickle.dumps(known)) == before
    assert pickle.loads(pickle.dumps(known)).targets == known.targets
