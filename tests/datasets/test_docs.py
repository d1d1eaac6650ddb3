"""What docs/loaders.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from loaders import needs_stateful_loader

from osstorchconnector.testing import OssBucket

TEXT = (Path(__file__).parents[2] / "docs" / "loaders.md").read_text(encoding="utf-8")
CLASSES, STATEFUL, READING_SERVICE = re.findall(r"^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NAMES = [f"pictures/{number}" for number in range(9)]


def run(program: str, bucket: OssBucket, names: dict[str, Any]) -> list[Any]:
    """Run a program of the page on a bucket; return what it has seen."""
    for old, new in {
        "https://oss-cn-beijing.aliyuncs.com": bucket.endpoint,
        "/root/.alibabacloud/credentials": bucket.cred_path,
        "oss://my-bucket/": bucket.uri,
    }.items():
        program = program.replace(old, new)
    exec(program, names)
    return sorted(names["seen"])


@needs_stateful_loader
def test_the_programs_on_the_page_see_each_object_once(oss_bucket: OssBucket) -> None:
    for name in NAMES:
        oss_bucket.put(name, b"meow")
    names: dict[str, Any] = {}
    assert run(STATEFUL, oss_bucket, names) == NAMES
    pytest.importorskip("torchdata.dataloader2")  # no torchdata for Python 3.13 and newer has it
    assert run(READING_SERVICE, oss_bucket, names) == NAMES


def test_the_program_of_classes_draws_each_equally_often(oss_bucket: OssBucket) -> None:
    for name in ["cat/1", *(f"dog/{number}" for number in range(9))]:
        oss_bucket.put(f"pictures/{name}", b"meow")
    seen = run(CLASSES, oss_bucket, {})
    assert len(seen) == 100
    assert 20 < seen.count(0) < 80  # 10 of 100 if each object came equally often
