"""What to do about a request that failed: give up, or send it again, when, and what to mend first.

There is no I/O here: the clock, the random number and what was done already are arguments. All operations of OSS that
this library sends may be sent again. A repeated one finds its own part or its own object, or nothing left to delete:
the same state that it would have made. After a completed upload that OSS no longer knows, the caller looks for the
object.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["setup", "connect", "connect_timeout", "reset", "timeout", "protocol", "integrity", "service"]
Remedy = Literal["", "reconnect", "refresh_credentials", "newer_credentials", "correct_clock", "resend"]

# Codes that something can be done about, once: the same answer again means that it did not help.
_REMEDIES: dict[str, Remedy] = {
    "SecurityTokenExpired": "refresh_credentials",
    "InvalidSecurityToken": "refresh_credentials",
    "AccessKeyIdAndSecurityTokenNotMatch": "refresh_credentials",
    "InvalidAccessKeyId": "newer_credentials",
    "SignatureDoesNotMatch": "newer_credentials",
    "RequestTimeTooSkewed": "correct_clock",
    "InvalidDigest": "resend",
}
_PASSING_STATUSES = frozenset({401, 408, 429})
_PASSING_CODES = frozenset({"RequestTimeout", "BadRequest"})
_FINAL_STATUSES = frozenset({501, 505})
_THROTTLING_STATUSES = frozenset({429, 503})
# What an overloaded server or a broken line does again and again; bytes and documents are wrong for good, or by chance.
_MAX_DOUBTFUL_ANSWERS = 5
_MAX_DOUBLINGS = 60
_UNCONNECTED = frozenset({"connect", "connect_timeout"})
# A server that has answered before is worth waiting for. An address where nothing ever answered is probably wrong. It
# is tried for this long: four times at least, with the usual delays.
UNREACHED_SECONDS = 3.0
_UNREACHED = "nothing has ever answered there: check endpoint= (an -internal one is reached from its own region only)"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and how long apart at most: the delay before try n is drawn from 0 to `base * 2 ** (n - 2)`.

    `unreached_seconds` is how long an address is tried where nothing has ever answered.
    """

    max_attempts: int = 20
    base_delay_seconds: float = 0.2
    max_delay_seconds: float = 10.0
    unreached_seconds: float = UNREACHED_SECONDS


@dataclass(frozen=True, kw_only=True)
class FailedTry:
    """How one try failed.

    `kind` says where: "setup" is what no repeat can mend (a host that does not exist, a certificate that is not
    trusted), "connect" and "connect_timeout" before a connection was there, "reset" after, "timeout" while nothing
    came, "protocol" an answer that is not HTTP or not OSS's, "integrity" bytes that are not the object's, "service" an
    answer that is an error, with `status` and `code`. `reused_connection`: the connection had served a request before,
    and broke or stayed silent before a byte of this answer came. `was_stopped`: this process did not run for a while
    meanwhile, and what it missed says nothing about the server. `server_date` is the answer's `Date`,
    `retry_after_seconds` its `Retry-After`.
    """

    kind: Kind
    status: int = 0
    code: str = ""
    reused_connection: bool = False
    was_stopped: bool = False
    server_date: float | None = None
    retry_after_seconds: float = 0.0


class RetryDecision(NamedTuple):
    """Whether to send again, after how long, and what to mend before.

    With `refresh_credentials` the source is asked again; with `needs_newer_credentials` it must have others, or sending
    again is of no use: keys that were replaced are refused like keys that never were.

    `remedy` names what is done only once in an operation: the caller keeps it in `used`. `counts` is false where
    the try that failed shall not count as an attempt. `reason` says why it is given up, where neither the failure nor
    the number of attempts does.
    """

    retry: bool
    delay_seconds: float = 0.0
    remedy: Remedy = ""
    clock_offset_seconds: float | None = None
    counts: bool = True
    reason: str = ""

    @property
    def refresh_credentials(self) -> bool:
        return self.remedy in ("refresh_credentials", "newer_credentials")

    @property
    def needs_newer_credentials(self) -> bool:
        return self.remedy == "newer_credentials"


