"""Counts of requests, bytes, concurrency and connections, and a log of the last requests.

`Recorder` counts inside the server. `Counters` is the value that a test reads; it travels as JSON.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .exchange import Call

MAX_LOG_ENTRIES = 5_000
_HIDDEN_HEADERS = frozenset({"authorization", "x-oss-security-token", "security-token"})
_HIDDEN_PARAMETERS = frozenset({"x-oss-security-token", "security-token", "x-oss-signature", "Signature"})


class LogEntry(NamedTuple):
    """One request. `fault` names its fault, `seconds` is its arrival in seconds since the server's start.

    `headers` are those of the request, without signature and token. `bytes_in` and `bytes_out` count bodies only.
    """

    operation: str
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int
    code: str
    fault: str
    bytes_in: int
    bytes_out: int
    seconds: float

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass(frozen=True)
class Counters:
    """Counts since the start or the last reset, by operation (`GetObject`, ...) or in total.

    `max_concurrency` holds the most requests at the same time, by operation, and under "" for all operations together.
    A name that never occurred counts 0.
    """

    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    concurrency: Counter[str] = field(default_factory=Counter)
    max_concurrency: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    open_connections: int = 0
    max_connections: int = 0
    log: tuple[LogEntry, ...] = ()

    @property
    def bytes_in(self) -> int:
        return sum(self.received.values())

    @property
    def bytes_out(self) -> int:
        return sum(self.sent.values())

    def dump(self) -> dict[str, Any]:
        return {**self.__dict__, "log": [entry._asdict() for entry in self.log]}

    @classmethod
    def load(cls, text: Mapping[str, Any]) -> Counters:
        values: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value for name, value in text.items()
        }
        values["log"] = tuple(LogEntry(**entry) for entry in text["log"])
        return cls(**values)


class Recorder:
    """Counts for one server, on its loop's thread."""

    def __init__(self) -> None:
        self._born = time.monotonic()
        self._under_way: Counter[str] = Counter()
        self._open_connections = 0
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero, except those of requests and connections that are open."""
        self._requests: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._max_concurrency = self._under_way.copy()
        self._connections = 0
        self._max_connections = self._open_connections
        self._log: deque[tuple[Any, ...]] = deque(maxlen=MAX_LOG_ENTRIES)

    def connected(self) -> None:
        self._connections += 1
        self._open_connections += 1
        self._max_connections = max(self._max_connections, self._open_connections)

    def disconnected(self) -> None:
        self._open_connections -= 1

    def begun(self, operation: str, fault: str = "") -> float:
        """Count a request whose head has arrived, and its fault; return the time."""
        self._requests[operation] += 1
        if fault:
            self._faults[fault] += 1
        for name in (operation, ""):
            now = self._under_way[name] + 1
            self._under_way[name] = now
            if now > self._max_concurrency[name]:
                self._max_concurrency[name] = now
        return time.monotonic() - self._born

    def ended(self, call: Call, since: float, *, status: int, code: str, fault: str, received: int, sent: int) -> None:
        """Count the end of a request; `status` is 0 if no answer was sent."""
        operation = call.operation
        self._under_way[operation] -= 1
        self._under_way[""] -= 1
        if received:
            self._received[operation] += received
        if sent:
            self._sent[operation] += sent
        if status >= 400:
            self._errors[operation] += 1
        self._log.append((call, status, code, fault, received, sent, since))

    def snapshot(self, *, with_log: bool = True) -> Counters:
        return Counters(
            self._requests.copy(),
            self._errors.copy(),
            self._faults.copy(),
            self._received.copy(),
            self._sent.copy(),
            self._under_way.copy(),
            self._max_concurrency.copy(),
            self._connections,
            self._open_connections,
            self._max_connections,
            tuple(_log_entry(*item) for item in self._log) if with_log else (),
        )


def _log_entry(call: Call, status: int, code: str, fault: str, received: int, sent: int, since: float) -> LogEntry:
    return LogEntry(
        call.operation,
        call.method,
        call.bucket,
        call.key,
        {name: value for name, value in call.query if name not in _HIDDEN_PARAMETERS},
        {name: value for name, value in call.headers.items() if name not in _HIDDEN_HEADERS},
        status,
        code,
        fault,
        received,
        sent,
        since,
    )
