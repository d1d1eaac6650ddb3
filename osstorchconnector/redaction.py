"""What may be shown of what this library holds: secrets are masked, texts from elsewhere are escaped and cut.

Debuggers and error trackers print the variables of every frame of a traceback, with `repr`. So each secret, and each
text with a secret in it, has one of the types below from where it comes in to where it is sent: a security token, a
request's `Authorization` and head, and an error document of OSS, which echoes the text that was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar, overload

T = TypeVar("T")

MASK = "***"
# A request id of OSS has 24 letters; what stands in its place on the way from a hostile server may have thousands.
MAX_NAME_LETTERS = 100
MAX_TEXT_LETTERS = 1000


class Secret(str):
    """A text whose `repr` shows nothing of it, nor that of a part of it.

    Formatting gives a plain text: wrap what it makes again.
    """

    __slots__ = ()

    def __getitem__(self, place: SupportsIndex | slice[Any, Any, Any], /) -> Secret:
        return Secret(super().__getitem__(place))  # rich cuts long texts before it shows them

    def __repr__(self) -> str:
        return f"<{MASK}>"


class SecretBytes(bytes):
    """Bytes whose `repr` shows nothing of them, nor that of a part of them."""

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
    """Memory whose `repr` shows nothing of what is in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{MASK}>"


def keeper(value: T) -> Callable[[], T]:
    """Return a function that returns `value`, and that shows nothing of it: for objects that are not ours."""
    return lambda: value


def printable(text: str, most: int = MAX_TEXT_LETTERS) -> str:
    """Return `text` with everything escaped that could forge a line or steer a terminal, and cut to `most` letters."""
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def without(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with the secrets masked that stand in it, because who wrote it was sent them."""
    for secret in filter(None, secrets):
        text = text.replace(secret, MASK)
    return text
