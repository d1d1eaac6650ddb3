"""What the README shows runs, and what it links to exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from loaders import needs_torch
from scripts import ROOT, run_pytest, run_python

from osstorchconnector import emulator

README = (ROOT / "README.md").read_text(encoding="utf-8")


def program(heading: str, blocks_wanted: int = 1) -> str:
    """Return the first blocks of Python under a heading of the README, as one program."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found
    blocks = re.findall(r"^```py\n(.*?)^```$", found.group(1), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= blocks_wanted
    return "\n".join(blocks[:blocks_wanted])


def printed_by(heading: str, server: Any, folder: Path, blocks: int = 1) -> str:
    """Run the program under `heading`, with the server's endpoint and credentials; return what it prints."""
    script = program(heading, blocks)
    for old, new in {
        "https://oss-cn-beijing.aliyuncs.com": server.endpoint,
        "/root/.alibabacloud/credentials": server.credentials_file(folder),
    }.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    (folder / "program.py").write_text(script, encoding="utf-8")
    printed, complaints = run_python("program.py", folder=folder)
    assert complaints == ""
    return printed


def test_the_first_program_runs(tmp_path: Path) -> None:
    with emulator.serve(buckets=["my-bucket"]) as server:
        server.put("my-bucket", "pictures/cat", b"meow")
        assert printed_by("A first program", server, tmp_path) == "/my-bucket/pictures/cat 4 4\n"
        assert server.keys("my-bucket") == ["checkpoints/first", "pictures/cat"]


@needs_torch(2, 3)
def test_the_program_of_the_checkpoints_runs(tmp_path: Path) -> None:
    with emulator.serve(buckets=["my-bucket"]) as server:
        assert printed_by("Checkpoints", server, tmp_path) == ""
        assert server.keys("my-bucket") == ["checkpoints/epoch.1"]


def test_the_program_of_the_client_runs(tmp_path: Path) -> None:
    with emulator.serve(buckets=["my-bucket"]) as server:
        first, then = "b'234' 10\n['notes']\n[]\n[10, 10]\n", "0 4\n4 4\nTransferred(files=1, size=4)\n"
        last = "True {'camera': 'x1'}\nTransferred(files=1, size=4)\n"
        assert printed_by("The client", server, tmp_path, blocks=2) == first + then + last
        assert (tmp_path / "copies" / "cat.txt").read_text() == "meow"


def test_the_test_that_it_shows_passes_under_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(program("An OSS for your own tests"), encoding="utf-8")
    assert "1 passed" in run_pytest(tmp_path)


def test_the_files_that_it_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_example_is_linked_to() -> None:
    runnable = {path.name for path in (ROOT / "examples").glob("*.py")} - {"playground.py"}
    assert runnable == set(re.findall(r"\]\(examples/(\w+\.py)\)", README))
