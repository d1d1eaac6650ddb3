"""Bars as a PNG, drawn by Pillow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ..errors import OssUsageError

_WIDTH, _ROW, _EDGE, _TEXT = 800, 40, 20, 15
_BAR, _INK, _PAPER = "#ff7f0e", "black", "white"


def import_pillow() -> ModuleType:
    """Return the package PIL. Raises `OssUsageError` if it is not installed."""
    try:
        import PIL.Image
        import PIL.ImageDraw
        import PIL.ImageFont
    except ImportError:
        raise OssUsageError("--png needs Pillow: pip install pillow") from None
    return PIL


def bar_chart(pillow: Any, title: str, values: Mapping[str, float]) -> bytes:
    """Return a PNG with a bar for each value, its name on the left and the value at its end."""
    font = pillow.ImageFont.load_default(_TEXT)
    image = pillow.Image.new("RGB", (_WIDTH, 3 * _EDGE + _TEXT + _ROW * len(values)), _PAPER)
    pen = pillow.ImageDraw.Draw(image)
    pen.text((_EDGE, _EDGE), title, _INK, font)
    names = max((pen.textlength(name, font) for name in values), default=0)
    left, most = 2 * _EDGE + names, max([*values.values(), 1e-9])
    room = _WIDTH - left - pen.textlength(f" {most:,.1f}", font) - _EDGE
    for number, (name, value) in enumerate(values.items()):
        top = 2 * _EDGE + _TEXT + number * _ROW
        end = left + room * value / most
        pen.text((_EDGE, top), name, _INK, font)
        pen.rectangle((left, top, end, top + _TEXT), _BAR)
        pen.text((end, top), f" {value:,.1f}", _INK, font)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
