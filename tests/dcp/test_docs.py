"""What docs/checkpoints.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

from osstorchconnector.testing import OssBucket

TEXT = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def test_the_program_on_the_page_runs(oss_bucket: OssBucket) -> None:
    (program,) = re.findall(r"^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for old, new in {
        "https://oss-cn-beijing.aliyuncs.com": oss_bucket.endpoint,
        "/root/.alibabacloud/credentials": oss_bucket.cred_path,
        "oss://my-bucket/": oss_bucket.uri,
    }.items():
        program = program.replace(old, new)
    exec(program, {})
    assert "run-8/step-0000000100/.metadata" in oss_bucket.server.keys(oss_bucket.name)


def test_links_lead_to_files() -> None:
    folder = Path(__file__).parents[2] / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (folder / link).is_file()] == []
