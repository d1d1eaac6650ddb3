"""Sources that answer with the same JSON document: the metadata server of ECS, a credentials URI, and a command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn
from urllib.parse import quote, urlsplit

from ..errors import OssCredentialsError
from ..redaction import MAX_NAME_LETTERS, Secret, SecretBytes, keeper, printable
from .sources import CredentialsSource
from .temporary import TemporaryCredentials
from .values import Credentials, checked_credentials, read_credentials, read_object
from .web import WebAnswer, ask_web

METADATA_SERVER = "http://100.100.100.200"
_ROLES_PATH = "/latest/meta-data/ram/security-credentials/"
_TOKEN_PATH = "/latest/api/token"
# Reachable from every ECS instance within milliseconds: after this time there is none.
_METADATA_SECONDS = 1.0
_URI_SECONDS = 10.0
_COMMAND_SECONDS = 60.0
_TOKEN_HOLDS_SECONDS = 60  # it is used at once

_COMMAND_NAMES: Mapping[str, str] = {
    "access_key_id": "access_key_id",
    "access_key_secret": "access_key_secret",
    "security_token": "sts_token",
    "expires_at": "expiration",
}


class EcsRoleCredentials(TemporaryCredentials):
    """The RAM role of the ECS instance, from its metadata server (with a token, as IMDSv2 asks).

    Without `role_name` the server is asked for the name. `requires_token` refuses a server that gives no token. No
    proxy is ever asked.
    """

    def __init__(self, role_name: str = "", *, requires_token: bool = False, server: str = "") -> None:
        self._role_name, self._requires_token, self._server = role_name, requires_token, server

    def identity(self) -> Sequence[str]:
        return self._role_name, self._server

    def ask(self) -> Credentials:
        """Return the role's credentials. Raises `OssCredentialsError` after a second if there is no such server."""
        headers = self._token_headers()
        name = self._role_name or self._asked_role_name(headers)
        answer = self._get(f"{_ROLES_PATH}{quote(name, safe='')}", headers)
        if answer.status == 404:
            self._fail(f"the instance has no role {printable(name, MAX_NAME_LETTERS)}")
        return self._read(answer)

    def _token_headers(self) -> dict[str, str]:
        ttl = {"X-aliyun-ecs-metadata-token-ttl-seconds": str(_TOKEN_HOLDS_SECONDS)}
        answer = self._sent(_TOKEN_PATH, "PUT", ttl)
        token = Secret(answer.body.decode("latin-1").strip())
        if answer.status == 200 and token and all("!" <= letter <= "~" for letter in token):
            return {"X-aliyun-ecs-metadata-token": token}
        if self._requires_token:
            self._fail(f"the metadata server gave no token (HTTP status {answer.status})")
        return {}

    def _asked_role_name(self, headers: Mapping[str, str]) -> str:
        answer = self._get(_ROLES_PATH, headers)
        name = answer.body.decode("latin-1").strip()
        if answer.status == 404 or (answer.status == 200 and not name):
            self._fail("the instance has no RAM role: attach one, or give other credentials")
        if answer.status != 200 or not name.isprintable() or "/" in name or len(name) > MAX_NAME_LETTERS:
            self._fail(f"the answer (HTTP status {answer.status}) is no name of a role")
        return name

    def _get(self, path: str, headers: Mapping[str, str]) -> WebAnswer:
        return self._sent(path, "GET", headers)

    def _sent(self, path: str, method: str, headers: Mapping[str, str]) -> WebAnswer:
        server = self._server or METADATA_SERVER
        answer = ask_web(f"{server}{path}", method=method, headers=headers, seconds=_METADATA_SECONDS, direct=True)
        if isinstance(answer, str):
            self._fail(f"no metadata server at {server} ({answer}): this seems to be no ECS instance")
        return answer

    def _read(self, answer: WebAnswer) -> Credentials:
        outcome = _read_document(answer)
        return outcome if isinstance(outcome, Credentials) else self._fail(f"the metadata server {outcome}")

    def _fail(self, reason: str) -> NoReturn:
        raise OssCredentialsError(f"{self}: {reason}")

    def __str__(self) -> str:
        return f"the RAM role {self._role_name} of this ECS instance".replace("  ", " ")

    def __reduce__(self) -> tuple[object, ...]:
        return _ecs_role, (self._role_name, self._requires_token, self._server)


