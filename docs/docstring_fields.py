"""How the API reference shows docstrings (an extension of griffe, for mkdocstrings).

Lists of names become lists, and indented programs become blocks of code, also behind a list:

    shuffle: bool = False
        True: each epoch has another order.

The docstrings of modules are maps for those who change the code, so they are left out, and so are members that are for
internal use.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from pkgutil import resolve_name
from typing import Any

import griffe

FIELD = re.compile(r"^(?P<names>[a-z_]+(?:, [a-z_]+)*)(?:: (?P<type>.+))?\n(?= {4}\S)", re.MULTILINE)
CODE = re.compile(r"(?<=\n\n)(?: {4}.*(?:\n|\Z)|\n(?= {4}))+")


class DocstringFields(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of everything that is loaded."""
        if obj.is_class:
            _leave_out_internal(obj)
            if "__doc__" in obj.members:  # made of that of a base
                obj.docstring = griffe.Docstring(inspect.getdoc(resolve_name(obj.path)) or "", parent=obj)
        if obj.is_module:
            obj.docstring = None
        elif obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def _leave_out_internal(owner: griffe.Object) -> None:
    for name, member in list(owner.members.items()):
        if not member.is_alias and member.docstring and member.docstring.value.startswith("For internal use"):
            del owner.members[name]


def as_markdown(text: str) -> str:
    """Return a docstring with its fields as a Markdown list and its programs in fences."""
    return FIELD.sub(_entry, CODE.sub(_fenced, text))


def _entry(field: re.Match[str]) -> str:
    kind = f": `{field['type']}`" if field["type"] else ""
    return f"- **{field['names']}**{kind}<br>\n"


def _fenced(code: re.Match[str]) -> str:
    return f"```py\n{textwrap.dedent(code[0]).strip()}\n```\n\n"
