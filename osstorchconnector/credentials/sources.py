"""What a source of credentials promises, and three sources: a JSON file, environment variables, and none at all."""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

from ..errors import OssCredentialsError
from ..redaction import SecretBytes, keeper
from .values import Credentials, TornDocument, checked_credentials, read_credentials

MAX_FILE_BYTES = 1 << 20

# Pauses before a broken file is read again. A file is written within milliseconds, so one that stays broken is an error
# after a third of a second. A process that has not read it yet may have started with its writer, and waits longer.
_PATIENCE_SECONDS = (0.05, 0.1, 0.2)
_PATIENCE_AT_FIRST_SECONDS = (*_PATIENCE_SECONDS, 0.4, 0.8)
# Errors while a file is replaced: a writer may remove the old one first, and set the owner of the new one last.
_PASSING_ERRORS = frozenset({errno.ENOENT, errno.EACCES, errno.ESTALE})

# The variables of oss2 and ossutil, then those of Alibaba Cloud's other SDKs. The first set that has a key counts.
_VARIABLE_SETS: tuple[Mapping[str, str], ...] = (
    {
        "access_key_id": "OSS_ACCESS_KEY_ID",
        "access_key_secret": "OSS_ACCESS_KEY_SECRET",
        "security_token": "OSS_SESSION_TOKEN",
        "expires_at": "",
    },
    {
        "access_key_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "access_key_secret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "security_token": "ALIBABA_CLOUD_SECURITY_TOKEN",
        "expires_at": "",
    },
)


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

    def identity(self) -> Sequence[str]:
        """Return what sources that give the same credentials have in common, in all processes; by default nothing."""
        return str(self), str(os.getpid()), str(id(self))

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
            if not isinstance(outcome, TornDocument):
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

    def identity(self) -> Sequence[str]:
        return (str(self),)

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
            return TornDocument(reason) if error.errno in _PASSING_ERRORS else reason
        if len(text) > MAX_FILE_BYTES:
            return f"longer than {MAX_FILE_BYTES} bytes"
        return read_credentials(text)


class EnvironmentCredentials(CredentialsSource):
    """Environment variables: `OSS_ACCESS_KEY_ID`, ... or else `ALIBABA_CLOUD_ACCESS_KEY_ID`, ...

    Every `fetch` looks again.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = keeper(os.environ if environ is None else environ)

    def fetch(self) -> Credentials:
        names = self._names()
        outcome = checked_credentials(lambda field: self._environ().get(names[field]), names)
        if isinstance(outcome, Credentials):
            return outcome
        raise OssCredentialsError(f"the environment variable {outcome}")

    def mark(self) -> Hashable:
        return hash(tuple(self._environ().get(name) for name in self._names().values()))

    def identity(self) -> Sequence[str]:
        return str(self), self._environ().get(self._names()["access_key_id"], "")

    def is_set(self) -> bool:
        """Whether a key, or half of one, is there."""
        return any(self._has_key(names) for names in _VARIABLE_SETS)

    def __str__(self) -> str:
        return f"the environment variables {self._names()['access_key_id']}, ..."

    def __reduce__(self) -> tuple[type[EnvironmentCredentials], tuple[()]]:
        return EnvironmentCredentials, ()

    def _names(self) -> Mapping[str, str]:
        return next(filter(self._has_key, _VARIABLE_SETS), _VARIABLE_SETS[0])

    def _has_key(self, names: Mapping[str, str]) -> bool:
        return bool(self._environ().get(names["access_key_id"]) or self._environ().get(names["access_key_secret"]))


class AnonymousCredentials(CredentialsSource):
    """No credentials: requests are not signed. OSS answers them for buckets and objects that are public."""

    def fetch(self) -> Credentials:
        return Credentials(access_key_id="", access_key_secret="")

    def mark(self) -> Hashable:
        return "anonymous"

    def __str__(self) -> str:
        return "no source (anonymous access)"

    def __reduce__(self) -> tuple[type[AnonymousCredentials], tuple[()]]:
        return AnonymousCredentials, ()


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path: the file is read again later, when the current folder may be another one."""
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("it holds a NUL character")
        return Path(path).expanduser().absolute()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OssCredentialsError(f"cred_path names no file: {path!r} ({error})") from None
