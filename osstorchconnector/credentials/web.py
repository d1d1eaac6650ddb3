"""One bounded HTTP exchange with a service that gives credentials: no redirects, no retries, a limit of its answer.

It returns what is wrong as a text and raises nothing, so that no traceback has a frame of the HTTP library, whose
variables hold tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ..redaction import SecretBytes, printable

if TYPE_CHECKING:
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector

MAX_ANSWER_BYTES = 1 << 18
_MAX_REASON_LETTERS = 200


class WebAnswer(NamedTuple):
    """What a service answered; an error's answer too."""

    status: int
    body: SecretBytes


def ask_web(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: SecretBytes | None = None,
    seconds: float,
    direct: bool,
) -> WebAnswer | str:
    """Return the answer to one request, or why there is none. Each wait for the network takes at most `seconds`.

    `direct` says that no proxy is asked, whatever the environment says.
    """
    # Imported here: `http.client` and what it imports take longer to load than the rest of this library's credentials.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request

    if urlsplit(url).scheme not in ("http", "https"):
        return "its address must begin with http:// or https://"
    request = Request(url, data=body, headers=dict(headers or {}), method=method)
    try:
        with _opener(direct).open(request, timeout=seconds) as response:
            return _answer(response.status, response)
    except HTTPError as error:
        return _refusal(error)
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error)


def _refusal(error: HTTPError) -> WebAnswer | str:
    from http.client import HTTPException

    try:
        with error:
            return _answer(error.code, error)
    except (OSError, HTTPException) as again:
        return _reason(again)


def _answer(status: int, stream: IO[bytes]) -> WebAnswer | str:
    body = SecretBytes(stream.read(MAX_ANSWER_BYTES + 1))
    if len(body) > MAX_ANSWER_BYTES:
        return f"its answer is longer than {MAX_ANSWER_BYTES} bytes"
    return WebAnswer(status, body)


def _opener(direct: bool) -> OpenerDirector:
    import ssl
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            """Follow nothing: the request may hold a token, and the next server may be anybody's."""

    secure = HTTPSHandler(context=ssl.create_default_context())
    return build_opener(ProxyHandler({} if direct else None), secure, NoRedirects)


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    named = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return printable(str(named), _MAX_REASON_LETTERS)
