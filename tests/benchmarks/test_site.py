"""The server that work is done on, and the clients that prepare it."""

from __future__ import annotations

from scripts import run_python

PROGRAM = """
from benchmarks.site import open_site

with open_site() as site:
    site.put_stream("key", [b"data"])
    print(site.client().get("oss://bench/key").body)
"""


def test_whoever_prepares_a_work_has_nothing_to_write_when_the_folder_is_gone() -> None:
    out, err = run_python("-c", PROGRAM)
    assert out == "b'data'\n"
    assert "audit log" not in err
