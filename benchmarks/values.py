"""What is measured: works, who does them, what was measured of it, and what is to be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .site import Site

OURS = "ours"
CXX = "C++ connector"
MIB = 1 << 20
Keys = Mapping[str, str]
Access = dict[str, Any]
Where = Literal["main", "peers"]
Figure = Literal["rate", "seconds_each", "cpu", "caller", "server", "peak"]


@dataclass(frozen=True)
class Sample:
    """One measurement: `amount` of the work's unit in so many seconds. `peak_bytes` is above what was there at start.

    `cpu_seconds` are user and system time of the client process and of its children, `server_seconds` the server's
    (the setting up and warming up of the client included), `caller_seconds` those of the client's thread that calls the
    library, where that is known. `extra` holds what only this work measures.
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
        """CPU seconds for one of the unit."""
        return self.cpu_seconds / self.amount

    @property
    def caller(self) -> float:
        """CPU seconds of the calling thread for one of the unit."""
        return self.caller_seconds / self.amount

    @property
    def server(self) -> float:
        """CPU seconds of the server for one of the unit."""
        return self.server_seconds / self.amount

    @property
    def peak(self) -> float:
        return float(self.peak_bytes)


@dataclass(frozen=True)
class Curve:
    """A plot to which works belong as points: its name, and what its axes say."""

    name: str
    x: str
    y: str


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who does the work: `program` (module:generator below `programs`) with `options`, by the interpreter `where`.

    `missing` says why it can't take part. `sample` stands for a program where the figure is known beforehand.
    `is_extra` ones are left out of a quick look.
    """

    name: str
    program: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    where: Where = "main"
    preload: Sequence[str] = ("torch",)
    missing: str = ""
    is_extra: bool = False
    sample: Sample | None = None


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is to be reached: our `figure` over that of `against`, or as it is where `against` is empty.

    `is_ceiling` means at most; otherwise at least.
    """

    against: str
    reach: float
    aim: float
    figure: Figure = "rate"
    is_ceiling: bool = False
    extra: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A piece of work. `prepare(site, **sizes)` lays out the data and says who takes part, us first.

    `title` is formatted with the sizes, of which there are two sets: `full`, and `quick` for a look.
    `options` are those of `open_site`.
    The table shows `figure` times `scale` in `unit`. A work may be
    the point `x` of a curve.
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

    def sizes(self, *, is_quick: bool) -> Mapping[str, Any]:
        return {**self.full, **self.quick} if is_quick else self.full

    def contenders(self, site: Site, *, is_quick: bool) -> list[Contender]:
        return list(self.prepare(site, **self.sizes(is_quick=is_quick)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured of one contender: a sample a round, or why there is none."""

    name: str
    samples: Sequence[Sample] = ()
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A work as it was measured."""

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

    def outcome(self, name: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)


def dump_result(result: Result) -> dict[str, Any]:
    """Return `result` as JSON has it."""
    return asdict(result)


def load_result(values: Mapping[str, Any]) -> Result:
    """Undo `dump_result`."""
    outcomes = [
        Outcome(**{**outcome, "samples": tuple(Sample(**sample) for sample in outcome["samples"])})
        for outcome in values["outcomes"]
    ]
    goals = [Goal(**goal) for goal in values["goals"]]
    curve = Curve(**values["curve"]) if values["curve"] else None
    return Result(**{**values, "outcomes": outcomes, "goals": goals, "curve": curve})
