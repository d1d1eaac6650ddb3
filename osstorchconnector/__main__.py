"""`python -m osstorchconnector`, and the command `osstorch`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; without its packages, say what to install."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write("osstorch needs typer and rich: pip install 'osstorchconnector[cli]'\n")
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
