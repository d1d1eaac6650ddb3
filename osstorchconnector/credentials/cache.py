"""The credentials in force: taken from their source early enough, by one thread, and kept while they are good."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ..errors import OssCredentialsError
from ..patience import Asking, NoAnswerError
from .values import Credentials, CredentialsSource, spelled_moment

# How often the source is asked whether it has changed (a `stat` for a file), at most.
_CHECK_SECONDS = 1.0
# This long before they expire, credentials are fetched again and again until the new ones are there.
_EARLY_SECONDS = 300.0
_EARLY_RETRY_SECONDS = 10.0
# A source that can't tell of a change, and names no expiry, is asked this often.
_UNMARKED_SECONDS = 60.0
# Many requests are refused at once when credentials are withdrawn: one of them asks the source.
_REJECTED_SECONDS = 1.0
# How long to wait for a source that hangs, and how long where there are still good credentials.
_PATIENCE_SECONDS, _SHORT_PATIENCE_SECONDS = 60.0, 1.0
# A source that answers within this time is slow, which needs no warning.
_SLOW_SECONDS = 10.0

_logger = logging.getLogger(__name__)


class _Held(NamedTuple):
    """Credentials that were good when fetched, and the source's mark of that moment."""

    credentials: Credentials
    mark: object
    fetched_at: float

    def is_expired(self, now: float) -> bool:
        return _is_expired(self.credentials, now)

    def is_older_than(self, seconds: float, now: float) -> bool:
        # Fetched in the future means that the clock was set back: nothing is known of the age.
        return not 0 <= now - self.fetched_at < seconds


