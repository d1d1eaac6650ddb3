"""Where requests go: an endpoint and a bucket become an address, a `Host` header and the path of each request.

An endpoint also tells the region that a version 4 signature names (`plan_signing`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ..errors import OssConfigError

Addressing = Literal["auto", "virtual", "path", "cname"]

_HOST = re.compile(r"[a-z0-9_.-]+")
# The hosts of OSS itself, with a bucket in front or not: public, internal, classic VPC, dual stack, accelerator.
_OWN_HOST = re.compile(
    r"(?:(?P<bucket>.+?)\.)?"
    r"(?P<host>(?:(?:vpc100-)?oss-(?P<named>(?:cache-)?[a-z]{2}-[^.]+?|accelerate(?:-overseas)?)"
    r"|(?P<leading>[a-z]{2}-[^.]+?))(?:-internal)?"
    r"(?(leading)\.oss(?:-data-acc)?)\.aliyuncs\.com)"
)
# oss-accelerate and oss-accelerate-overseas name no region. The accelerator once had zones: oss-cache-cn-beijing-h.
_REGION_IN_HOST = re.compile(r"(?:cache-)?([a-z]{2}-[^.]+?)")
_ACCELERATED_HOSTS = ("oss-accelerate.aliyuncs.com", "oss-accelerate-overseas.aliyuncs.com")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


class Origin(NamedTuple):
    """The server to connect to; connections to one origin are interchangeable."""

    scheme: str
    host: str
    port: int


class Route(NamedTuple):
    """How to send requests about one bucket: the server, the `Host` header, the beginning of every path."""

    origin: Origin
    host_header: str
    path: str

    def target(self, encoded_key: str, encoded_query: str) -> str:
        """Return the request target: the path and the query."""
        path = self.path + encoded_key
        return f"{path}?{encoded_query}" if encoded_query else path


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed endpoint; `style` says where a request names its bucket."""

    scheme: str
    host: str
    port: int
    style: Literal["virtual", "path", "cname"]

    def __str__(self) -> str:
        return f"{self.scheme}://{self._authority(self.host)}"

    @property
    def is_local(self) -> bool:
        """True for an IP address or `localhost`: hosts that no bucket name can be put in front of."""
        return _is_local(self.host)

    @property
    def is_accelerated(self) -> bool:
        """True for the accelerator's hosts, which lead to buckets of all regions."""
        return self.host in _ACCELERATED_HOSTS

    @property
    def is_exposed(self) -> bool:
        """True if others can read what is sent: no https, another machine, and not an `-internal` host."""
        is_inside = "-internal." in f"{self.host}." or self.host.startswith("vpc100-")
        return not (self.scheme == "https" or is_this_machine(self.host) or is_inside)

    def route(self, bucket: str) -> Route:
        """Return the route of requests about a bucket; with an empty name, of those about the service."""
        host = f"{bucket}.{self.host}" if self.style == "virtual" and bucket else self.host
        path = f"/{bucket}/" if self.style == "path" and bucket else "/"
        return Route(Origin(self.scheme, host, self.port), self._authority(host), path)

    def _authority(self, host: str) -> str:
        name = f"[{host}]" if ":" in host else host
        return name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"


def parse_endpoint(text: str, addressing: Addressing = "auto") -> Endpoint:
    """Return the endpoint that `text` names: `[http[s]://]host[:port]`, https where no scheme is given.

    `addressing="auto"` puts the bucket into the path for IP addresses and localhost, before the host elsewhere.
    Raises `OssConfigError` for anything with a path, a user or a query: a URL of a bucket or object is no endpoint.
    """
    if text is not None and not isinstance(text, str):
        raise OssConfigError(
            f"endpoint is a {type(text).__name__}, not a text like 'https://oss-<region>.aliyuncs.com'"
        )
    if not text or not text.strip():
        raise OssConfigError("endpoint is empty: pass endpoint='https://oss-<region>.aliyuncs.com'")
    url = text.strip()
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise OssConfigError(f"endpoint {_without_user(text)!r} is not [http[s]://]host[:port]") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise OssConfigError(
            f"endpoint {_without_user(text)!r}: the scheme must be http or https, not {parts.scheme!r}"
        )
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OssConfigError(
            f"endpoint {_without_user(text)!r}: only [http[s]://]host[:port] is an endpoint "
            "(bucket and key stand in URIs, oss://bucket/key)"
        )
    if not _is_local(host) and not _HOST.fullmatch(host):
        raise OssConfigError(f"endpoint {_without_user(text)!r} names no valid host: {host!r}")
    if addressing != "cname":
        _refuse_bucket(text, parts.scheme, host)
    style = ("path" if _is_local(host) else "virtual") if addressing == "auto" else addressing
    return Endpoint(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], style)


