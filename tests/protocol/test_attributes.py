from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssUsageError
from osstorchconnector.protocol.attributes import MAX_METADATA_BYTES, PLAIN, attributes


def test_nothing_given_is_bytes() -> None:
    assert attributes() is PLAIN
    assert PLAIN.headers() == (("content-type", "application/octet-stream"),)


def test_attributes_become_headers() -> None:
    found = attributes("image/png; q=1", {"Camera": "x 1", "empty": ""}, "IA")
    assert found.headers() == (
        ("content-type", "image/png; q=1"),
        ("x-oss-storage-class", "IA"),
        ("x-oss-meta-camera", "x 1"),
        ("x-oss-meta-empty", ""),
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"storage_class": "STANDARD_IA"}, "storage_class: 'STANDARD_IA' is none of Standard, IA"),
        ({"content_type": "a\r\nx-oss-acl: public"}, "content_type"),
        ({"metadata": {"a b": "c"}}, "'a b' is no name"),
        ({"metadata": {"": "c"}}, "'' is no name"),
        ({"metadata": {"a": 3}}, "the value of 'a' is no printable ASCII text"),
        ({"metadata": {"a": "ä"}}, "urllib.parse.quote"),
        ({"metadata": {"a": " b"}}, "the value of 'a'"),
        ({"metadata": {"a": "b" * MAX_METADATA_BYTES}}, "OSS allows 8192"),
    ],
)
def test_what_oss_does_not_allow_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(OssUsageError, match=reason):
        attributes(**arguments)


@given(st.text(max_size=5), st.text(max_size=8))
def test_no_text_makes_another_header(name: str, value: str) -> None:
    try:
        found = attributes("", {name: value})
    except OssUsageError:
        return
    for part in found.headers()[-1]:
        assert part.isascii()
        assert part.isprintable()
