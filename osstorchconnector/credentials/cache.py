"""The credentials that a client signs with: from the source that the user names, fetched in good time, and cached."""

from __future__ import annotations

import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ..errors import OssCredentialsError
from ..patience import Asking, NoAnswerError
from .chain import PAGE, DefaultCredentials, NamedCredentials
from .providers import ProviderCredentials, is_oss2_auth, source_of_oss2
from .sources import AnonymousCredentials, CredentialsSource, FileCredentials
from .values import Credentials, spelled_moment

# Ask the source at most this often whether it has changed (a `stat` for a file).
_CHECK_SECONDS = 1.0
# This long before credentials expire, begin to fetch; until there are new ones, retry at the second interval. Each
# process begins up to a minute earlier, so that the many processes of a job don't ask at the same moment.
_EARLY_SECONDS = 300.0
_JITTER_SECONDS = 60.0
_EARLY_RETRY_SECONDS = 10.0
# Ask a source this often if it can't tell whether it changed and its credentials have no expiry.
_UNMARKED_SECONDS = 60.0
# When credentials are withdrawn, many requests are refused at once. Only one of them asks the source.
_REJECTED_SECONDS = 1.0
# How long to wait for a source that hangs: without valid credentials, and with them.
_PATIENCE_SECONDS, _SHORT_PATIENCE_SECONDS = 60.0, 1.0
# No warning about a source that answers within this time: while there are valid credentials, and without them.
_SLOW_SECONDS, _NEWS_SECONDS = 10.0, 5.0

_logger = logging.getLogger(__name__)


def credentials_source(
    cred_path: str | os.PathLike[str] = "",
    cred_provider: object | None = None,
    anonymous: bool = False,
    configured: str = "",
) -> CredentialsSource:
    """Return the source that the user's parameters name; reads nothing yet.

    `cred_path` is the JSON credential file; `cred_provider` is a provider of oss2, alibabacloud-oss-v2 or
    alibabacloud-credentials, an `Auth` of oss2 (for its provider), a callable, a `CredentialsSource`, or the name of a
    place: "environment", "oidc", "uri", "file", "file:PATH", "profile", "profile:NAME", "ecs", "ecs:ROLE" or
    "anonymous". `anonymous=True` is short for the last. Without all three: the place that `configured`, the value of
    the config key `cred`, names; without that the first place that there is (`DefaultCredentials`). Raises
    `OssCredentialsError` for more than one of the three, or for an object of another kind.
    """
    given = {"cred_path": cred_path, "cred_provider": cred_provider is not None, "anonymous": anonymous}
    names = [f"{name}=" for name, value in given.items() if value]
    if len(names) > 1:
        raise OssCredentialsError(f"{' and '.join(names)} are given, each of which says whose credentials: give one")
    if anonymous:
        return AnonymousCredentials()
    if cred_path:
        return FileCredentials(cred_path)
    if cred_provider is None:
        return NamedCredentials(configured, "the config key cred") if configured else DefaultCredentials()
    if isinstance(cred_provider, CredentialsSource):
        return cred_provider
    if isinstance(cred_provider, str):
        return NamedCredentials(cred_provider)
    return source_of_oss2(cred_provider) if is_oss2_auth(cred_provider) else ProviderCredentials(cred_provider)


_Found = tuple[Hashable, Credentials]  # the source's mark, and what it gave


class _Held(NamedTuple):
    """Credentials, and the source's mark when they were fetched."""

    credentials: Credentials
    mark: object
    fetched_at: float

    def is_expired(self, now: float) -> bool:
        return _is_expired(self.credentials, now)

    def is_older_than(self, seconds: float, now: float) -> bool:
        # Fetched in the future: the clock was set back, so the age is unknown.
        return not 0 <= now - self.fetched_at < seconds