def infer_region(host: str) -> str:
    """Return the region in an Aliyun host name, such as `cn-hangzhou`; "" for acceleration and other hosts."""
    own = _OWN_HOST.fullmatch(host)
    return "" if own is None else _region_of(own)


def endpoint_in(location: str, bucket: str) -> str:
    """Return the endpoint of OSS to which a redirect of requests about a bucket leads; "" if it leads elsewhere."""
    try:
        host = urlsplit(location).hostname or ""
    except ValueError:
        return ""
    own = _OWN_HOST.fullmatch(host)
    return own["host"] if own is not None and own["bucket"] in (None, bucket) else ""


def _region_of(own: re.Match[str]) -> str:
    name = own["named"] or own["leading"]
    region = _REGION_IN_HOST.fullmatch(name)
    if region is None:
        return ""
    return region[1].rpartition("-")[0] if name.startswith("cache-") else region[1]


def _refuse_bucket(text: str, scheme: str, host: str) -> None:
    """Raise if `host` is the domain of a bucket: the console shows it, and people copy it."""
    own = _OWN_HOST.fullmatch(host)
    if own is None or not own["bucket"]:
        return
    bucket, right = own["bucket"], f"pass endpoint='{scheme}://{own['host']}'"
    if bucket == "s3":
        raise OssConfigError(
            f"endpoint {_without_user(text)!r} is for clients of the S3 protocol, not of OSS's (nor is 's3' a bucket): "
            f"{right}"
        )
    raise OssConfigError(
        f"endpoint {_without_user(text)!r} is the domain of a bucket: '{bucket}' is the bucket's name, which stands in "
        f"URIs, oss://{bucket}/key; {right}"
    )


class SigningPlan(NamedTuple):
    """Which signature version a client uses, and for which region (empty for V1)."""

    version: Literal["v1", "v4"]
    region: str


def plan_signing(endpoint: Endpoint, region: str, version: Literal["auto", "v1", "v4"]) -> SigningPlan:
    """Choose V4 if a region is given or can be inferred, V1 for addresses, localhost and the accelerator without one.

    The accelerator's hosts name no region, and a V4 signature is valid only with the region of the bucket.

    Raises `OssConfigError`, which names `region=`, if V4 needs a region and there is none, or if it is not valid.
    """
    if region and not (isinstance(region, str) and _REGION.fullmatch(region)):
        raise OssConfigError(f"region={region!r} is no region: pass one like region='cn-hangzhou'")
    region = (region or infer_region(endpoint.host)).removeprefix("oss-")
    if version == "v1":
        return SigningPlan("v1", "")
    if region:
        return SigningPlan("v4", region)
    if version == "auto" and (endpoint.is_local or endpoint.is_accelerated):
        return SigningPlan("v1", "")
    is_named = "." not in endpoint.host and _REGION.fullmatch(endpoint.host)
    hint = f"; if {endpoint.host} is the region, pass endpoint='https://oss-{endpoint.host}.aliyuncs.com'"
    raise OssConfigError(
        f"no region for endpoint {endpoint}: it can't be told from the host name; pass region='cn-...' "
        f"(or set the config key signatureVersion to 'v1'){hint if is_named else ''}"
    )


def is_this_machine(host: str) -> bool:
    """Say whether this host is always the machine that asks: `localhost`, and loopback addresses."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_local(host) and ipaddress.ip_address(host).is_loopback


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_user(url: str) -> str:
    """Return the URL without anything that may be a password: all before the last `@`."""
    return re.sub(r"^([a-z]*:?//)?.*@", r"\1...@", url, flags=re.DOTALL)
