"""Masks secrets, and escapes and shortens texts from elsewhere before they are shown.

Debuggers and error trackers print the variables of every frame of a traceback, with `repr`. So each secret, and each
text that contains one, has one of the types below from its arrival to its use: a security token, the `Authorization`
and head of a request, and an error document of OSS, which echoes the signed text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar, overload

T = TypeVar("T")

MASK = "***"
# A request id of OSS has 24 letters, but a hostile server may send thousands.
MAX_NAME_LETTERS = 100
MAX_TEXT_LETTERS = 1000
_GAP = "[...]"


class Secret(str):
    """A text whose `repr` is masked, as is that of a slice.

    Formatting returns a plain `str`: make it a `Secret` again.
    """

    __slots__ = ()

    def __getitem__(self, place: SupportsIndex | slice[Any, Any, Any], /) -> Secret:
        return Secret(super().__getitem__(place))  # the library rich slices long texts before it shows them

    def __repr__(self) -> str:
        return f"<{MASK}>"


class SecretBytes(bytes):
    """Bytes whose `repr` is masked, as is that of a slice."""

    __slots__ = ()

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, place: slice[Any, Any, Any], /) -> SecretBytes: ...
    def __getitem__(self, place: SupportsIndex | slice[Any, Any, Any], /) -> int | SecretBytes:
        part = super().__getitem__(place)
        return part if isinstance(part, int) else SecretBytes(part)

    def __repr__(self) -> str:
        return f"<{MASK}>"


class SecretBuffer(bytearray):
    """Memory whose `repr` is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{MASK}>"


def keeper(value: T) -> Callable[[], T]:
    """Return a function that returns `value`, and whose `repr` does not show it: for objects of other libraries."""
    return lambda: value


def printable(text: str, most: int = MAX_TEXT_LETTERS) -> str:
    """Return `text` cut to `most` letters, with line breaks, escape sequences and other control characters escaped."""
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shortened(text: str, most: int) -> str:
    """Return `text`, printable; if it has more than `most` letters, without its middle: names differ at their ends."""
    text = printable(text, len(text))
    if len(text) <= most:
        return text
    kept = max(most - len(_GAP), 0)
    return f"{text[: kept - kept // 2]}{_GAP}{text[len(text) - kept // 2 :]}"


def without(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with these secrets masked: a server or library that was given them may repeat them in a text."""
    for secret in filter(None, secrets):
        text = text.replace(secret, MASK)
    return text