class _Turns:
    """What the threads of one process share while one of them at a time asks the source."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.flights = 0
        self.outcome: Credentials | OssCredentialsError | None = None
        self.asking: Asking[_Found | None] = Asking()


class CredentialsCache:
    """The credentials that one client signs with. Threads may share it, and a fork during a `refresh` does no harm.

    A source may hang. Callers wait for it for a limited time, and only briefly while they have valid credentials.
    """

    def __init__(
        self,
        source: CredentialsSource,
        *,
        clock: Callable[[], float] = time.time,
        patience_seconds: float = _PATIENCE_SECONDS,
        short_patience_seconds: float = _SHORT_PATIENCE_SECONDS,
        news_seconds: float = _NEWS_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._patience, self._short_patience, self._news_seconds = (
            patience_seconds,
            short_patience_seconds,
            news_seconds,
        )
        self._early_seconds = _EARLY_SECONDS + _JITTER_SECONDS * chance()
        self._held: _Held | None = None
        self._check_after = self._check_before = 0.0
        self._has_complained = False
        self._turns_by_pid: dict[int, _Turns] = {}

    @property
    def _turns(self) -> _Turns:
        """This process's own: after a fork, the thread that held the parent's lock does not exist."""
        # `setdefault` is one step, so threads that come at the same time after a fork get the same object.
        return self._turns_by_pid.setdefault(os.getpid(), _Turns())

    def current(self) -> Credentials | None:
        """Return the credentials to sign with, or `None` when `refresh` must be called; never waits.

        While they are valid, one caller a second gets `None`, because there may be newer ones.
        """
        # No lock: `_held` is replaced as a whole, so a reader sees the old or the new credentials, never a mix. Two
        # threads that look at the same moment may both get `None`; `refresh` lets one of them ask the source.
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
        """Return credentials, new from the source if that is due; may block. One thread at a time asks the source.

        `rejected` are the credentials that OSS has just refused: any others that are held will do. While the source
        has no others, they are returned once more. When the source fails, those held stay in use until they
        expire. Raises `OssCredentialsError` naming the source, also when it does not answer in time.
        """
        turns = self._turns
        spare = self.spare(rejected)
        seconds = self._patience if spare is None else self._short_patience
        flights = turns.flights
        # The thread that holds the lock waits half as long, so this runs out only if several threads wait in turn.
        if not turns.lock.acquire(timeout=2 * seconds if spare is None else 0):
            if spare is not None:
                return spare
            raise OssCredentialsError(f"the credentials from {self._source}: no answer within {2 * seconds:g} s")
        try:
            outcome = turns.outcome
            landed_meanwhile = turns.flights != flights
            if outcome is None or not (landed_meanwhile or self._is_answered_by_held(rejected)):
                outcome = turns.outcome = self._fetched(turns.asking, rejected, seconds)
                turns.flights += 1
        finally:
            turns.lock.release()
        if isinstance(outcome, Credentials):
            return outcome
        said = str(outcome)
        raise OssCredentialsError(said if PAGE in said else f"{said} ({PAGE})") from outcome.__cause__

    def spare(self, rejected: Credentials | None = None) -> Credentials | None:
        """Return valid credentials that can be used while newer ones are fetched; never waits."""
        held = self._held
        if held is None or held.is_expired(self._clock()) or held.credentials == rejected:
            return None
        return held.credentials

    def _is_answered_by_held(self, rejected: Credentials | None) -> bool:
        held, now = self._held, self._clock()
        if rejected is None or held is None or held.is_expired(now):
            return False
        return held.credentials != rejected

    def _fetched(
        self, asking: Asking[_Found | None], rejected: Credentials | None, seconds: float
    ) -> Credentials | OssCredentialsError:
        """Ask the source; return the credentials to use from now on, or the error if there are none."""
        now = self._clock()
        if asking.is_busy and self.spare(rejected) is not None:
            seconds = 0.0  # another caller has waited for it already
        try:
            found = self._asked(asking, functools.partial(self._look, now, rejected), seconds)
        except OssCredentialsError as error:
            return self._kept(error, now)
        except NoAnswerError as error:
            spare = self.spare(rejected)
            if spare is not None and asking.seconds_waited < _SLOW_SECONDS:
                return spare  # the next check finds what the source returns later
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

    def _asked(self, asking: Asking[_Found | None], look: Callable[[], _Found | None], seconds: float) -> _Found | None:
        """Return what `look` does. A wait that lasts is told in the log, and so is its end."""
        silent = min(self._news_seconds, seconds)
        try:
            return asking.ask(look, silent)
        except NoAnswerError:
            if silent == seconds or not asking.is_busy:
                raise
        _logger.warning("waiting for the credentials from %s: no answer for %g s", self._source, silent)
        try:
            found = asking.ask(look, seconds - silent)
        except NoAnswerError:
            raise NoAnswerError(f"no answer within {seconds:g} s") from None
        _logger.warning("it goes on: the credentials from %s have come", self._source)
        return found

    def _look(self, now: float, rejected: Credentials | None) -> _Found | None:
        """Return the source's mark and credentials, `None` if there are no newer ones. Hangs if the source hangs."""
        held = self._held
        mark = self._source.mark()  # before the fetch: a change in between is seen at the next check
        if held is not None and not held.is_expired(now) and mark == held.mark:
            is_new = rejected is not None and not held.is_older_than(_REJECTED_SECONDS, now)
            if is_new or (rejected is None and not self._is_due(held, now)):
                return None
        return mark, self._source.fetch()

    def _is_due(self, held: _Held, now: float) -> bool:
        """Whether to ask a source with an unchanged mark: it can't tell of changes, or the credentials expire soon."""
        expires_at = held.credentials.expires_at
        if expires_at is not None:
            return now >= expires_at - self._early_seconds and held.is_older_than(_EARLY_RETRY_SECONDS, now)
        return held.mark is None and held.is_older_than(_UNMARKED_SECONDS, now)

    def _kept(self, error: OssCredentialsError, now: float) -> Credentials | OssCredentialsError:
        """Return the credentials held if they are still valid, although the source raised `error`; else the error."""
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
        self._check_after = now  # after the clock is set back, `now` is smaller: check again at once


def _is_expired(credentials: Credentials, now: float) -> bool:
    return credentials.expires_at is not None and now >= credentials.expires_at
