"""The values that travel through the oracle: requests, replies and refusals. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit


class Account(NamedTuple):
    """Who may sign requests; with a `security_token`, those of an STS session."""

    access_key_id: str
    access_key_secret: str
    security_token: str = ""


@dataclass(frozen=True)
class OssRequest:
    """One request, everything decoded; header names are lower-case."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    has_length: bool = True


@dataclass
class Reply:
    """One answer. `length` stands in for the body's own where there is a length and no body (HEAD)."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


class Refusal(Exception):
    """The request is answered with an error document."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        *,
        headers: dict[str, str] | None = None,
        **extras: str,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message or code
        self.headers, self.extras = headers or {}, extras


def read_target(host: str, target: str) -> tuple[str, str, dict[str, str]]:
    """Return bucket, key and query of a request line, for path style as well as virtual-hosted."""
    parts = urlsplit(f"//{target}" if target.startswith("//") else target)
    path = unquote(parts.path, errors="surrogateescape").removeprefix("/")
    bucket = bucket_of_host(host)
    if bucket:
        return bucket, path, read_query(parts.query)
    bucket, _, key = path.partition("/")
    return bucket, key, read_query(parts.query)


def read_query(text: str) -> dict[str, str]:
    """Return the decoded parameters, empty ones too; `+` is a space."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def bucket_of_host(host: str) -> str:
    """Return the bucket that a Host header names, or "" where the path has to name it."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    is_address = name.startswith("[") or name.replace(".", "").isdigit()
    if is_address or "." not in name:
        return ""
    return name.split(".", 1)[0]
