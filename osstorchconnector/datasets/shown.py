"""What a person sees of a dataset: one line, or a table with pictures in a notebook. Functions over what is known."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..index.info import ObjectInfo
from ..redaction import printable

ROWS = 8
MAX_PICTURE_BYTES, MAX_PAGE_BYTES = 256 << 10, 1 << 20

_SHOWN_CHARACTERS = 200
# What browsers show, by the first bytes. A name proves nothing.
_PICTURES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_STYLE = "text-align:left;padding:2px 12px 2px 0"


class Facts(NamedTuple):
    """What is known of a dataset: where its objects come from, how many, of how many classes, and what else."""

    kind: str
    where: str
    objects: int
    is_complete: bool
    classes: int | None
    notes: Sequence[str]

    @property
    def size_text(self) -> str:
        """How many objects there are, as far as that is known."""
        if not self.is_complete:
            return f"{counted(self.objects, 'object')} so far" if self.objects else "not listed yet"
        found = counted(self.objects, "object")
        return found if self.classes is None else f"{found} in {counted(self.classes, 'class', 'classes')}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with what it counts: `1 object`, `1,024 objects`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def line(facts: Facts) -> str:
    """Return the line that `repr` shows."""
    where = printable(facts.where, _SHOWN_CHARACTERS)
    return f"<{facts.kind} {', '.join([where, facts.size_text, *facts.notes])}>"


def pictures_of(rows: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Return those of the rows that are pictures by their names, and small enough to be shown together."""
    found, total = list[ObjectInfo](), 0
    for row in rows:
        size = MAX_PAGE_BYTES if row.size is None else row.size
        if row.uri.key.lower().endswith(_SUFFIXES) and size <= MAX_PICTURE_BYTES and total + size <= MAX_PAGE_BYTES:
            found.append(row)
            total += size
    return found


def page(facts: Facts, rows: Sequence[ObjectInfo], pictures: Mapping[int, bytes]) -> str:
    """Return a table in HTML with the first rows; `pictures` are bytes of some of them, by number.

    Names and labels are escaped, so that those of others can't be markup.
    """
    head = f"<b>{_text(facts.kind)}</b> {_text(facts.where)}: {_text(', '.join([facts.size_text, *facts.notes]))}"
    if not rows:
        return f"<div>{head}</div>"
    columns = ["", "key", "bytes", *(["label"] if any(row.label != "" for row in rows) else [])]
    columns += ["picture"] if pictures else []
    body = "".join(_row(number, row, columns, pictures.get(number, b"")) for number, row in enumerate(rows))
    more = facts.objects - len(rows)
    rest = f"<div>and {counted(more, 'more object')}</div>" if more > 0 else ""
    titles = "".join(f'<th style="{_STYLE}">{title}</th>' for title in columns)
    return f"<div>{head}<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{rest}</div>"


def _row(number: int, row: ObjectInfo, columns: Sequence[str], picture: bytes) -> str:
    cells = [str(number), _text(row.uri.key), "" if row.size is None else f"{row.size:,}"]
    if "label" in columns:
        cells.append(_text(row.label))
    if "picture" in columns:
        cells.append(_picture(picture))
    shown = "".join(f'<td style="{_STYLE}">{cell}</td>' for cell in cells)
    return f"<tr>{shown}</tr>"


def _picture(data: bytes) -> str:
    kind = next((kind for magic, kind in _PICTURES if data.startswith(magic)), "")
    if not kind:
        return ""
    return f'<img style="max-height:64px" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _text(value: Any) -> str:
    import html  # late: its table of entities takes 1.4 ms

    return html.escape(printable(str(value), _SHOWN_CHARACTERS))