def decide(
    policy: RetryPolicy,
    failure: FailedTry,
    *,
    attempt: int,
    elapsed_seconds: float,
    deadline_seconds: float,
    now: float,
    random: float,
    used: Collection[str] = (),
    doubtful: int = 0,
    is_reached: bool = True,
) -> RetryDecision:
    """Return what to do after try number `attempt` (1 is the first) failed.

    `random` is drawn from 0 to 1, `now` is this machine's clock in seconds since the epoch, `used` are the remedies
    that earlier decisions of the same operation asked for, `doubtful` is how many of its earlier tries failed as
    `is_doubtful` says. `is_reached`: somebody of this job had an answer from there.
    """
    remedy = _remedy(failure)
    if remedy in used if remedy else not is_passing(failure):
        return RetryDecision(False)
    over, often = f"the time allowed, {deadline_seconds:g} s (operationTimeout), is over", ""
    if is_unconnected(failure) and not is_reached:
        deadline_seconds, over, often = min(deadline_seconds, policy.unreached_seconds), _UNREACHED, _UNREACHED
    if elapsed_seconds >= deadline_seconds:
        return RetryDecision(False, reason=over)
    if failure.was_stopped:
        # The answer may be old, so its date does not set the clock. If the clock is wrong, OSS says so again.
        return RetryDecision(True, remedy="reconnect" if remedy in ("", "correct_clock") else remedy, counts=False)
    if failure.reused_connection and "reconnect" not in used:
        # The connection died while it was idle. The server has most likely not seen the request.
        return RetryDecision(True, remedy="reconnect", counts=False)
    if attempt >= policy.max_attempts or (is_doubtful(failure) and doubtful + 1 >= _MAX_DOUBTFUL_ANSWERS):
        return RetryDecision(False, reason=often)
    if remedy:
        offset = _clock_offset(failure, now) if remedy == "correct_clock" else None
        return RetryDecision(True, remedy=remedy, clock_offset_seconds=offset)
    delay = backoff_seconds(policy, failure, attempt=attempt, random=random)
    if elapsed_seconds + delay >= deadline_seconds:
        return RetryDecision(False, reason=over.replace("is over", "leaves none for another attempt"))
    return RetryDecision(True, delay)


def is_passing(failure: FailedTry) -> bool:
    """Say whether the same request may go better a moment later, with nothing changed."""
    if failure.kind != "service":
        return failure.kind != "setup"
    status = failure.status
    if status == 400:
        return failure.code in _PASSING_CODES or _is_unreadable(failure)
    return status in _PASSING_STATUSES or (status >= 500 and status not in _FINAL_STATUSES)


def is_throttling(failure: FailedTry) -> bool:
    """Say whether the server asks for fewer requests."""
    return failure.kind == "service" and failure.status in _THROTTLING_STATUSES


def is_charged(failure: FailedTry) -> bool:
    """Say whether sending again burdens the server: where no connection came about, nothing was sent at all."""
    return not (is_unconnected(failure) or failure.reused_connection or failure.was_stopped)


def is_unconnected(failure: FailedTry) -> bool:
    """Say whether no connection came about."""
    return failure.kind in _UNCONNECTED


def backoff_seconds(policy: RetryPolicy, failure: FailedTry, *, attempt: int, random: float) -> float:
    """Return how long to wait after try number `attempt`: full jitter, but as long as the server asks for."""
    ceiling = min(policy.max_delay_seconds, policy.base_delay_seconds * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    return max(random * ceiling, min(failure.retry_after_seconds, policy.max_delay_seconds))


def is_doubtful(failure: FailedTry) -> bool:
    """Say whether an answer came that can't be believed: by chance, or for good."""
    return failure.kind in ("protocol", "integrity") or _is_unreadable(failure)


def _is_unreadable(failure: FailedTry) -> bool:
    """Say whether nothing is known of what was wrong: OSS says it with every 400, but its words did not arrive."""
    return failure.kind == "service" and failure.status == 400 and not failure.code


def _remedy(failure: FailedTry) -> Remedy:
    if failure.kind != "service":
        return ""
    remedy = _REMEDIES.get(failure.code, "")
    return "" if remedy == "correct_clock" and failure.server_date is None else remedy


def _clock_offset(failure: FailedTry, now: float) -> float | None:
    return None if failure.server_date is None else failure.server_date - now
