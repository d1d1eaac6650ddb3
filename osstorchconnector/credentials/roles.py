"""Sources that assume a RAM role: with other credentials, or with the OIDC token that ACK mounts into a pod (RRSA)."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import OssCredentialsError
from ..redaction import Secret
from .sources import MAX_FILE_BYTES, CredentialsSource
from .sts import Role, StsRequest, assume_role, assume_role_with_oidc, sts_credentials
from .temporary import TemporaryCredentials
from .values import Credentials
from .web import ask_web

_SECONDS = 10.0


class _StsCredentials(TemporaryCredentials):
    """A source that asks STS."""

    _role: Role

    def _sent(self, request: StsRequest) -> Credentials:
        endpoint = self._role.endpoint()
        answer = ask_web(
            f"{endpoint}?{request.query}",
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=request.body,
            seconds=_SECONDS,
            direct=False,
        )
        if isinstance(answer, str):
            raise OssCredentialsError(f"{self}: can't reach {endpoint}: {answer}")
        outcome = sts_credentials(answer.status, answer.body)
        if isinstance(outcome, str):
            raise OssCredentialsError(
                f"{self}: {endpoint} {outcome}; check the role's trust policy and the permission sts:AssumeRole"
            )
        return outcome


class RoleCredentials(_StsCredentials):
    """The credentials of a role, assumed with the credentials of another source."""

    def __init__(self, base: CredentialsSource, role: Role | str, *, clock: Callable[[], float] = time.time) -> None:
        self._base, self._clock = base, clock
        self._role = Role(arn=role) if isinstance(role, str) else role

    def ask(self) -> Credentials:
        """Return new credentials of the role. Raises `OssCredentialsError`, also if the other source gives none."""
        base = self._base.fetch()
        return self._sent(assume_role(self._role, base, nonce=secrets.token_hex(16), epoch_seconds=self._clock()))

    def identity(self) -> Sequence[str]:
        return *self._base.identity(), repr(self._role)

    def by_name(self) -> CredentialsSource:
        base = self._base.by_name()
        return self if base is self._base else RoleCredentials(base, self._role)

    def __str__(self) -> str:
        return f"the role {self._role.arn} (assumed with {self._base})"

    def __reduce__(self) -> tuple[type[RoleCredentials], tuple[CredentialsSource, Role]]:
        return RoleCredentials, (self._base, self._role)


class OidcCredentials(_StsCredentials):
    """The credentials of a role, assumed with a token in a file, which is read anew each time."""

    def __init__(
        self,
        role: Role | str,
        provider_arn: str,
        token_path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._role = Role(arn=role) if isinstance(role, str) else role
        self._provider_arn, self._token_path, self._clock = provider_arn, Path(token_path).absolute(), clock

    def ask(self) -> Credentials:
        """Return new credentials of the role. Raises `OssCredentialsError`."""
        nonce, now = secrets.token_hex(16), self._clock()
        return self._sent(
            assume_role_with_oidc(self._role, self._provider_arn, self._token(), nonce=nonce, epoch_seconds=now)
        )

    def identity(self) -> Sequence[str]:
        return self._provider_arn, str(self._token_path), repr(self._role)

    def _token(self) -> Secret:
        try:
            with self._token_path.open("rb") as file:
                token = Secret(file.read(MAX_FILE_BYTES).decode().strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise OssCredentialsError(f"{self}: can't read the token file {self._token_path}: {reason}") from None
        if not token:
            raise OssCredentialsError(f"{self}: the token file {self._token_path} is empty")
        return token

    def __str__(self) -> str:
        return f"the role {self._role.arn} (assumed with the OIDC token of this pod)"

    def __reduce__(self) -> tuple[type[OidcCredentials], tuple[Role, str, str]]:
        return OidcCredentials, (self._role, self._provider_arn, str(self._token_path))
