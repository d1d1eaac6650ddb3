"""A release is checked before it is made, and what says which Pythons and versions there are agrees."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest
from scripts import ROOT

from osstorchconnector.version import __version__

PROBLEMS = runpy.run_path(str(ROOT / ".ci" / "check_release.py"))["problems"]
FILES = ["osstorchconnector/version.py", "CHANGELOG.md", "CITATION.cff"]


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A copy of the files that the check reads, with a day in the changelog."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(re.sub(r"^## .*$", f"## {__version__} - 2026-12-01", text, count=1, flags=re.MULTILINE))
    return tmp_path


def test_only_the_day_is_missing() -> None:
    latest = re.search(r"^## (\S+) - (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert latest and latest[1] == __version__
    left = PROBLEMS(f"v{__version__}")
    assert left == [] or (latest[2] == "unreleased" and len(left) == 1 and "CHANGELOG.md" in left[0])


def test_a_release_that_is_ready_has_no_problems(ready: Path) -> None:
    assert PROBLEMS(f"v{__version__}", ready) == []


@pytest.mark.parametrize("name", FILES)
def test_a_version_that_was_forgotten_is_named(ready: Path, name: str) -> None:
    path = ready / name
    path.write_text(path.read_text(encoding="utf-8").replace(__version__, "1.0.0", 1), encoding="utf-8")
    assert any(Path(name).name in problem for problem in PROBLEMS(f"v{__version__}", ready))


def test_another_tag_is_refused(ready: Path) -> None:
    (problem,) = PROBLEMS("v9.9.9", ready)
    assert "v9.9.9" in problem


def test_every_python_of_the_classifiers_is_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert named
    assert re.findall(r'"(3\.\d+)"', workflow) == named


def test_workflows_name_major_versions_of_actions() -> None:
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        used = re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8"))
        assert used
        assert [use for use in used if not re.search(r"@(v\d+|release/v\d+)$", use)] == []
