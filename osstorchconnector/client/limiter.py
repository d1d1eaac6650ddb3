"""The limits of requests in flight: measured where requests run, kept for the next ones, shared among processes.

`limiter` returns the limit for one pipeline. Where it ended, the next one begins: in this process with the same
controller (`concurrency`), in the other processes of the job with its number, which the client's `SharedState` has.
Several at a time have a controller each, and share what there is as processes do. `transfer_limit` is for large reads.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Literal

from ..config import Concurrency
from .concurrency import FIRST_LIMIT, MOST_LIMIT, NEVER, ConcurrencyLimit, Meter
from .limits import MOST_TRANSFERS, FixedLimit, TransferLimit, most_in_flight
from .sharing import SharedState
from .traffic import Gate, shared

# `lookups` are heads and short listings, `pages` those of a long one: a thousand keys each.
Kind = Literal["objects", "uploads", "lookups", "pages"]
FIRST_LIMITS: dict[Kind, int] = {"objects": FIRST_LIMIT, "uploads": 64, "lookups": 16, "pages": 16}
# To begin with where OSS is far: no answer has come while the thread had nothing to do for a look's time. A near one
# would have answered some of the first requests, and more in flight gain nothing there. All who do the same work on
# this machine divide it, since a server that allows few requests a second refuses the others.
FAR_FIRST_LIMITS: dict[Kind, int] = {"objects": 64}
LOOK_SECONDS = 0.004
_MOST_BUSY_LOOK = 0.25
# One thread reads some hundred pages a second. Each range that is listed side by side may cost a request more.
MOST_PAGES = 64
Controller = ConcurrencyLimit | FixedLimit

_logger = logging.getLogger(__name__)

# Where the system does not tell how many a process may open.
_USUAL_DESCRIPTORS = 1024


class Limiter:
    """How many requests may be in flight now (`limit`), and the rounds that this follows from.

    `limit` may be read by any thread. The rest is for the thread that runs the requests: it counts in `meter`, and
    calls `end_round` when the round's quota is reached.
    """

    def __init__(
        self,
        controller: Controller,
        kept: _Kept,
        *,
        gate: Gate,
        far_first: int,
        bound: Callable[[], int],
        learn: Callable[[int], None],
        clock: Callable[[], float],
        busy_clock: Callable[[], float],
    ) -> None:
        self.limit = controller.limit
        self.meter = Meter()
        self.adapts = isinstance(controller, ConcurrencyLimit)
        self.is_paused = False
        self._far_first, self._bound = far_first, bound
        self._looked = self._looked_busy = 0.0
        self._controller: Controller | None = controller
        self._kept, self._gate, self._learn = kept, gate, learn
        self._clock, self._busy_clock = clock, busy_clock

    @property
    def most(self) -> int:
        """What `limit` may become at the most."""
        return self.limit if self._controller is None else self._controller.most

    @property
    def is_new(self) -> bool:
        """True if it may begin with more where OSS is far: then `look` every `LOOK_SECONDS` until an answer comes."""
        controller = self._controller
        if not isinstance(controller, ConcurrencyLimit) or not controller.is_starting:
            return False
        return controller.limit < min(self._far_first, controller.most)

    def look(self) -> bool:
        """Look once more whether OSS is far; True if the limit is another one now. The first look only begins."""
        controller, before = self._controller, self.limit
        since, busy_since = self._looked, self._looked_busy
        self._looked, self._looked_busy = self._clock(), self._busy_clock()
        is_idle = self._looked_busy - busy_since < _MOST_BUSY_LOOK * (self._looked - since)
        if since and is_idle and isinstance(controller, ConcurrencyLimit):
            controller.begin_with(self._far_first)
            self.limit = controller.limit
        return self.limit != before

    def begin_round(self) -> None:
        """Begin to measure: the limit has been applied, or connections have been opened."""
        controller = self._controller
        quota = NEVER if controller is None else controller.quota
        self.meter.begin(self._clock(), self._busy_clock(), quota=quota)

    def end_round(self, *, is_wanted: bool) -> bool:
        """Judge the round; True if the limit is another one now.

        `is_wanted` is false if results pile up because their consumer is slow. The next round begins at once, or with
        `begin_round` when another limit was applied.
        """
        controller, meter = self._controller, self.meter
        if controller is None or self.is_paused:
            meter.quota = NEVER if controller is None else meter.quota + controller.quota
            return False
        seen = meter.end(self._clock(), self._busy_clock(), limit=controller.limit, is_wanted=is_wanted)
        if seen is None:
            return False
        before = self.limit
        if isinstance(controller, ConcurrencyLimit):
            controller.bound(self._bound())  # the retries that may be sent are other ones now
        self.limit = controller.see(seen) if self._gate.is_open else controller.slow_down(seen.rate)
        self._learn(controller.settled)
        if isinstance(controller, FixedLimit) and controller.advised:
            self._kept.advise(controller)
        self.begin_round()
        if self.limit == before:
            return False
        meter.quota = NEVER
        return True

    def close(self) -> None:
        """Measure no more, and let the next limiter have the controller. Finalisers may call this."""
        controller, self._controller = self._controller, None
        if isinstance(controller, ConcurrencyLimit):
            self._kept.free.append(controller)


class _Kept:
    """What this process keeps for one kind of work at one endpoint."""

    def __init__(self, server: str, kind: Kind) -> None:
        self.server, self.kind = server, kind
        self.free: deque[ConcurrencyLimit] = deque()
        self.in_use: weakref.WeakSet[Limiter] = weakref.WeakSet()
        self.learned = 0
        self._is_advised = False

    def controller(self, most: int, learned_by_others: Callable[[], int]) -> ConcurrencyLimit:
        """Return one that is not in use, or a new one that begins where another one is, in any process of the job."""
        try:
            controller = self.free.pop()
        except IndexError:
            learned = self.learned or learned_by_others()
            return ConcurrencyLimit(first=learned or FIRST_LIMITS[self.kind], most=most, is_starting=not learned)
        controller.bound(most)
        return controller

    def advise(self, fixed: FixedLimit) -> None:
        """Log once what would be in flight if the limit adapted."""
        advised, fixed.advised = fixed.advised, 0
        if not self._is_advised:
            self._is_advised = True
            _logger.info(
                "%s: the config allows %d requests in flight, and this process is hardly busy with them: without that "
                'key, or with "auto", there might be up to %d (%s)',
                self.server,
                fixed.limit,
                advised,
                self.kind,
            )


_kept: dict[tuple[str, Kind], _Kept] = {}
_transfers: dict[str, TransferLimit] = {}


def limiter(
    server: str,
    kind: Kind,
    configured: Concurrency,
    known: SharedState,
    *,
    processes: int = 1,
    retries: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    busy_clock: Callable[[], float] = time.thread_time,
) -> Limiter:
    """Return the limit for one more pipeline of this process: adapting, or as configured.

    `server` is the endpoint. `processes` of this machine do the same work, and may send `retries` requests again.
    `close` it when it is not used any more.
    """
    kept = _kept.setdefault((server, kind), _Kept(server, kind))
    sharers = processes * (1 + len(kept.in_use)) * _ranks()

    def bound() -> int:
        allowed = None if retries is None else int(shared.budget(server).allowed(retries))
        return min(_most(sharers, allowed), MOST_PAGES if kind == "pages" else MOST_LIMIT)

    def learn(limit: int) -> None:
        if limit and kept.learned != limit:
            kept.learned = limit
            known.learn(kind, limit)

    controller: Controller
    if configured == "auto":
        controller = kept.controller(bound(), lambda: known.learned(kind))
    else:
        controller = FixedLimit(configured, most=bound())
    far_first, gate = FAR_FIRST_LIMITS.get(kind, 0) // sharers, shared.gate(server)
    made = Limiter(
        controller,
        kept,
        gate=gate,
        far_first=far_first,
        bound=bound,
        learn=learn,
        clock=clock,
        busy_clock=busy_clock,
    )
    if made.adapts:
        kept.in_use.add(made)
    return made


def transfer_limit(server: str, configured: Concurrency) -> TransferLimit:
    """Return the limit for large reads from `server`, an endpoint, which all of this process share, or a fixed one."""
    if configured != "auto":
        return TransferLimit(least=configured, most=configured)
    most = min(_most(_ranks(), None), MOST_TRANSFERS)
    return _transfers.setdefault(server, TransferLimit(least=min(FIRST_LIMIT, most), most=most))


def _most(sharers: int, retries: int | None) -> int:
    """Return how many requests this process may have in flight for one purpose, if `sharers` do the same."""
    descriptors = allowed_descriptors()
    return most_in_flight(cores=usable_cores(), processes=sharers, descriptors=descriptors, retries=retries)


def _ranks() -> int:
    """Return how many ranks of a job run on this machine, as torchrun says."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(int(ranks), 1) if ranks.isdecimal() else 1


def forget() -> None:
    """Begin anew. For tests, which must not depend on earlier ones."""
    _kept.clear()
    _transfers.clear()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed_descriptors() -> int:
    """Return how many files and sockets this process may have open."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
        return _USUAL_DESCRIPTORS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20
