"""`osstorch`, the command line: `python -m osstorchconnector`, with the extra `cli` (typer and rich).

- `run`: the app, options of all commands, exit statuses; `session`: how OSS is reached
- `objects`: ls, du, stat, cat, rm, sign, clean; `copies`: cp, mv, sync; `data`: index, tar, checkpoints, emulator
- `places`: objects, prefixes, files and folders; `plans` (pure): what a copy of many does; `transfer`: does it
- `doctor`: looks for what is wrong; `machine`: what this machine allows; `findings` (pure): what to make of it
- `show`: what people read

A command prints its result to stdout, and everything else (bars, summaries, errors) to stderr.
"""

from __future__ import annotations

from . import copies, data, doctor, objects
from .findings import Finding, Level, worst
from .machine import about_this_machine
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
    "common_first",
    "copies",
    "data",
    "decisions",
    "doctor",
    "main",
    "objects",
    "place",
    "superfluous",
    "worst",
]
