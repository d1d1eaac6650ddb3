"""Temporary credentials from a service, fetched once for all processes of a user on this machine.

The 64 workers of a job would otherwise ask the metadata server or STS 64 times within a moment, and be refused. The
first one keeps the answer in a file that only this user can read, and the others use it while it holds for more than
five minutes. A process that asks although it has this answer wants a newer one: OSS has refused it, or it ends soon.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..local_files import written_whole
from ..redaction import SecretBytes
from .sources import MAX_FILE_BYTES, CredentialsSource
from .values import DOCUMENT_NAMES, Credentials, read_credentials, spelled_moment

# What ends sooner is fetched anew, as `CredentialsCache` does.
LEAST_SECONDS = 300.0
# How long to wait for another process that is asking. It may be stopped: then this one asks, too.
_TURN_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_FORGOTTEN_SECONDS = 86400.0


class TemporaryCredentials(CredentialsSource):
    """A source that a service stands behind."""

    _last: Credentials | None = None  # what this process got here most recently

    def fetch(self) -> Credentials:
        """Return credentials that other processes of this user may have fetched. Raises `OssCredentialsError`."""
        path = _kept_at(type(self).__name__, self.identity())
        credentials = self._kept(path)
        if credentials is None:
            with _turn(path):
                credentials = self._kept(path) or self._renewed(path)
        self._last = credentials
        return credentials

    @abstractmethod
    def ask(self) -> Credentials:
        """Return new credentials from the service; may block. Raises `OssCredentialsError`."""

    def _kept(self, path: Path | None) -> Credentials | None:
        kept = _read(path) if path is not None else None
        if kept is None or kept == self._last or (kept.expires_at or 0) - time.time() < LEAST_SECONDS:
            return None
        return kept

    def _renewed(self, path: Path | None) -> Credentials:
        credentials = self.ask()
        if path is not None and credentials.expires_at is not None:
            with contextlib.suppress(OSError):  # a full disk: the other processes ask for themselves
                _write(path, credentials, credentials.expires_at)
        return credentials


def _kept_at(kind: str, identity: Sequence[str]) -> Path | None:
    """Return the path of the file for a source, `None` if there is no safe place for it."""
    if not hasattr(os, "geteuid"):  # Windows has no modes of files
        return None
    folder = Path(tempfile.gettempdir()) / f"osstorchconnector-credentials-{os.geteuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not _is_mine_alone(status):
        return None
    name = hashlib.sha256("\0".join([kind, *identity]).encode("utf-8", "surrogateescape")).hexdigest()
    return folder / f"{name[:32]}.json"


def _is_mine_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _read(path: Path) -> Credentials | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_mine_alone(status):
                return None
            outcome = read_credentials(SecretBytes(file.read(MAX_FILE_BYTES)))
    except OSError:
        return None
    return outcome if isinstance(outcome, Credentials) else None


def _write(path: Path, credentials: Credentials, expires_at: float) -> None:
    _remove_forgotten(path.parent)
    document = {
        DOCUMENT_NAMES["access_key_id"]: credentials.access_key_id,
        DOCUMENT_NAMES["access_key_secret"]: credentials.access_key_secret,
        DOCUMENT_NAMES["security_token"]: credentials.security_token,
        DOCUMENT_NAMES["expires_at"]: spelled_moment(expires_at),
    }
    with written_whole(path, mode=0o600) as file:
        file.write(SecretBytes(json.dumps(document).encode()))


def _remove_forgotten(folder: Path) -> None:
    """Remove what nobody has renewed for a day."""
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > _FORGOTTEN_SECONDS:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(path: Path | None, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Let one process after the other in; the system ends the turn of a process that is killed."""
    if path is None:
        yield
        return
    import fcntl

    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        for _ in range(int(_TURN_SECONDS / _LOOK_SECONDS)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)
