"""A user's object as a source: a credentials provider of one of Alibaba Cloud's SDKs, or a plain callable.

Most of this module is about how a provider reaches another process, since its pickle must never hold a secret:

- oss2's `EcsRamRoleCredentialsProvider` and both SDKs' `EnvironmentVariableCredentialsProvider` travel as their class
  and constructor arguments.
- A provider without state (a function, an instance without attributes) travels by name, as pickle does it.
- Any other provider, such as a `StaticCredentialsProvider`, may have a secret in any attribute. It goes into a file
  that only its owner can read (`HandoverFile`), and the pickle holds the path of that file. The process that wrote the
  file removes it at its end, after its children. If it is killed, the next process that writes such a file removes
  the one left behind: it can take the lock that a living writer holds.
- A provider that can't be pickled raises `OssCredentialsError`, which names `cred_path`.
"""

from __future__ import annotations

import contextlib
import copyreg
import inspect
import os
import pickle
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ..errors import OssCredentialsError
from ..redaction import Secret, SecretBytes, keeper, printable, without
from .sources import AnonymousCredentials, CredentialsSource
from .values import Credentials, checked_credentials

_NAMES = {
    "access_key_id": "access_key_id",
    "access_key_secret": "access_key_secret",
    "security_token": "security_token",
    "expires_at": "expiration",
}
_MAX_REASON_LETTERS = 500

_FILE_PREFIX = "osstorchconnector-"
_FILE_SUFFIX = ".credentials"
_MAX_FILE_BYTES = 1 << 20
# A younger file may not be locked yet.
_ORPHAN_SECONDS = 60.0
# Later than multiprocessing's own clean-up, which joins the children.
_EXIT_PRIORITY = -100


