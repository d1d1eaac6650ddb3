"""What docs/checkpoints.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

from osstorchconnector.testing import OssBucket

TEXT = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def test_the_program_on_the_page_runs(oss_bucket: OssBucket) -> None:
    (program,) = re.findall(r"^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    names = {"ENDPOINT": oss_bucket.endpoint, "CRED_PATH": oss_bucket.cred_path, "REGION": oss_bucket.region}
    exec(program.replace("oss://my-bucket/", oss_bucket.uri), names)
    assert "run-8/step-0000000100/.metadata" in oss_bucket.server.keys(oss_bucket.name)


def test_links_lead_to_files() -> None:
    folder = Path(__file__).parents[2] / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (folder / link).is_file()] == []
