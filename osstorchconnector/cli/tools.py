"""Commands about this machine: emulator, completion."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import Annotated

import typer

from .run import app

_COMPLETION_VARIABLE = "_OSSTORCH_COMPLETE"


class Shell(str, Enum):
    """Shells that can complete what is typed."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(rich_help_panel="Machine")
def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print what a shell has to run so that it completes commands and options.

    Example: osstorch completion bash >> ~/.bashrc
    """
    os.environ[_COMPLETION_VARIABLE] = f"source_{shell.value}"
    try:
        app([], prog_name="osstorch")
    finally:
        del os.environ[_COMPLETION_VARIABLE]


@app.command(
    rich_help_panel="Machine",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def emulator(context: typer.Context) -> None:
    """Serve a folder as OSS on this machine: `osstorch emulator --help` lists its options.

    Example: osstorch emulator --root data --port 8080 --network oss
    """
    from ..emulator.__main__ import main

    sys.exit(main(context.args))