class ProviderCredentials(CredentialsSource):
    """The user's `cred_provider`, called at every `fetch`."""

    def __init__(self, provider: object) -> None:
        if isinstance(provider, type) or _asker(provider) is None:
            raise OssCredentialsError(
                "cred_provider must be a credentials provider of oss2, alibabacloud-oss-v2 or "
                "alibabacloud-credentials, an Auth of oss2, a callable that returns credentials, or the name of a "
                f"source, not {_kind(provider)} (the path of a credential file goes to cred_path=)"
            )
        self._provider: Callable[[], Any] = keeper(provider)
        self._pid = os.getpid()
        self._secrets: tuple[Secret, ...] = ()
        self._handover: HandoverFile | None = None

    def fetch(self) -> Credentials:
        provider = self._own_provider()
        try:
            # No local variable holds the provider or its answer: tracebacks show variables, and the `repr` of a user's
            # object may show secrets.
            outcome = _read(keeper(_asker(provider())()))  # type: ignore[misc]
        except OssCredentialsError:
            raise
        except Exception as error:
            raise OssCredentialsError(f"{self} failed: {self._reason(error)}") from error
        if isinstance(outcome, str):
            raise OssCredentialsError(f"{self} {outcome}")
        self._secrets = tuple(Secret(each) for each in (outcome.access_key_secret, outcome.security_token) if each)
        return outcome

    def __str__(self) -> str:
        return f"the cred_provider {_name(self._provider())}"

    def __reduce__(self) -> tuple[Callable[..., CredentialsSource], tuple[object, ...]]:
        recipe = _recipe(self._provider())
        if recipe is not None:
            return _made_again, recipe
        payload = self._payload()
        if _has_no_state(self._provider()):
            return ProviderCredentials, (self._provider(),)
        if self._handover is None or self._handover.pid != os.getpid():
            self._handover = self._handed_over(payload)
        return _handed_over, (self._handover.path, str(self))

    def by_name(self) -> CredentialsSource:
        if _recipe(self._provider()) is not None or _has_no_state(self._provider()):
            return self
        return UnavailableCredentials(str(self), "an item that crosses to another process takes no secrets along")

    def __copy__(self) -> ProviderCredentials:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> ProviderCredentials:
        return self

    def _own_provider(self) -> Callable[[], Any]:
        """Return a function that returns the provider; in a forked child a new provider, if we can make one.

        The old one may have a lock, held by a thread that does not exist in the child.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            kind, *arguments = _recipe(self._provider()) or (None,)
            if arguments:
                self._provider = keeper(kind(*arguments))
        return self._provider

    def _payload(self) -> SecretBytes:
        try:
            return SecretBytes(pickle.dumps(self._provider()))
        except Exception as error:
            reason = self._reason(error)
        raise self._stranded(reason)

    def _handed_over(self, payload: SecretBytes) -> HandoverFile:
        try:
            return HandoverFile(payload)
        except OSError as error:
            reason = self._reason(error)
        raise self._stranded(reason)

    def _stranded(self, reason: str) -> OssCredentialsError:
        return OssCredentialsError(
            f"{self} can't be sent to another process ({reason}): "
            "write the credentials to a file and give cred_path= instead"
        )

    def _reason(self, error: Exception) -> str:
        return printable(without(f"{type(error).__name__}: {error}", self._secrets), _MAX_REASON_LETTERS)


def is_oss2_auth(candidate: object) -> bool:
    """Say whether this is an auth of oss2: it signs requests, with the credentials of a provider in it."""
    return hasattr(candidate, "_sign_request") and not isinstance(candidate, type)


def source_of_oss2(auth: Any) -> CredentialsSource:
    """Return the source of the credentials in an auth of oss2: its provider, or for `AnonymousAuth` none.

    Raises `OssCredentialsError` for an auth of another kind that has no provider.
    """
    if "AnonymousAuth" in (kind.__name__ for kind in type(auth).__mro__):
        return AnonymousCredentials()
    inner = getattr(auth, "_StsAuth__auth", auth)  # where the class hides it
    provider: object = getattr(inner, "credentials_provider", None)
    if provider is None:
        raise OssCredentialsError(
            f"the {type(auth).__name__} has no credentials provider: give an oss2.Auth, ProviderAuth, StsAuth or "
            "AnonymousAuth, or cred_path="
        )
    return ProviderCredentials(provider)


class UnavailableCredentials(CredentialsSource):
    """A source that did not reach this process. `fetch` raises the error, so that unpickling does not."""

    def __init__(self, name: str, problem: str) -> None:
        self._name, self._problem = name, problem

    def fetch(self) -> Credentials:
        raise OssCredentialsError(
            f"{self._name} did not reach this process: {self._problem}. "
            "What holds secrets crosses only while the process that had it runs, to others of the same user and "
            "machine; anywhere else give cred_path="
        )

    def __str__(self) -> str:
        return self._name


def _made_again(kind: Callable[..., object], *arguments: object) -> CredentialsSource:
    try:
        return ProviderCredentials(kind(*arguments))
    except Exception as error:  # an environment variable that this process does not have
        return UnavailableCredentials(f"the cred_provider {_name(kind)}", f"{type(error).__name__}: {error}")


def _handed_over(path: str, name: str) -> CredentialsSource:
    try:
        payload = receive_handover(path)
    except OssCredentialsError as error:
        return UnavailableCredentials(name, str(error))
    return ProviderCredentials(pickle.loads(payload))


def _recipe(provider: Any) -> tuple[Any, ...] | None:
    """Return class and constructor arguments of a provider that we know to hold nothing else."""
    kind = type(provider)
    package, name = kind.__module__.partition(".")[0], kind.__qualname__
    if package in ("oss2", "alibabacloud_oss_v2") and name == "EnvironmentVariableCredentialsProvider":
        return (kind,)
    if package == "oss2" and name == "EcsRamRoleCredentialsProvider":
        return kind, provider.fetcher.auth_host, provider.max_retries, provider.timeout
    return None


def _has_no_state(provider: Any) -> bool:
    """Whether the pickle of the provider consists of names only."""
    if isinstance(provider, FunctionType):
        return True
    if isinstance(provider, BuiltinFunctionType):
        return inspect.ismodule(provider.__self__)
    reduced = provider.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    if isinstance(reduced, str):
        return True
    make, arguments, *rest = reduced
    return make is copyreg.__newobj__ and len(arguments) == 1 and not any(rest)  # type: ignore[attr-defined]


def _read(kept: Callable[[], Any]) -> Credentials | str:
    """Return the credentials in a provider's answer (methods, attributes, our class), or what is wrong with it."""
    if isinstance(kept(), Credentials):
        return kept()  # type: ignore[no-any-return]
    if inspect.iscoroutine(kept()):
        kept().close()
        return "is asynchronous; give one that returns credentials when called"
    if _value(kept, "access_key_id") is None and _value(kept, "access_key_secret") is None:
        return f"returned {_kind(kept())}, which holds no access_key_id and access_key_secret"
    outcome = checked_credentials(lambda field: _value(kept, _NAMES[field]), _NAMES)
    return outcome if isinstance(outcome, Credentials) else f"returned credentials whose {outcome}"


