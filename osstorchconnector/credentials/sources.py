"""Sources that are a place: the JSON credential file, and the environment variables that oss2 knows."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from ..errors import OssCredentialsError
from ..redaction import Secret, SecretBytes, keeper
from .values import Credentials, CredentialsSource, checked_credentials

DEFAULT_CREDENTIALS_PATH = "~/.alibabacloud/credentials"
MAX_FILE_BYTES = 1 << 20

# A file is written within milliseconds; one that stays broken is reported after a third of a second. A process that has
# not read it yet may have started together with its writer, and waits for longer.
_PATIENCE_SECONDS = (0.05, 0.1, 0.2)
_PATIENCE_AT_FIRST_SECONDS = (*_PATIENCE_SECONDS, 0.4, 0.8)
# A writer may remove the old file first, and set the owner of the new one last.
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


class FileCredentials(CredentialsSource):
    """The JSON file that `cred_path` names, read anew at every `fetch`; pickles as its path."""

    def __init__(self, path: str | os.PathLike[str], *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = _absolute(path)
        self._sleep = sleep
        self.was_read = False  # at least once

    def fetch(self) -> Credentials:
        """Return what the file holds; one that is being written, or replaced, is read again until it is whole."""
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
    """What is wrong with a file that may be right a moment later, because somebody is writing it."""

    __slots__ = ()


class DefaultCredentials(CredentialsSource):
    """The environment variables that oss2 knows if one is set, else the default file; asked anew each time."""

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
        # Without a look at the file: it may be what hangs, and this names it in the error.
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
    """Return the path as it is from any folder: it is read again later, and in other processes."""
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
