"""What a client gives crosses to other processes, by every protocol of pickle."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from osstorchconnector.protocol.values import (
    ByteSpan,
    Download,
    ListedObject,
    ListedObjects,
    ListedUpload,
    ListPage,
    ObjectStat,
    StoredObject,
    UploadedPart,
)

STAT = ObjectStat(1, "etag", 7, 1e9, "text/plain", "Normal")
LISTED = ListedObjects(["a", "b"], [1, 2], ["x", "y"], ["2025", "2026"])
VALUES = [
    STAT,
    Download(STAT, ByteSpan(0, 1), b"x", 7),
    LISTED,
    LISTED[1],
    ListPage(LISTED, ["folder/"], "token"),
    ListPage([ListedObject("a", 1, "x", "2025")], [], ""),
    StoredObject("etag", None),
    UploadedPart(1, "etag", 5, 7),
    ListedUpload("key", "id", "2025"),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_arrives_as_it_was(value: Any, protocol: int) -> None:
    other = pickle.loads(pickle.dumps(value, protocol))
    assert type(other) is type(value)
    assert other == value
