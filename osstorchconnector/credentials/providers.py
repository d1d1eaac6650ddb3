"""The source that is a user's object: an oss2 or alibabacloud-oss-v2 credentials provider, or a plain callable.

To another process a provider goes in one of these ways, and never as a secret in the pickle:

- oss2's `EcsRamRoleCredentialsProvider` and both SDKs' `EnvironmentVariableCredentialsProvider` as their class
  and constructor arguments;
- what has no state of its own (a function, an instance without attributes) by name, as pickle does it;
- everything else, a `StaticCredentialsProvider` say, through a file that only its owner can read (`handover`),
  because any attribute may be a secret;
- what can't be pickled at all is an `OssCredentialsError` that names `cred_path`.
"""

from __future__ import annotations

import copyreg
import inspect
import os
import pickle
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ..errors import OssCredentialsError
from ..redaction import Secret, SecretBytes, keeper, printable, without
from . import handover
from .values import Credentials, CredentialsSource, checked_credentials

_NAMES = {
    "access_key_id": "access_key_id",
    "access_key_secret": "access_key_secret",
    "security_token": "security_token",
    "expires_at": "expiration",
}
_MAX_REASON_LETTERS = 500


class ProviderCredentials(CredentialsSource):
    """What `cred_provider` gives, asked anew at every `fetch`."""

    def __init__(self, provider: object) -> None:
        if isinstance(provider, type) or not (hasattr(provider, "get_credentials") or callable(provider)):
            raise OssCredentialsError(
                "cred_provider must be a credentials provider of oss2 or alibabacloud-oss-v2, or a callable that "
                f"returns credentials, not {_kind(provider)} (the path of a credential file goes to cred_path=)"
            )
        self._provider: Callable[[], Any] = keeper(provider)
        self._pid = os.getpid()
        self._secrets: tuple[Secret, ...] = ()
        self._handover: handover.Handover | None = None

    def fetch(self) -> Credentials:
        provider = self._own_provider()
        try:
            # No variable here holds the provider or its answer: the `repr` of a user's object may show secrets.
            outcome = _read(
                keeper(provider().get_credentials() if hasattr(provider(), "get_credentials") else provider()())
            )
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
        """Return what returns the provider; in a forked child a new one of the kind that has a lock.

        The thread that held the old one's is not there to let it go.
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

    def _handed_over(self, payload: SecretBytes) -> handover.Handover:
        try:
            return handover.Handover(payload)
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


class UnavailableCredentials(CredentialsSource):
    """A source that did not survive the way to this process; says so when it is asked, not when unpickled."""

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
        payload = handover.receive(path)
    except OssCredentialsError as error:
        return UnavailableCredentials(name, str(error))
    return ProviderCredentials(pickle.loads(payload))


def _recipe(provider: Any) -> tuple[Any, ...] | None:
    """Return class and constructor arguments of a provider that is known to be no more than these."""
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
    """Return the credentials in a provider's answer (methods, attributes or our own), or what is wrong with it."""
    if isinstance(kept(), Credentials):
        return kept()  # type: ignore[no-any-return]
    if inspect.iscoroutine(kept()):
        kept().close()
        return "is asynchronous; give one that returns credentials when called"
    if _value(kept, "access_key_id") is None and _value(kept, "access_key_secret") is None:
        return f"returned {_kind(kept())}, which holds no access_key_id and access_key_secret"
    outcome = checked_credentials(lambda field: _value(kept, _NAMES[field]), _NAMES)
    return outcome if isinstance(outcome, Credentials) else f"returned credentials whose {outcome}"


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
