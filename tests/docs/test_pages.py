"""The programs of the guides run and print what the pages say. Links lead to files and headings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from loaders import needs_stateful_loader, needs_torch
from scripts import ROOT, run_python

from osstorchconnector import emulator

DOCS = ROOT / "docs"
WITH_PROGRAMS = [DOCS / "index.md", DOCS / "start.md", *sorted((DOCS / "guides").glob("*.md"))]
NEEDS = {"start": needs_torch(2, 3), "checkpoints": needs_torch(2, 3), "resume": needs_stateful_loader}
TEXTS = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
GUARD = 'if __name__ == "__main__":'
END = "--- end of a program"
ALLOWED_WARNINGS = (
    "ignore:torch.distributed is",  # one process saves a distributed checkpoint, as the page says
    "ignore:'set_vital' is deprecated",  # torchdata's StatefulDataLoader with torch 2.13
)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def programs(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each program of a page, and what the page says that it prints: the text block behind it."""
    blocks = re.findall(r"^```(py|text)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for number, (kind, block) in enumerate(blocks):
        if kind == "py":
            following = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
            yield block, following[1] if following[0] == "text" else ""


def guarded(program: str) -> str:
    """Return a program that only the script runs, not its workers: where they start anew, they import the script."""
    return program if GUARD in program else f"{GUARD}\n{textwrap.indent(program, '    ')}"


def put_pictures(server: emulator.Emulator) -> None:
    """Put three classes of small pictures where the guides have them."""
    import io

    from PIL import Image

    for label, color in (("cat", (200, 0, 0)), ("dog", (0, 200, 0)), ("fox", (0, 0, 200))):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), color).save(file, "PNG")
        for number in range(8):
            server.put("my-bucket", f"pictures/train/{label}/{number:03}.png", file.getvalue())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=NEEDS.get(page.stem, ()), id=shown(page)) for page in WITH_PROGRAMS]
)
def test_the_programs_of_a_page_print_what_it_says(tmp_path: Path, page: Path) -> None:
    found = list(programs(page))
    assert found
    script = f"\n{GUARD}\n    print({END!r}, flush=True)\n\n".join(guarded(program) for program, _ in found)
    with emulator.serve(buckets=["my-bucket"]) as server:
        put_pictures(server)
        places = {
            "https://oss-cn-beijing.aliyuncs.com": server.endpoint,
            "http://127.0.0.1:9000": server.endpoint,
            "/root/.alibabacloud/credentials": server.credentials_file(tmp_path),
        }
        for place, here in places.items():
            script = script.replace(place, here)
        (tmp_path / "program.py").write_text(script, encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if "gloo" in script else []
        allowed = [part for warning in ALLOWED_WARNINGS for part in ("-W", warning)]
        environment = {
            "OSS_ACCESS_KEY_ID": server.credentials.access_key_id,
            "OSS_ACCESS_KEY_SECRET": server.credentials.access_key_secret,
            "OMP_NUM_THREADS": "1",
        }
        printed, _ = run_python(
            *allowed, *launcher, "program.py", folder=tmp_path, environment=environment, seconds=500
        )
    assert printed.split(f"{END}\n") == [expected for _, expected in found]


def slug(heading: str) -> str:
    """Return GitHub's name of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def headings(page: Path) -> set[str]:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS, ids=shown)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target, heading in re.findall(r"\]\((?!\w+:)([^)\s#]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        if not file.is_file() or (heading and file.suffix == ".md" and heading not in headings(file)):
            broken.append(f"{target}#{heading}")
    assert broken == []
