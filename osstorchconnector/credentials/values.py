"""What credentials are, and the promise of whatever gives them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import NoReturn

from ..errors import OssCredentialsError
from ..redaction import Secret, keeper

_UTC_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d+)?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_END_OF_TIME = 253402300800  # the year 10000, which a datetime does not reach
_FIELDS = {"access_key_id": True, "access_key_secret": True, "security_token": False}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a request is signed with; `expires_at` is in seconds since the epoch, `None` for never.

    Shows no secret when printed and refuses to be pickled: pickle the `CredentialsSource` instead.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        # Each value hides itself, also where it is passed on alone.
        object.__setattr__(self, "access_key_id", str(self.access_key_id))
        object.__setattr__(self, "access_key_secret", Secret(self.access_key_secret))
        object.__setattr__(self, "security_token", Secret(self.security_token))

    def __reduce__(self) -> NoReturn:
        raise OssCredentialsError("credentials are never pickled; pickle the CredentialsSource they come from")


class CredentialsSource(ABC):
    """Where credentials come from. Pickles as that: no pickle of a source holds a secret.

    `str(source)` names it for users: in errors, after "the credentials from".
    """

    @abstractmethod
    def fetch(self) -> Credentials:
        """Return what the source gives now; may block. Raises `OssCredentialsError` naming the source."""

    def mark(self) -> Hashable:
        """Return, without blocking, what changes when `fetch` would answer anew; `None` if only `fetch` can tell."""
        return None

    def by_name(self) -> CredentialsSource:
        """Return what to pickle where nothing may be sent beside the pickle: this source, if it names a place."""
        return self

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def checked_credentials(value_of: Callable[[str], object], names: dict[str, str]) -> Credentials | str:
    """Return credentials made of what `value_of` gives for each of their fields, or what is wrong with it.

    `names` is what the user calls each field. What is wrong is told without the value.
    """
    texts: dict[str, Secret] = {}
    for name, needed in _FIELDS.items():
        value = keeper(value_of(name))
        if not isinstance(value(), str | None):
            return f"{names[name]} must be a string, not {type(value()).__name__}"
        text = Secret(str(value() or "").strip())
        if needed and not text:
            return f"{names[name]} is missing or empty"
        # They become header values: anything else than visible ASCII could only break a request.
        if not all("!" <= letter <= "~" for letter in text):
            return f"{names[name]} holds a character that no key has (blank, control or not ASCII)"
        texts[name] = text
    moment = expiry(value_of("expires_at"))
    if isinstance(moment, str):
        return f"{names['expires_at']} {moment}"
    return Credentials(**texts, expires_at=moment)


def expiry(value: object) -> float | str | None:
    """Return the moment of expiry in seconds since the epoch (`None` for never), or in words what is wrong with it.

    Understood are `2024-08-02T15:04:05Z` with any offset in place of Z, a `datetime`, and seconds since the
    epoch; what names no time zone is UTC.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _END_OF_TIME:
            return float(value)
        found = _UTC_TIME.fullmatch(value.strip()) if isinstance(value, str) else None
        return _moment(*found.groups()) if found else "must be a time like 2024-08-02T15:04:05Z"
    except (ValueError, OverflowError) as error:
        return f"is no moment in time ({error})"


def _moment(*parts: str | None) -> float:
    *numbers, sign, hours, minutes = parts
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    return datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset)).timestamp()


def spelled_moment(epoch_seconds: float) -> str:
    """Return a moment as the credential file spells it."""
    return (_EPOCH + timedelta(seconds=int(epoch_seconds))).isoformat().replace("+00:00", "Z")
