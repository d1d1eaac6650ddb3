"""What the C++ connector of the same name may have left in this folder: it shadows modules of ours.

pip replaces the one by the other. Both are there after `pip install --ignore-installed` or `--target`, or unpacking by
hand. Where the C++ connector's `__init__.py` lies over ours, `config` and `uri` find it, and so do all parts that use a
client.
"""

from __future__ import annotations

from pathlib import Path

# Files of 1.2.3 that this library has not. Python prefers the first, a package, to our module `_oss_connector.py`.
_THEIRS = ("_oss_connector/__init__.py", "_oss_tar_iterable.py")


def refuse_leftovers() -> None:
    """Raise `ImportError` if files of the C++ connector lie beside this module."""
    folder = Path(__file__).parent
    found = [name for name in _THEIRS if (folder / name).exists()]
    if found:
        raise ImportError(
            f"the C++ connector and this library, which replaces it, are both in {folder} ({', '.join(found)}: these "
            "are the C++ connector's): run `pip uninstall osstorchconnector` until it finds none, remove that folder, "
            "and install the one that you want"
        )
