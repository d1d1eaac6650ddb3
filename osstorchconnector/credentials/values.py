"""What credentials are, and how they are read from a document: pure functions, no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import NoReturn

from ..errors import OssCredentialsError
from ..redaction import Secret, SecretBytes, keeper

# The names of the fields in a credential file, in an answer of the metadata server, and in one of STS.
DOCUMENT_NAMES: Mapping[str, str] = {
    "access_key_id": "AccessKeyId",
    "access_key_secret": "AccessKeySecret",
    "security_token": "SecurityToken",
    "expires_at": "Expiration",
}
_UTC_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d+)?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_END_OF_TIME = 253402300800  # the year 10000, which is past the range of `datetime`
_IS_NEEDED = {"access_key_id": True, "access_key_secret": True, "security_token": False}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The keys that sign a request; `expires_at` is in seconds since the epoch, `None` for never.

    Printing them shows no secret. Pickling them raises `OssCredentialsError`: pickle the `CredentialsSource` instead.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        # Each value hides itself, so it stays hidden where it is passed on alone.
        object.__setattr__(self, "access_key_id", str(self.access_key_id))
        object.__setattr__(self, "access_key_secret", Secret(self.access_key_secret))
        object.__setattr__(self, "security_token", Secret(self.security_token))

    @property
    def is_anonymous(self) -> bool:
        """Whether there is no key, so that requests are not signed."""
        return not self.access_key_id

    def __reduce__(self) -> NoReturn:
        raise OssCredentialsError("credentials are never pickled; pickle the CredentialsSource they come from")


class TornDocument(str):
    """A problem of a document that may be gone a moment later, because somebody is writing the file."""

    __slots__ = ()


def read_object(text: SecretBytes, example: str) -> Callable[[], dict[str, object]] | str:
    """Return a keeper of the JSON object in `text`, or what is wrong with it; `example` shows what it should be."""
    try:
        document = keeper(json.loads(Secret(text.decode("utf-8-sig"))))
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        return TornDocument(f"not valid JSON{place}")
    if not isinstance(document(), dict):
        return f"must hold a JSON object, {example}"
    return document


def read_credentials(text: SecretBytes) -> Credentials | str:
    """Return the credentials in a JSON document with the names of `DOCUMENT_NAMES`, or what is wrong with it."""
    document = read_object(text, '{"AccessKeyId": ..., "AccessKeySecret": ...}')
    if isinstance(document, str):
        return document
    return checked_credentials(lambda field: document().get(DOCUMENT_NAMES[field]), DOCUMENT_NAMES)


def checked_credentials(value_of: Callable[[str], object], names: Mapping[str, str]) -> Credentials | str:
    """Return credentials whose fields are what `value_of` returns for their names, or a text that says what is wrong.

    `names` holds the user's name for each field. The text never shows a value.
    """
    texts: dict[str, Secret] = {}
    for name, needed in _IS_NEEDED.items():
        value = keeper(value_of(name))
        if not isinstance(value(), str | None):
            return f"{names[name]} must be a string, not {type(value()).__name__}"
        text = Secret(str(value() or "").strip())
        if needed and not text:
            return f"{names[name]} is missing or empty"
        # They become header values, where only visible ASCII is valid.
        if not all("!" <= letter <= "~" for letter in text):
            return f"{names[name]} holds a character that no key has (blank, control or not ASCII)"
        texts[name] = text
    moment = expiry(value_of("expires_at"))
    if isinstance(moment, str):
        return f"{names['expires_at']} {moment}"
    return Credentials(**texts, expires_at=moment)


def expiry(value: object) -> float | str | None:
    """Return the moment of expiry in seconds since the epoch (`None` for never), or a text that says what is wrong.

    Accepts `2024-08-02T15:04:05Z` with any offset in place of Z, a `datetime`, and seconds since the epoch. A time
    without a zone is UTC.
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
    """Return the moment as text, in the format of the credential file."""
    return (_EPOCH + timedelta(seconds=int(epoch_seconds))).isoformat().replace("+00:00", "Z")
