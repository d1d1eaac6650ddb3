"""Pickles that take memory out of all proportion: seen before an unpickler sees them. Pure.

An unpickler keeps a table of what the pickle numbers, as long as the highest number that occurs, before it looks at
anything else: seven bytes can ask for 34 GB. No honest pickle numbers more objects than it has bytes.

Frames say how much to read at a time. C's unpickler takes their word for it: after one within another it goes on at
other bytes than whoever reads the opcodes one by one, so they have to be as Python writes them.
"""

from __future__ import annotations

import functools
import pickle
import pickletools
import re
from collections import defaultdict
from collections.abc import Iterator

_FIXED_BYTES = {"uint1": 1, "uint2": 2, "int4": 4, "uint4": 4, "uint8": 8, "float8": 8}
_COUNT_BYTES = {
    name: int(name[-1]) for name in ("string1", "string4", "bytes1", "bytes4", "bytes8", "bytearray8", "long1", "long4")
} | {"unicodestring1": 1, "unicodestring4": 4, "unicodestring8": 8}
_LONG_BINPUT, _PUT, _STOP, _FRAME = b"r"[0], b"p"[0], b"."[0], b"\x95"[0]
# C's unpickler resolves these through the extension registry without calling `find_class`.
_EXTENSIONS = frozenset(b"\x82\x83\x84")
_LEAST_BITS = 16

_COUNTED = {
    opcode.code.encode("latin-1")[0]: _COUNT_BYTES[opcode.arg.name]
    for opcode in pickletools.opcodes
    if opcode.arg is not None and opcode.arg.name in _COUNT_BYTES
}


@functools.cache
def _plain(bits: int) -> re.Pattern[bytes]:
    """Return a pattern of a row of opcodes whose ends `re` finds itself, with object numbers of at most `bits` bits.

    At most a thousand of them: `re` takes memory for each.
    """
    return re.compile(b"(?s:" + b"|".join((*_fixed_opcodes(), *_short_texts(), _numbering(bits))) + b"){0,1000}")


def _fixed_opcodes() -> Iterator[bytes]:
    """Yield patterns of opcodes without a count, the usual ones first.

    Opcodes of one length are one pattern: trying one after the other takes three times as long. Those that are all
    there is of themselves come in rows.
    """
    by_length: dict[int, bytes] = defaultdict(bytes)
    lines = []
    for opcode in pickletools.opcodes:
        code, argument = opcode.code.encode("latin-1"), opcode.arg
        if code[0] in (_LONG_BINPUT, _PUT, _STOP, _FRAME) or code[0] in _EXTENSIONS or code[0] in _COUNTED:
            continue
        if argument is None or argument.name in _FIXED_BYTES:
            by_length[_FIXED_BYTES[argument.name] if argument is not None else 0] += re.escape(code)
        else:  # text up to the end of a line, or of two
            lines.append(re.escape(code) + b"[^\\n]*\\n" * (2 if argument.name.endswith("_pair") else 1))
    rows = b"[%s]+" % by_length.pop(0)
    smallest, *others = (b"[%s].{%d}" % (codes, length) for length, codes in sorted(by_length.items()))
    yield from (smallest, rows, *others, *lines)


def _short_texts() -> Iterator[bytes]:
    """Yield patterns of opcodes with a count below 256 in one byte or four.

    There is one alternative for each count. That takes a fifth of the time of a step in Python for each text.
    """
    for count_bytes in (4, 1):
        codes = b"".join(re.escape(bytes([code])) for code, width in _COUNTED.items() if width == count_bytes)
        counts = (re.escape(count.to_bytes(count_bytes, "little")) + b".{%d}" % count for count in range(256))
        yield b"[%s](?:%s)" % (codes, b"|".join(counts))


def _numbering(bits: int) -> bytes:
    """Return a pattern of the opcode that numbers an object, with a number of at most `bits` bits."""
    free_bytes, rest = divmod(bits, 8)
    highest = b"[\\x00-\\x%02x]" % ((1 << rest) - 1) if free_bytes < 4 else b""
    return b"r.{%d}" % free_bytes + highest + b"\\x00" * (3 - free_bytes)


def check_opcodes(data: bytes) -> None:
    """Raise `pickle.UnpicklingError` unless `data` is a whole pickle whose numbers of objects are in proportion.

    That is below twice its bytes, or below 65,536.
    """
    position, size = 0, len(data)
    plain = _plain(min(max(size.bit_length(), _LEAST_BITS), 32))
    stop, is_framed = size, False
    while True:
        run = plain.match(data, position, stop)
        assert run is not None  # it matches nothing, too
        begin, position = position, run.end()
        if is_framed and position == stop:
            stop, is_framed = size, False
            continue
        code = data[position] if position < stop else -1
        if code == _STOP:
            return
        if code == _FRAME and not is_framed:
            position += 9
            stop, is_framed = position + int.from_bytes(data[position - 8 : position], "little"), True
            if stop > size:
                raise pickle.UnpicklingError("a pickle that is cut short")
        elif code in _COUNTED:
            start = position + 1 + _COUNTED[code]
            position = start + int.from_bytes(data[position + 1 : start], "little")
        elif code == _PUT:
            end = data.find(b"\n", position, position + 20)
            line = data[position + 1 : end] if end >= 0 else b""
            if not line.isdigit() or int(line) > size:
                raise pickle.UnpicklingError(f"a pickle of {size} bytes that numbers an object {line!r}")
            position = end + 1
        elif position == begin:
            what = "with far higher numbers for its objects" if code == _LONG_BINPUT else "that is not whole"
            raise pickle.UnpicklingError(f"a pickle of {size} bytes {what}")
        if position > stop:
            raise pickle.UnpicklingError("a pickle that is cut short")
