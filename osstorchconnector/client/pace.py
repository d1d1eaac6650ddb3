"""How fast requests may go to a server that has asked to slow down. Pure.

Additive increase, multiplicative decrease, of the rate and so of the requests in flight: a number in flight alone
can't hold to 500 requests a second where each takes a millisecond. The server says only "too many"; by how many is
seen from the share that it turned away, so the first steps down are long ones and the later ones short.
"""

from __future__ import annotations

from dataclasses import dataclass

# A slow-down takes so long to show: answers that come sooner are still to requests sent at the old pace.
HOLD_SECONDS = 0.25
SHORT_STEP, LONG_STEP = 0.95, 0.5
RISE_PER_SECOND = 0.05
# After so long without a refusal the server is well again, and the pace doubles every second.
CALM_SECONDS = 6.0
SLOWEST_PER_SECOND = 2.0
# Faster than any process sends: no pace any more.
FREE_PER_SECOND = 50_000.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests a second: `per_second` were allowed at the time `since`, when the server last asked to slow down."""

    per_second: float
    since: float

    def at(self, now: float) -> float:
        """Return the rate at a later time: it rises as long as nothing is refused."""
        calm = max(now - self.since, 0.0)
        rate = self.per_second * (1 + RISE_PER_SECOND * calm)
        return rate * 2.0 ** min(calm - CALM_SECONDS, 64.0) if calm > CALM_SECONDS else rate

    def is_over(self, now: float) -> bool:
        """Say whether nothing needs to be held back any more."""
        return self.at(now) >= FREE_PER_SECOND

    def slowed(self, now: float, *, accepted: int, refused: int) -> Pace:
        """Return the pace after a refusal; `accepted` and `refused` are the answers since the last step."""
        if now - self.since < HOLD_SECONDS:
            return self
        share = accepted / (accepted + refused) if accepted + refused else 1.0
        step = min(max(share, LONG_STEP), SHORT_STEP)
        return Pace(max(self.at(now) * step, SLOWEST_PER_SECOND), now)


def first_pace(observed_per_second: float, now: float) -> Pace:
    """Return the pace to begin with when a server that took `observed_per_second` refuses the first time."""
    return Pace(max(observed_per_second, SLOWEST_PER_SECOND * 10), now - HOLD_SECONDS).slowed(
        now, accepted=1, refused=0
    )
