"""What is measured: works, their contenders, the samples of each, and the goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the peers' interpreter has no emulator
    from osstorchconnector.emulator import Network

OURS = "ours"
CXX = "C++ connector"
ON_NGINX = "-nginx"  # ends the name of a work that has a twin on the emulator
MIB = 1 << 20
Keys = Mapping[str, str]
Access = dict[str, Any]
Where = Literal["main", "peers"]
Figure = Literal["rate", "seconds_each", "cpu", "caller", "server", "peak", "p50", "p99"]


@dataclass(frozen=True)
class Sample:
    """One measurement: `amount` in the work's unit, done in `seconds`. `peak_bytes` is the growth of memory.

    `cpu_seconds` are user and system time of the client process and its children. `server_seconds` are the server's,
    including the client's setup and warm-up. `caller_seconds` are those of the client's thread that calls the library,
    where that is known. `extra` holds figures that only this work measures.
    """

    amount: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    extra: Mapping[str, float] = field(default_factory=dict)
    server_seconds: float = 0.0
    caller_seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.amount / self.seconds

    @property
    def seconds_each(self) -> float:
        return self.seconds / self.amount

    @property
    def cpu(self) -> float:
        """CPU seconds per unit."""
        return self.cpu_seconds / self.amount

    @property
    def caller(self) -> float:
        """CPU seconds of the calling thread per unit."""
        return self.caller_seconds / self.amount

    @property
    def server(self) -> float:
        """CPU seconds of the server per unit."""
        return self.server_seconds / self.amount

    @property
    def peak(self) -> float:
        return float(self.peak_bytes)

    @property
    def p50(self) -> float:
        """The median of the seconds per unit, of a work that takes the time of each."""
        return self.extra["p50"]

    @property
    def p99(self) -> float:
        """The 99th percentile of the seconds per unit."""
        return self.extra["p99"]


@dataclass(frozen=True)
class CallCounts:
    """Calls of Python and of C functions for each unit of the work, in all threads of the process."""

    python: float
    c: float


@dataclass(frozen=True)
class Curve:
    """A plot whose points are works: its name and title, and the labels of its axes.

    Works of one name with another `suffix` are other lines of the same plot; it follows the contender's name.
    """

    name: str
    title: str
    x: str
    y: str
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One that does the work: `program` (module:generator below `programs`) with `options`, in the interpreter `where`.

    The server is behind `network` meanwhile. `missing` says why it can't take part. `sample` replaces the program where
    the figure is known in advance. A quick run leaves out contenders that are `is_extra`. One that `is_limit` leaves
    out a part of the work (it discards the bytes, or needs no network), so it shows what the machine could do at most.
    """

    name: str
    program: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    where: Where = "main"
    preload: Sequence[str] = ("torch",)
    network: Network | None = None
    missing: str = ""
    is_extra: bool = False
    is_limit: bool = False
    sample: Sample | None = None


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal for our `figure` divided by that of `against`, or for the figure itself where `against` is empty.

    `reach` is the goal and `aim` a better one: at least, or at most with `is_ceiling`. `extra` names a figure of
    `Sample.extra` in place of `figure`.
    """

    against: str
    reach: float
    aim: float
    figure: Figure = "rate"
    is_ceiling: bool = False
    extra: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A piece of work. `prepare(site, **sizes)` lays out the data and returns the contenders, this library first.

    `title` is formatted with the sizes: `full`, or with those of `quick` for a quick run. `label` is its name in charts
    and summaries, in words; those leave out works without one. With `counts_calls` this library works once more, not to
    be timed, and its calls are counted; it must be one process. `options` are those of `open_site`. The table shows
    `figure` times `scale` in `unit`. A work may be the point `x` of a curve.
    """

    name: str
    title: str
    prepare: Callable[..., Sequence[Contender]]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    unit: str = "objects/s"
    scale: float = 1.0
    figure: Figure = "rate"
    options: Mapping[str, Any] = field(default_factory=dict)
    goals: Sequence[Goal] = ()
    limit_seconds: float = 240.0
    curve: Curve | None = None
    x: float = 0.0
    label: str = ""
    counts_calls: bool = False

    def sizes(self, *, is_quick: bool) -> Mapping[str, Any]:
        return {**self.full, **self.quick} if is_quick else self.full

    def bytes_each(self, *, is_quick: bool) -> float:
        """Return the bytes of one unit of `Sample.amount`, or 0 where the work is not about bytes."""
        if self.unit == "GB/s":
            return 1.0
        return float(self.sizes(is_quick=is_quick).get("size", 0)) if self.unit == "objects/s" else 0.0

    def processes(self, *, is_quick: bool) -> int:
        """Return the number of processes that do the work: DataLoader workers, or one."""
        sizes = self.sizes(is_quick=is_quick)
        return max(1, int(sizes.get("processes", 1)), int(sizes.get("workers", 0)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The samples of one contender, one per round, or the reason why there are none. `calls` if they were counted."""

    name: str
    samples: Sequence[Sample] = ()
    missing: str = ""
    is_limit: bool = False
    calls: CallCounts | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A work with what was measured, and on which day (ISO). `bytes_each` and `processes` are those of `Work`.

    `milliseconds` is the time to the first byte of an answer, 0 on loopback.
    """

    name: str
    title: str
    unit: str
    scale: float
    figure: Figure
    goals: Sequence[Goal]
    outcomes: Sequence[Outcome]
    notes: Sequence[str] = ()
    curve: Curve | None = None
    x: float = 0.0
    label: str = ""
    bytes_each: float = 0.0
    processes: int = 1
    milliseconds: float = 0.0
    date: str = ""

    def outcome(self, name: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)


def dump_result(result: Result) -> dict[str, Any]:
    """Return `result` as a value for JSON."""
    return asdict(result)


def load_result(values: Mapping[str, Any]) -> Result:
    """Undo `dump_result`."""
    outcomes = [_load_outcome(outcome) for outcome in values["outcomes"]]
    goals = [Goal(**goal) for goal in values["goals"]]
    curve = Curve(**values["curve"]) if values["curve"] else None
    return Result(**{**values, "outcomes": outcomes, "goals": goals, "curve": curve})


def _load_outcome(values: Mapping[str, Any]) -> Outcome:
    calls = CallCounts(**values["calls"]) if values.get("calls") else None
    return Outcome(**{**values, "samples": tuple(Sample(**sample) for sample in values["samples"]), "calls": calls})
