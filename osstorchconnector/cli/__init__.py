"""`osstorch`, the command line: `python -m osstorchconnector`, with the extra `cli` (typer and rich).

- `run`: the app, options of all commands, exit statuses; `session`: how OSS is reached
- `objects`: ls, du, stat, cat, mb, rm, sign, clean; `copies`: cp, mv, sync; `data`: index, tar;
  `manifest`: manifest make, check; `checkpoint`: checkpoint ls, verify, rm, to-file; `tools`: emulator, completion
- `places`: objects, prefixes, files and folders; `plans` (pure): what a copy of many does; `transfer`: does it;
  `parts`: copies of large files, which go on where they were cut off; `records`: what is known of those;
  `unfinished`: which of them nobody goes on with; `watch`: bars and Ctrl-C
- `doctor`: looks for what is wrong; `machine`: what this machine allows; `findings` (pure): what to make of it
- `bench`: measures a bucket; `measures`: what it measures; `charts`: draws that
- `show`: what people read

A command prints its result to stdout, and everything else (bars, summaries, errors) to stderr.
"""

from __future__ import annotations

from . import bench, checkpoint, copies, data, doctor, manifest, objects, tools
from .charts import bar_chart
from .findings import Finding, Level, worst
from .machine import about_this_machine
from .measures import measured, sample_of
from .parts import download_in_parts, upload_in_parts
from .places import Item, Local, Place, Remote, place
from .plans import Filter, OverwriteRule, decisions, superfluous
from .run import app, common_first, main

__all__ = [
    "Filter",
    "Finding",
    "Item",
    "Level",
    "Local",
    "OverwriteRule",
    "Place",
    "Remote",
    "about_this_machine",
    "app",
    "bar_chart",
    "bench",
    "checkpoint",
    "common_first",
    "copies",
    "data",
    "decisions",
    "doctor",
    "download_in_parts",
    "main",
    "manifest",
    "measured",
    "objects",
    "place",
    "sample_of",
    "superfluous",
    "tools",
    "upload_in_parts",
    "worst",
]