def _ecs_role(role_name: str, requires_token: bool, server: str) -> EcsRoleCredentials:
    return EcsRoleCredentials(role_name, requires_token=requires_token, server=server)


class UriCredentials(TemporaryCredentials):
    """A web service that answers a GET with the JSON document of the metadata server."""

    def __init__(self, uri: str) -> None:
        if urlsplit(uri).scheme not in ("http", "https"):
            raise OssCredentialsError("a credentials URI begins with http:// or https://")
        self._uri = Secret(uri)  # its query may hold a token

    def identity(self) -> Sequence[str]:
        return (self._uri,)

    def ask(self) -> Credentials:
        """Return the service's credentials. Raises `OssCredentialsError`."""
        # A plain-text service is on this machine or in its network. No proxy must read its answer.
        answer = ask_web(self._uri, seconds=_URI_SECONDS, direct=self._uri.startswith("http:"))
        outcome = answer if isinstance(answer, str) else _read_document(answer)
        if isinstance(outcome, Credentials):
            return outcome
        raise OssCredentialsError(f"{self}: it {outcome}")

    def __str__(self) -> str:
        parts = urlsplit(self._uri)
        return f"the credentials URI {parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/..."

    def __reduce__(self) -> tuple[type[UriCredentials], tuple[str]]:
        parts = urlsplit(self._uri)
        if parts.query or parts.username:
            raise OssCredentialsError(
                f"{self} can't be sent to another process, since it may hold a secret: "
                "set ALIBABA_CLOUD_CREDENTIALS_URI instead"
            )
        return UriCredentials, (str(self._uri),)


class CommandCredentials(CredentialsSource):
    """A command that prints credentials as JSON, as profiles of mode `External` name one. No shell runs it."""

    def __init__(self, command: str) -> None:
        self._command = command

    def fetch(self) -> Credentials:
        """Return what the command prints. Raises `OssCredentialsError` if it fails or takes longer than a minute."""
        printed = self._run()
        outcome = printed if isinstance(printed, str) else _read_command(printed)
        if isinstance(outcome, Credentials):
            return outcome
        raise OssCredentialsError(f"{self}: {outcome}")

    def _run(self) -> SecretBytes | str:
        import shlex
        import subprocess

        try:
            done = keeper(
                subprocess.run(
                    shlex.split(self._command),
                    check=False,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_COMMAND_SECONDS,
                )
            )
        except subprocess.TimeoutExpired:
            return f"it did not end within {_COMMAND_SECONDS:g} s"
        except (OSError, ValueError) as error:
            return f"it can't be run: {getattr(error, 'strerror', None) or type(error).__name__}"
        if done().returncode:
            return f"it ended with status {done().returncode}: {_last_line(done().stderr)}"
        return SecretBytes(done().stdout)

    def __str__(self) -> str:
        return f"the command {printable(self._command.split(' ', 1)[0], MAX_NAME_LETTERS)} of a profile"

    def __reduce__(self) -> tuple[type[CommandCredentials], tuple[str]]:
        return CommandCredentials, (self._command,)


def _read_document(answer: WebAnswer) -> Credentials | str:
    """Return the credentials in an answer like the metadata server's, or what is wrong with it."""
    if answer.status != 200:
        return f"answered with HTTP status {answer.status}"
    try:
        code = json.loads(answer.body).get("Code", "Success")
    except (ValueError, AttributeError, RecursionError):
        code = "Success"  # `read_credentials` says what is wrong
    if code != "Success":
        return f"answered {printable(str(code), MAX_NAME_LETTERS)} instead of credentials"
    outcome = read_credentials(answer.body)
    return outcome if isinstance(outcome, Credentials) else f"gave an answer that can't be used: {outcome}"


def _read_command(text: SecretBytes) -> Credentials | str:
    document = read_object(text, '{"mode": "StsToken", "access_key_id": ...}')
    if isinstance(document, str):
        return f"its output is {document}"
    outcome = checked_credentials(lambda field: document().get(_COMMAND_NAMES[field]), _COMMAND_NAMES)
    return outcome if isinstance(outcome, Credentials) else f"it printed credentials whose {outcome}"


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1], MAX_NAME_LETTERS) if lines else "it said nothing"
