"""moto's S3 as a function of this process: no socket, no AWS, its answers as they are."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree.ElementTree import Element, ParseError

from werkzeug.test import run_wsgi_app

from . import documents
from .messages import Refusal, Reply

# OSS allows parts of 100 KB; moto reads this once, when it is imported.
os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "102400"

from moto.moto_server.werkzeug_app import create_backend_app

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=oracle/20250101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class MotoS3:
    """Send S3 requests to moto and take its errors as `Refusal`s."""

    def __init__(self) -> None:
        self._application: Any = create_backend_app("s3")

    def call(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Return moto's answer, header names in lower case; raise what it refuses (304 is an answer)."""
        environ = wsgi_environ(method, bucket, key, query or {}, headers or {}, body)
        chunks, status, reply_headers = run_wsgi_app(self._application, environ, buffered=True)
        reply = Reply(int(status.split()[0]), {name.lower(): value for name, value in reply_headers}, b"".join(chunks))
        if reply.status >= 400:
            raise refusal_of(reply)
        return reply

    def document(self, method: str, bucket: str, key: str = "", **more: Any) -> Element:
        """As `call`, for an answer that is XML."""
        return documents.parse_unclean(self.call(method, bucket, key, **more).body)


def wsgi_environ(
    method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    # moto takes the key from RAW_URI; PATH_INFO only routes, by patterns that a newline in a key would not match.
    raw_path = f"/{bucket}" + (f"/{quote(key, safe='')}" if key else "")
    query_string = urlencode(query, quote_via=quote, safe="")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/{bucket}" + ("/key" if key else ""),
        "RAW_URI": raw_path + (f"?{query_string}" if query_string else ""),
        "QUERY_STRING": query_string,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": AUTHORIZATION,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        plain = name.upper().replace("-", "_")
        environ[plain if plain == "CONTENT_TYPE" else f"HTTP_{plain}"] = value
    return environ


def refusal_of(reply: Reply) -> Refusal:
    """Return moto's error with its code; a HEAD has none, so its status has to speak."""
    codes = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
    try:
        error = documents.parse(reply.body)
        code, message = error.findtext(".//Code", ""), error.findtext(".//Message", "")
    except ParseError:
        code, message = codes.get(reply.status, ""), ""
    return Refusal(reply.status, code or "InternalError", message)