def _asker(provider: Any) -> Callable[[], Any] | None:
    """Return what gives credentials: `get_credential` is the method of alibabacloud-credentials' `Client`."""
    for name in ("get_credentials", "get_credential"):
        if hasattr(provider, name):
            return getattr(provider, name)  # type: ignore[no-any-return]
    return provider if callable(provider) else None


def _value(kept: Callable[[], Any], name: str) -> object:
    if callable(getattr(kept(), f"get_{name}", None)):
        return getattr(kept(), f"get_{name}")()
    return getattr(kept(), name, None)


def _name(provider: Any) -> str:
    named = provider if hasattr(provider, "__qualname__") else type(provider)
    return f"{named.__module__}.{named.__qualname__}"


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return f"the class {_name(value)}, give an instance" if isinstance(value, type) else f"a {type(value).__name__}"


class HandoverFile:
    """A file that holds `payload` until `remove` is called or the process that made it ends.

    Raises `OSError` where no temporary file can be written.
    """

    def __init__(self, payload: SecretBytes) -> None:
        from multiprocessing.util import Finalize  # unlike atexit, it also runs in forked workers

        remove_orphaned_handovers()
        self.pid = os.getpid()
        descriptor, self.path = tempfile.mkstemp(suffix=_FILE_SUFFIX, prefix=_FILE_PREFIX)
        self.remove = Finalize(None, _remove, (self.path, descriptor), exitpriority=_EXIT_PRIORITY)
        _lock(descriptor)
        rest = memoryview(payload)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            self.remove()
            raise


def receive_handover(path: str) -> SecretBytes:
    """Return what the file holds. Raises `OssCredentialsError` if it is gone or not private to this user."""
    try:
        # Non-blocking: to open a named pipe in its place would block forever.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not _is_private(os.fstat(descriptor)):
                raise OssCredentialsError(f"{path} is not a file that only this user can read")
            return SecretBytes(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise OssCredentialsError(f"{path}: {error.strerror}") from None


def remove_orphaned_handovers(*, clock: Callable[[], float] = time.time) -> None:
    """Remove the files of processes that were killed."""
    now = clock()
    for path in Path(tempfile.gettempdir()).glob(f"{_FILE_PREFIX}*{_FILE_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process removed it first
            status = path.lstat()
            if _is_private(status) and now - status.st_mtime > _ORPHAN_SECONDS:
                _remove_if_unlocked(path)


def _remove_if_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock that says "in use". The system releases it when the last process with the descriptor ends."""
    try:
        import fcntl
    except ImportError:  # Windows: files left behind stay in the user's temporary folder
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: str, descriptor: int) -> None:
    os.close(descriptor)  # Windows can't remove an open file
    Path(path).unlink(missing_ok=True)


def _is_private(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
