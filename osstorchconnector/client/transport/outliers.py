"""Which connection is far slower than the others to the same endpoint: its first bytes tell. No I/O here.

The time until an answer's first byte varies: the slowest of a hundred takes several times as long as the median on any
network. So no single answer says anything. A connection is an outlier if even the *fastest* of its last answers took
far longer than the others typically take. With answers that are as uneven as OSS's (the slowest hundredth takes six
times the median), a good connection is taken for one once in a hundred million answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Every `TIMED_EVERY`th answer is timed. A connection is judged by its last `WINDOW` times.
TIMED_EVERY = 8
WINDOW = 8
# Compare with at least this many other connections.
LEAST_PEERS = 4
# Far slower: more than twice as long, and by more than a loop that is busy for a moment explains.
FACTOR = 2.0
MARGIN_SECONDS = 0.005
# One connection is replaced in this time, at most. Each costs a handshake.
REPLACED_EVERY_SECONDS = 1.0


class FirstBytes:
    """How long one connection took until the first bytes of its last answers, in seconds of `clock`.

    `is_begun` says that an answer is being timed. `is_due` becomes True when `WINDOW` answers were timed: then it is
    time to compare, and to make it False.
    """

    __slots__ = ("_begun", "_clock", "_times", "fastest_seconds", "is_begun", "is_due", "is_known", "typical_seconds")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._begun = clock, 0.0
        self._times: list[float] = []
        self.is_begun = self.is_due = False
        self.is_known = False  # there was a window; the next two are of the last one
        self.fastest_seconds = self.typical_seconds = 0.0

    def begin(self) -> None:
        """A request is sent, and its answer is to be timed."""
        self._begun, self.is_begun = self._clock(), True

    def end(self) -> None:
        """The first byte of the answer has come."""
        self._times.append(self._clock() - self._begun)
        self.is_begun = False
        if len(self._times) == WINDOW:
            self._times.sort()
            self.fastest_seconds, self.typical_seconds = self._times[0], self._times[WINDOW // 2]
            self._times.clear()
            self.is_known = self.is_due = True


def is_outlier(own: FirstBytes, others: Iterable[FirstBytes]) -> bool:
    """Say whether a connection is far slower than the others: False while too little is known of it or of them."""
    typical = sorted(times.typical_seconds for times in others if times.is_known)
    if not own.is_known or len(typical) < LEAST_PEERS:
        return False
    return own.fastest_seconds > FACTOR * typical[len(typical) // 2] + MARGIN_SECONDS


class Replacements:
    """Limits how often a connection is replaced. The time is handed in, in seconds."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def allow(self, now: float) -> bool:
        """Take one replacement; False if the last one was just now."""
        if now < self._next:
            return False
        self._next = now + REPLACED_EVERY_SECONDS
        return True
