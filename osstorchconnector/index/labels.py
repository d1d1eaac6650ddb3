"""Labels: how a row of the table stores one, and the class that an object's folder tells.

A label is any value, `""` if there is none.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import OssConfigError

# Where labels come from: what the objects are named by (a manifest, a saved index), or the folders that they are in.
LabelSource = Literal["", "folders"]


def are_folders(labels: LabelSource) -> bool:
    """Return whether labels are to be taken from folders; `OssConfigError` for another choice."""
    if labels not in ("", "folders"):
        raise OssConfigError(f'labels: {labels!r:.80} is neither "" nor "folders"')
    return labels == "folders"


def folder_below(key: str, folder: str = "") -> str:
    """Return the name of the first folder that `key` goes through below `folder`; "" if it goes through none.

    `folder` is empty, or what the key begins with, up to a `/`. So the key `train/cat/indoors/1.jpg` is in the folder
    `cat` below `train/`.
    """
    name, slash, _ = key[len(folder) :].removeprefix("./").partition("/")
    return name if slash else ""


def folder_around(key: str) -> str:
    """Return the name of the folder that `key` lies in; "" if it lies in none. It is `cat` for `train/cat/1.jpg`."""
    folders, slash, _ = key.rpartition("/")
    name = folders.rpartition("/")[2]
    return name if slash and name != "." else ""


def pack_label(label: Any) -> bytes:
    """Return a label as a row stores it; nothing for `""`."""
    if type(label) is str:
        return b"s" + label.encode("utf-8", "surrogatepass") if label else b""
    if _is_plain(label):
        return b"j" + json.dumps(label).encode()
    return b"p" + pickle.dumps(label, pickle.HIGHEST_PROTOCOL)


def unpack_label(stored: bytes) -> Any:
    """Return the label that `pack_label` made these bytes of."""
    kind, body = stored[:1], stored[1:]
    if kind == b"s":
        return body.decode("utf-8", "surrogatepass")
    if kind == b"j":
        return int(body) if body.isdigit() else json.loads(body)
    # The file is the user's own: no other user could have written it (see held_file.py).
    return pickle.loads(body) if kind == b"p" else ""


def _is_plain(value: Any) -> bool:
    """Whether JSON gives the value back exactly as it was."""
    kind = type(value)
    if kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or kind in (bool, int, float, str)


def pack_classes(names: Sequence[str]) -> bytes:
    """Return the names of classes as the table stores them."""
    return json.dumps(list(names)).encode()


def unpack_classes(stored: bytes) -> tuple[str, ...]:
    """Return the names that `pack_classes` made these bytes of; `ValueError` if they are not names."""
    names = json.loads(stored)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names of classes are wanted")
    return tuple(names)
