"""What docs/safetensors.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from loaders import needs_torch

from osstorchconnector.tensors.dtypes import SAFETENSORS_DTYPES
from osstorchconnector.testing import OssBucket

TEXT = (Path(__file__).parents[2] / "docs" / "safetensors.md").read_text(encoding="utf-8")


def test_the_program_on_the_page_runs(oss_bucket: OssBucket, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for old, new in {
        "https://oss-cn-beijing.aliyuncs.com": oss_bucket.endpoint,
        "/root/.alibabacloud/credentials": oss_bucket.cred_path,
        "oss://my-bucket/": oss_bucket.uri,
    }.items():
        program = program.replace(old, new)
    found: dict[str, object] = {}
    exec(program, found)
    assert capsys.readouterr().out == "['weight'] ['weight'] {'format': 'pt'}\n"
    assert [tuple(found[name].shape) for name in ("rows", "columns", "single")] == [(100, 64), (1000, 8), (2, 64)]


@needs_torch(2, 8)  # with elements of four bits
def test_the_page_names_all_dtypes() -> None:
    table = TEXT.partition("| the file has |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"[A-Z][A-Z0-9_]+", line.split("|")[1])}
    assert named == {*SAFETENSORS_DTYPES, "F6_E2M3", "F6_E3M2"}


def test_links_lead_to_files() -> None:
    folder = Path(__file__).parents[2] / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert links and all((folder / link).is_file() for link in links)
