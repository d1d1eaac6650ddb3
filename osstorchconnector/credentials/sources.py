"""What credentials are, what a source of them promises, and two sources: a JSON file and the environment."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NoReturn

from ..errors import OssCredentialsError
from ..redaction import Secret, SecretBytes, keeper

DEFAULT_CREDENTIALS_PATH = "~/.alibabacloud/credentials"
MAX_FILE_BYTES = 1 << 20

# Pauses before a broken file is read again. A file is written within milliseconds, so one that stays broken is an error
# after a third of a second. A process that has not read it yet may have started with its writer, and waits longer.
_PATIENCE_SECONDS = (0.05, 0.1, 0.2)
_PATIENCE_AT_FIRST_SECONDS = (*_PATIENCE_SECONDS, 0.4, 0.8)
# Errors while a file is replaced: a writer may remove the old one first, and set the owner of the new one last.
_PASSING_ERRORS = frozenset({errno.ENOENT, errno.EACCES, errno.ESTALE})

_FILE_NAMES = {
    "access_key_id": "AccessKeyId",
    "access_key_secret": "AccessKeySecret",
    "security_token": "SecurityToken",
    "expires_at": "Expiration",
}
_VARIABLES = {
    "access_key_id": "OSS_ACCESS_KEY_ID",
    "access_key_secret": "OSS_ACCESS_KEY_SECRET",
    "security_token": "OSS_SESSION_TOKEN",
    "expires_at": "",
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

    def __reduce__(self) -> NoReturn:
        raise OssCredentialsError("credentials are never pickled; pickle the CredentialsSource they come from")


class CredentialsSource(ABC):
    """Where credentials come from. Its pickle says where, and never holds a secret.

    Errors name it with `str(source)`, after "the credentials from".
    """

    @abstractmethod
    def fetch(self) -> Credentials:
        """Return the credentials that the source has now; may block. Raises `OssCredentialsError` naming the source."""

    def mark(self) -> Hashable:
        """Return, without blocking, a value that changes with the credentials; `None` if only `fetch` can tell."""
        return None

    def by_name(self) -> CredentialsSource:
        """Return the source to pickle where no file may carry secrets beside the pickle: usually this one."""
        return self

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class FileCredentials(CredentialsSource):
    """The JSON file that `cred_path` names. Every `fetch` reads it again. Its pickle is its path."""

    def __init__(self, path: str | os.PathLike[str], *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = _absolute(path)
        self._sleep = sleep
        self.was_read = False  # at least once

    def fetch(self) -> Credentials:
        """Return what the file holds; read it again for a moment while somebody is writing or replacing it."""
        outcome = self._read()
        for seconds in _PATIENCE_SECONDS if self.was_read else _PATIENCE_AT_FIRST_SECONDS:
            if not isinstance(outcome, _Torn):
                break
            self._sleep(seconds)
            outcome = self._read()
        if isinstance(outcome, Credentials):
            self.was_read = True
            return outcome
        raise OssCredentialsError(f"{self}: {outcome}")

    def mark(self) -> Hashable:
        try:
            status = self._path.stat()
        except OSError as error:
            return error.errno
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev

    def __str__(self) -> str:
        return f"the credential file {self._path}"

    def __reduce__(self) -> tuple[type[FileCredentials], tuple[str]]:
        return FileCredentials, (str(self._path),)

    def _read(self) -> Credentials | str:
        """Return what the file holds, or what is wrong with it."""
        try:
            with self._path.open("rb") as file:
                text = SecretBytes(file.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return _Torn(reason) if error.errno in _PASSING_ERRORS else reason
        if len(text) > MAX_FILE_BYTES:
            return f"longer than {MAX_FILE_BYTES} bytes"
        return _parsed(text)


class _Torn(str):
    """A problem of a file that may be gone a moment later, because somebody is writing the file."""

    __slots__ = ()


class DefaultCredentials(CredentialsSource):
    """The environment variables that oss2 knows if one is set, else the default file; every `fetch` looks again."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        default_path: str = DEFAULT_CREDENTIALS_PATH,
    ) -> None:
        self._environ = keeper(os.environ if environ is None else environ)
        self._default_path = default_path
        self._known_file: FileCredentials | None = None

    def fetch(self) -> Credentials:
        if self._has_variables():
            return self._from_variables()
        file = self._file()
        if file is not None:
            return file.fetch()
        raise OssCredentialsError(
            f"no credentials: give cred_path= or cred_provider=, set {_VARIABLES['access_key_id']} and "
            f"{_VARIABLES['access_key_secret']}, or write {self._default_path}"
        )

    def mark(self) -> Hashable:
        if self._has_variables():
            return hash(tuple(self._variable(name) for name in _VARIABLES.values()))
        return self._default_file().mark()

    def __str__(self) -> str:
        # Does not look at the file: this text is for the error that says the file hangs.
        variables, file = "the environment variables OSS_ACCESS_KEY_ID, ...", self._default_file()
        if self._has_variables():
            return variables
        return str(file) if file.was_read else f"{variables} or {file}"

    def __reduce__(self) -> tuple[type[DefaultCredentials], tuple[()]]:
        return DefaultCredentials, ()

    def _has_variables(self) -> bool:
        return bool(self._variable("OSS_ACCESS_KEY_ID") or self._variable("OSS_ACCESS_KEY_SECRET"))

    def _variable(self, name: str) -> str | None:
        return self._environ().get(name)

    def _from_variables(self) -> Credentials:
        outcome = checked_credentials(lambda field: self._variable(_VARIABLES[field]), _VARIABLES)
        if isinstance(outcome, Credentials):
            return outcome
        raise OssCredentialsError(f"the environment variable {outcome}")

    def _file(self) -> FileCredentials | None:
        """Return the default file if it is there."""
        file = self._default_file()
        return file if isinstance(file.mark(), tuple) else None

    def _default_file(self) -> FileCredentials:
        if self._known_file is None:
            self._known_file = FileCredentials(self._default_path)
        return self._known_file


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path: the file is read again later, when the current folder may be another one."""
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("it holds a NUL character")
        return Path(path).expanduser().absolute()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OssCredentialsError(f"cred_path names no file: {path!r} ({error})") from None


def _parsed(text: SecretBytes) -> Credentials | str:
    try:
        document = keeper(json.loads(Secret(text.decode("utf-8-sig"))))
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        return _Torn(f"not valid JSON{place}")
    if not isinstance(document(), dict):
        return 'must hold a JSON object, {"AccessKeyId": ..., "AccessKeySecret": ...}'
    return checked_credentials(lambda field: document().get(_FILE_NAMES[field]), _FILE_NAMES)


def checked_credentials(value_of: Callable[[str], object], names: dict[str, str]) -> Credentials | str:
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
