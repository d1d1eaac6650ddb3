"""The site is built without a warning, needs no other host, and has every public name and no dead link."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from scripts import ROOT

import osstorchconnector

pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The ids of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.update(filter(None, [given.get("id"), given.get("name")]))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        is_address = tag == "link" and given.get("rel") in ("canonical", "next", "prev", "edit", "alternate")
        if given.get(LOADS.get(tag, "")) and not is_address:
            self.loads.append(given[LOADS[tag]] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.timeout(600)
def test_pages_load_nothing_from_other_hosts(pages: dict[Path, Page], site: Path) -> None:
    assert len(pages) > 40
    assert {load for page in pages.values() for load in page.loads if urlsplit(load).netloc} == set()
    sheets = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?https?:[^)\"']*", sheets) == []


@pytest.mark.timeout(600)
def test_links_lead_to_pages_and_places_in_them(pages: dict[Path, Page], site: Path) -> None:
    broken = defaultdict(list)
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of the host
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_there = target.is_file() and (not parts.fragment or unquote(parts.fragment) in pages[target].ids)
            if not is_there:
                broken[path.relative_to(site).as_posix()].append(link)
    assert broken == {}


@pytest.mark.timeout(600)
def test_every_public_name_has_its_place(site: Path) -> None:
    head, _, rest = (site / "objects.inv").read_bytes().partition(b"compressed using zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    names = {line.split(" ")[0].rpartition(".")[2] for line in zlib.decompress(rest).decode().splitlines()}
    assert set(osstorchconnector.__all__) - names == {"__version__"}
    assert {"OssLister", "OssReadingService", "ScriptedTransport", "Network", "RoleCredentials", "from_prefix"} <= names
