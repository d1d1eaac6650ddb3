"""The pages show what the published runs hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.page import FOLDER, PAGES, filled, published, tables_of
from benchmarks.plots import charts
from benchmarks.runs import subtitle_of

RUNS = published()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_make_figures_writes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- figures: " in text
    assert filled(text, RUNS) == text


@pytest.mark.parametrize("name", RUNS)
def test_all_rows_and_charts_of_a_run_are_what_make_figures_writes(name: str) -> None:
    run = RUNS[name]
    assert (FOLDER / name / "tables.md").read_text(encoding="utf-8") == tables_of(run)
    for chart in charts(run.results, subtitle_of(run)):
        with Image.open(FOLDER / name / f"{chart['name']}.png") as image:
            assert image.text["Description"] == chart["digest"]  # type: ignore[attr-defined]


def test_what_is_between_the_marks_is_replaced() -> None:
    page = "before\n<!-- figures: machines -->\nold\n<!-- end of figures -->\nafter\n"
    new = filled(page, RUNS)
    assert new.startswith("before\n<!-- figures: machines -->\n\n| machine |")
    assert new.endswith("|\n\n<!-- end of figures -->\nafter\n")
    assert filled(new, RUNS) == new


def test_an_unknown_block_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        filled("<!-- figures: nonsense -->\n<!-- end of figures -->", RUNS)
