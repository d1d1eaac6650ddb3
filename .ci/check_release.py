"""`python .ci/check_release.py v2.0.0`: fail unless version, changelog and CITATION.cff fit this tag."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what is left to do before a release with this tag."""
    version = _found(root / "osstorchconnector" / "version.py", r'^__version__ = "(.*)"$')
    latest = _found(root / "CHANGELOG.md", r"^## (.*)$")
    cited = _found(root / "CITATION.cff", r"^version: (.*)$")
    checks = {
        f"the tag is {tag}, osstorchconnector/version.py has {version}": tag == f"v{version}",
        f"CITATION.cff has the version {cited}": cited == version,
        f"the first heading of CHANGELOG.md is {latest!r}, not the version and a day: {version} - 2026-12-31": bool(
            re.fullmatch(re.escape(version) + r" - \d{4}-\d\d-\d\d", latest)
        ),
    }
    return [problem for problem, is_good in checks.items() if not is_good]


def _found(path: Path, pattern: str) -> str:
    match = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else ""


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or None)
