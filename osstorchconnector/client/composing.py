"""What goes on the wire for a request: where to, signed, with all its headers."""

from __future__ import annotations

import functools
import platform
import sys
from importlib import metadata

from ..credentials import Credentials
from ..errors import OssCredentialsError
from ..protocol.endpoint import Endpoint, Route, SigningPlan
from ..protocol.get_heads import GetHeads
from ..protocol.signing import NoSigner, V1Signer, V4Signer, encode_key, encode_query, presigned_query
from ..protocol.values import Request
from ..uri import checked_bucket
from ..version import __version__
from .transport.base import WireRequest


class Composer:
    """Composes the requests of one client on one event loop."""

    def __init__(self, endpoint: Endpoint, signing: SigningPlan, user_agent: str) -> None:
        self._endpoint, self._signing, self._user_agent = endpoint, signing, user_agent
        self._routes: dict[str, Route] = {}
        self._signed_with: Credentials | None = None
        self._signer: NoSigner | V1Signer | V4Signer | None = None

    def wire(self, request: Request, credentials: Credentials, attempt: int, epoch_seconds: int) -> WireRequest:
        """Return the request as it is sent, signed at this time."""
        route = self.route(request.bucket)
        headers = self._headers(request, route, self._signer_of(credentials).sign(request, epoch_seconds))
        target = route.target(encode_key(request.key), encode_query(request.query) if request.query else "")
        operation, method, bucket, key, _, _, body = request
        return WireRequest(route.origin, method, target, headers, body, operation, bucket, key, attempt)

    def get_heads(self, bucket: str, credentials: Credentials) -> GetHeads | None:
        """Return what composes the heads of GETs from a bucket, if they are signed by version 4."""
        signer = self._signer_of(credentials)
        if not isinstance(signer, V4Signer):
            return None
        return GetHeads(signer, bucket, self.route(bucket), self._headers)

    def signed_url(self, request: Request, credentials: Credentials, epoch_seconds: int, lifetime_seconds: int) -> str:
        """Return a URL that has the signature in its query, and is valid for a while."""
        if credentials.is_anonymous:
            raise OssCredentialsError(
                f"sign oss://{request.bucket}/{request.key}: anonymous access has no key to sign with"
            )
        version, region = self._signing
        route = self.route(request.bucket)
        query = presigned_query(credentials, request, version, region, epoch_seconds, lifetime_seconds)
        return (
            f"{route.origin.scheme}://{route.host_header}{route.target(encode_key(request.key), encode_query(query))}"
        )

    def _headers(self, request: Request, route: Route, signature: list[tuple[str, str]]) -> list[tuple[str, str]]:
        headers = [("Host", route.host_header), ("User-Agent", self._user_agent), *request.headers, *signature]
        if request.body or request.method in ("PUT", "POST"):
            headers.append(("Content-Length", str(sum(memoryview(part).nbytes for part in request.body))))
        return headers

    def _signer_of(self, credentials: Credentials) -> NoSigner | V1Signer | V4Signer:
        if credentials is not self._signed_with or self._signer is None:
            self._signer = _signer(self._signing, credentials)
            self._signed_with = credentials
        return self._signer

    def route(self, bucket: str) -> Route:
        """Return how requests about a bucket are sent."""
        route = self._routes.get(bucket)
        if route is None:
            if bucket:
                checked_bucket(bucket, f"oss://{bucket}/")  # a path of a file may begin with any name
            route = self._routes[bucket] = self._endpoint.route(bucket)
        return route


def _signer(signing: SigningPlan, credentials: Credentials) -> NoSigner | V1Signer | V4Signer:
    if credentials.is_anonymous:
        return NoSigner()
    version, region = signing
    return V4Signer(credentials, region) if version == "v4" else V1Signer(credentials)


@functools.lru_cache(maxsize=1)
def user_agent() -> str:
    """Return the `User-Agent` of this library: its version, torch's and Python's.

    A torch that was imported tells its version; otherwise its package does, which takes 2 ms to read.
    """
    torch = getattr(sys.modules.get("torch"), "__version__", "")
    if not torch:
        try:
            torch = metadata.version("torch")
        except metadata.PackageNotFoundError:
            torch = "none"
    torch = str(torch).split("+")[0]
    return f"osstorchconnector/{__version__} torch/{torch} python/{platform.python_version()} {sys.platform}"
