"""What the site has beside docs/*.md: files that its pages link to, and notebooks, as pages (hooks of mkdocs)."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)(?=(#[^)\s]*)?\))")
LANGUAGES = {".py": "py", ".toml": "toml", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page links to, and for each notebook."""
    from mkdocs.structure.files import File

    for path in sorted(linked_files() | {path for path in repository_pages() if path.endswith(".ipynb")}):
        files.append(File.generated(config, page_of(path), content=content_of(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead to files of the repository lead to their pages."""
    place = page.file.src_uri
    source = place.removeprefix("source/") if place.startswith("source/") else f"docs/{place}"

    def moved(link: re.Match[str]) -> str:
        target = repository_path(source, link[1])
        if not (ROOT / target).is_file():
            return link[1]
        return posixpath.relpath(page_of(target), posixpath.dirname(place))

    return LINK.sub(moved, markdown)


def repository_pages() -> Iterator[str]:
    """Yield the paths of the texts and notebooks in docs/."""
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.suffix in (".md", ".ipynb"):
            yield path.relative_to(ROOT).as_posix()


def linked_files() -> set[str]:
    """Return the paths of all files outside docs/ that are reached by links from docs/, directly or by others."""
    found: set[str] = set()
    waiting = [path for path in repository_pages() if path.endswith(".md")]
    while waiting:
        source = waiting.pop()
        for link in LINK.finditer((ROOT / source).read_text(encoding="utf-8")):
            target = repository_path(source, link[1])
            if target not in found and not target.startswith(("docs/", "../")) and (ROOT / target).is_file():
                found.add(target)
                waiting += [target] if target.endswith(".md") else []
    return found


def repository_path(source: str, link: str) -> str:
    """Return the path in the repository that `link` leads to from the file `source`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def page_of(path: str) -> str:
    """Return the page, or the plain file, of the site that shows the file `path` of the repository."""
    if path.endswith(".ipynb"):
        path = path.removesuffix(".ipynb") + ".md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def content_of(path: str) -> str:
    """Return the text of the page for the file `path` of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    if path.endswith(".ipynb"):
        return _notebook(posixpath.basename(path), json.loads(text)["cells"])
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}````\n"


def _notebook(name: str, cells: list[dict[str, str | list[str]]]) -> str:
    """Return a notebook as a page; its first cell has the title."""
    parts = ["".join(cell["source"]) if cell["cell_type"] == "markdown" else _code(cell) for cell in cells]
    parts.insert(1, f'This is a notebook: <a href="{name}" download>download it</a>.')
    return "\n\n".join(parts) + "\n"


def _code(cell: dict[str, str | list[str]]) -> str:
    return "```py\n" + "".join(cell["source"]) + "\n```"
