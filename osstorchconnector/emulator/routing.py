"""Finds bucket, key, query and the name of the operation, from a request's method, target and `Host`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .exchange import Call
from .interface import BUCKET, COPIES, OBJECT, ROUTES, SERVICE, OperationRoute, feature_of, find_route, stranger
from .refusals import Refused, not_implemented

MAX_KEY_BYTES = 1023
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SERVICE_HOST = re.compile(r"(?:(.+)\.)?(?:oss-[a-z0-9-]+|[a-z0-9-]+\.oss)\.aliyuncs\.com")

_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})
# Operations of requests without a query, by method and kind of resource.
_PLAIN = {asked: routes[-1].operation for asked, routes in ROUTES.items() if not routes[-1].mark}


class Resource(NamedTuple):
    """The bucket and key that a request names; both are empty for the service itself."""

    bucket: str
    key: str


class Hosts:
    """Finds the bucket from a `Host` header and a path.

    With an IP address, `localhost` or an unknown host the bucket is in the path. With one of `domains` or a host name
    of OSS it is in front of that name. `cnames` maps whole hosts to buckets.
    """

    def __init__(self, domains: Sequence[str] = (), cnames: Mapping[str, str] | None = None) -> None:
        self._domains = ("localhost", *(domain.lower() for domain in domains))
        self._cnames = {host.lower(): bucket for host, bucket in (cnames or {}).items()}
        self._known: dict[str, str | None] = {}

    def resource(self, host: str, path: str) -> Resource:
        """Return what `path`, which is still percent-encoded, names at `host`."""
        bucket = self._bucket_of(host)
        decoded = decode_path(path)
        if bucket is None:
            bucket, _, key = decoded[1:].partition("/")
            return Resource(bucket, key)
        return Resource(bucket, decoded[1:])

    def _bucket_of(self, header: str) -> str | None:
        """Return the bucket of a host, "" for the service, None if the bucket is in the path."""
        if header not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[header] = self._find_bucket(_without_port(header).lower())
        return self._known[header]

    def _find_bucket(self, host: str) -> str | None:
        if host in self._cnames:
            return self._cnames[host]
        if _is_address(host) or host == "localhost":
            return None
        for domain in self._domains:
            if host == domain:
                return ""
            if host.endswith(f".{domain}"):
                return host.removesuffix(f".{domain}")
        match = _SERVICE_HOST.fullmatch(host)
        return None if match is None else match[1] or ""


def is_live(host: str) -> bool:
    """Whether a `Host` is a name of the live service; some clients send it to any endpoint they are given."""
    return _SERVICE_HOST.fullmatch(_without_port(host).lower()) is not None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def decode_path(path: str) -> str:
    """Decode the percent encoding of a path; `+` stays `+`."""
    if "%" not in path and path.isascii():
        return path
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise Refused("InvalidObjectName", "The key is not valid UTF-8.") from error


def decode_query(query: str) -> list[tuple[str, str]]:
    """Return a query's parameters in order; both `+` and `%20` are a space."""
    pairs = []
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            pairs.append((_decode_parameter(name), _decode_parameter(value)))
    return pairs


def _decode_parameter(text: str) -> str:
    text = text.replace("+", " ")
    return unquote_to_bytes(text).decode(errors="replace") if "%" in text else text


def name_operation(
    method: str, resource: Resource, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> str:
    """Return OSS's name of the operation, or "" if this server does not have it; then `why_not` says why."""
    if not query:
        operation = _PLAIN.get((method, _kind(resource)), "")
    else:
        route, name = _find(method, resource, query)
        operation = "" if route is None or name is not None else route.operation
        if operation == "ListObjects" and ("list-type", "2") in query:
            return "ListObjectsV2"
    return COPIES.get(operation, operation) if "x-oss-copy-source" in headers else operation


def why_not(method: str, resource: Resource, query: Sequence[tuple[str, str]]) -> Refused:
    """Return the refusal of a request for which `name_operation` returned ""."""
    if method not in _METHODS:
        return Refused("MethodNotAllowed")
    route, found = _find(method, resource, query)
    name = found or ""
    if feature := feature_of(name):
        return not_implemented(name, f"This emulator does not have {feature}, which the parameter {name} asks for.")
    if found is not None and route is not None:
        return not_implemented(name, f"{route.operation} does not take the parameter {name!r} in this emulator.")
    return not_implemented(name, f"This emulator has no such operation: {method} of a {_kind(resource)}.")


def _find(
    method: str, resource: Resource, query: Sequence[tuple[str, str]]
) -> tuple[OperationRoute | None, str | None]:
    """Return the route of a request, and the first query name that it does not take."""
    values = dict(query)
    route = find_route(method, _kind(resource), values)
    return route, stranger(route, values) if route is not None else next(iter(values), None)


def _kind(resource: Resource) -> str:
    if not resource.bucket:
        return SERVICE
    return OBJECT if resource.key else BUCKET


@lru_cache(maxsize=256)
def _is_bucket_name(name: str) -> bool:
    return _BUCKET_NAME.fullmatch(name) is not None


def check_bucket_name(name: str) -> None:
    if not _is_bucket_name(name):
        raise Refused("InvalidBucketName", extras={"BucketName": name})


def check_names(call: Call) -> None:
    """Refuse bucket and object names that OSS does not allow."""
    if call.bucket:
        check_bucket_name(call.bucket)
    key = call.key
    if key and (key[0] in "/\\" or (len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES)):
        raise Refused("InvalidObjectName", extras={"BucketName": call.bucket, "ObjectName": key})
