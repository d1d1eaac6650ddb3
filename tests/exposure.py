"""Everything that a report of an error can show: the variables of all its frames, and what the objects there hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType

TESTS = str(Path(__file__).parent)
DEPTH = 6
# Signatures of version 4 and of version 1, and keys derived for them.
SIGNATURE = re.compile(r"\b[0-9a-f]{64}\b|OSS [^ :]+:[A-Za-z0-9+/]{27}=|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{27}=")


def errors_behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it, those that are not shown by default included."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [each for each in (found.__cause__, found.__context__) if each is not None]


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of a traceback, but for those of the tests themselves."""
    step = error.__traceback__
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(TESTS):
            yield step.tb_frame
        step = step.tb_next


def shown_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield where something stands and how it is printed, for all that belongs to an error."""
    for found in errors_behind(error):
        yield type(found).__name__, repr(found) + str(found)
        for frame in frames_of(found):
            place = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
            for name, value in frame.f_locals.items():
                yield from _printed(f"{place} {name}", value, DEPTH, set())


def assert_nothing_exposed(error: BaseException, secrets: Iterable[str]) -> None:
    """Check that neither a secret nor a signature is printed with any frame of an error."""
    secrets, count = list(secrets), 0
    for place, text in shown_by(error):
        count += 1
        assert not any(secret in text for secret in secrets), f"a secret in {place}"
        assert not SIGNATURE.search(text), f"a signature in {place}: {SIGNATURE.findall(text)}"
    assert count


def _printed(place: str, value: object, depth: int, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Yield the `repr` of a value, and of what objects of ours hold, as a debugger unfolds them."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield place, repr(value)[:1_000_000]
    if not depth:
        return
    for name, held in _held_by(value):
        yield from _printed(f"{place}.{name}", held, depth - 1, seen)


def _held_by(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((str(key), held) for key, held in list(value.items())[:100])
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((str(number), held) for number, held in enumerate(list(value)[:100]))
    if type(value).__module__.partition(".")[0] == "osstorchconnector":
        yield from getattr(value, "__dict__", {}).items()
        for kind in type(value).__mro__:
            names = kind.__dict__.get("__slots__", ())
            for name in [names] if isinstance(names, str) else names:
                if hasattr(value, name):
                    yield name, getattr(value, name)