class CredentialsCache:
    """What one client signs with. Any thread may ask; a fork in the middle of a `refresh` does no harm.

    A source may hang. Callers wait for it for a limited time, and hardly at all while they have good credentials.
    """

    def __init__(
        self,
        source: CredentialsSource,
        *,
        clock: Callable[[], float] = time.time,
        patience_seconds: float = _PATIENCE_SECONDS,
        short_patience_seconds: float = _SHORT_PATIENCE_SECONDS,
    ) -> None:
        self._source = source
        self._clock = clock
        self._patience, self._short_patience = patience_seconds, short_patience_seconds
        self._held: _Held | None = None
        self._check_after = self._check_before = 0.0
        self._has_complained = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Forget lock and flights: after a fork the thread that had the lock is gone."""
        self._lock, self._pid, self._flights = threading.Lock(), os.getpid(), 0
        self._outcome: Credentials | OssCredentialsError | None = None
        self._asking: Asking[tuple[Hashable, Credentials] | None] = Asking()

    def current(self) -> Credentials | None:
        """Return the credentials in force, or `None` when `refresh` must be called; never waits for anything.

        While they are valid only one caller a second gets `None`, because there may be newer ones.
        """
        held = self._held
        if held is None:
            return None
        now = self._clock()
        if self._check_after <= now < self._check_before:
            return held.credentials
        if held.is_expired(now):
            return None
        self._check_again_after(now, held.credentials)
        return None

    def refresh(self, rejected: Credentials | None = None) -> Credentials:
        """Return credentials fresh from the source if they are due; may block, and only one thread at a time asks it.

        `rejected` are those OSS has just refused: what is held is good enough if it is not these. While the
        source has no others, they are returned once more. When the source fails, what is held stays in force
        until it expires. Raises `OssCredentialsError` naming the source, also when it does not answer in time.
        """
        if self._pid != os.getpid():
            self._start_afresh()
        spare = self.spare(rejected)
        seconds = self._patience if spare is None else self._short_patience
        flights = self._flights
        # The thread that holds the lock waits for half of this, so it runs out only if several wait in turns.
        if not self._lock.acquire(timeout=2 * seconds if spare is None else 0):
            if spare is not None:
                return spare
            raise OssCredentialsError(f"the credentials from {self._source}: no answer within {2 * seconds:g} s")
        try:
            outcome = self._outcome
            landed_meanwhile = self._flights != flights
            if outcome is None or not (landed_meanwhile or self._is_answered_by_held(rejected)):
                outcome = self._outcome = self._fetched(self._clock(), rejected, seconds)
                self._flights += 1
        finally:
            self._lock.release()
        if isinstance(outcome, Credentials):
            return outcome
        raise OssCredentialsError(str(outcome)) from outcome.__cause__

    def spare(self, rejected: Credentials | None = None) -> Credentials | None:
        """Return credentials that will do while newer ones are fetched, without waiting for anything."""
        held = self._held
        if held is None or held.is_expired(self._clock()) or held.credentials == rejected:
            return None
        return held.credentials

    def _is_answered_by_held(self, rejected: Credentials | None) -> bool:
        held, now = self._held, self._clock()
        if rejected is None or held is None or held.is_expired(now):
            return False
        return held.credentials != rejected

    def _fetched(self, now: float, rejected: Credentials | None, seconds: float) -> Credentials | OssCredentialsError:
        """Ask the source; return what is in force from now on, or the error if that is nothing."""
        if self._asking.is_busy and self.spare(rejected) is not None:
            seconds = 0.0  # another caller has waited for it already
        try:
            found = self._asking.ask(functools.partial(self._look, now, rejected), seconds)
        except OssCredentialsError as error:
            return self._kept(error, now)
        except NoAnswerError as error:
            spare = self.spare(rejected)
            if spare is not None and self._asking.seconds_waited < _SLOW_SECONDS:
                return spare  # what the source brings later is found at the next check
            return self._kept(OssCredentialsError(f"the credentials from {self._source}: {error}"), now)
        if found is None:
            assert self._held is not None
            return self._held.credentials
        mark, credentials = found
        if _is_expired(credentials, now):
            expired_at = spelled_moment(credentials.expires_at or 0)
            return self._kept(OssCredentialsError(f"the credentials from {self._source} expired at {expired_at}"), now)
        self._has_complained = False
        self._check_again_after(now, credentials)
        self._held = _Held(credentials, mark, now)
        return credentials

    def _look(self, now: float, rejected: Credentials | None) -> tuple[Hashable, Credentials] | None:
        """Return what the source gives now and its mark; None if there is nothing newer. May hang with the source."""
        held = self._held
        mark = self._source.mark()  # before the fetch: a change in between is seen at the next check
        if held is not None and not held.is_expired(now) and mark == held.mark:
            is_new = rejected is not None and not held.is_older_than(_REJECTED_SECONDS, now)
            if is_new or (rejected is None and not _is_due(held, now)):
                return None
        return mark, self._source.fetch()

    def _kept(self, error: OssCredentialsError, now: float) -> Credentials | OssCredentialsError:
        """Return what is held although the source gave `error`, while that is valid."""
        held = self._held
        if held is None or held.is_expired(now):
            return error
        if not self._has_complained:
            _logger.warning("%s; the credentials read before stay in use", error)
            self._has_complained = True
        return held.credentials

    def _check_again_after(self, now: float, credentials: Credentials) -> None:
        expires_at = credentials.expires_at
        later = now + _CHECK_SECONDS
        self._check_before = later if expires_at is None else min(later, expires_at)
        self._check_after = now  # a clock that was set back must not put the next check off


def _is_due(held: _Held, now: float) -> bool:
    """Say whether a source whose mark is what it was may have newer credentials, or is to be asked early."""
    expires_at = held.credentials.expires_at
    if expires_at is not None:
        return now >= expires_at - _EARLY_SECONDS and held.is_older_than(_EARLY_RETRY_SECONDS, now)
    return held.mark is None and held.is_older_than(_UNMARKED_SECONDS, now)


def _is_expired(credentials: Credentials, now: float) -> bool:
    return credentials.expires_at is not None and now >= credentials.expires_at
