"""The command doctor: what stands between this machine and a bucket, in the order in which a request meets it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..client.client import OssClient
from ..client.transport.addresses import proxy_for
from ..config import config_file, load_config
from ..errors import OssConfigError, OssError
from ..protocol.endpoint import Endpoint, Origin, parse_endpoint
from ..protocol.values import ByteSpan
from ..uri import OssUri
from .findings import (
    Finding,
    Level,
    about_clock,
    about_endpoint,
    about_expiry,
    about_in_flight,
    about_latency,
    about_rate,
    about_refusal,
    about_retries,
    worst,
)
from .machine import about_this_machine
from .places import Remote, remote
from .run import app, session
from .show import out, out_json

_CONNECT_SECONDS = 5.0
_PROBE_BYTES = 8 << 20
_SPAN_BYTES = 256 << 10
_SMALL_BYTES = 4096
_SMALL_READS = 40
_IN_FLIGHT = 32
_PART_BYTES = 100 << 10
_LATENCY_SECONDS = 2.0
# Who waits for the doctor wants to know what fails, not that it may pass.
_ATTEMPTS, _OPERATION_SECONDS = 3, 20.0


@app.command(rich_help_panel="Look")
def doctor(
    uri: Annotated[str, typer.Argument(metavar="oss://BUCKET/PREFIX", help="Where your data is, or shall be.")],
    read_only: Annotated[bool, typer.Option("--read-only", help="Don't write, even a temporary object.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for a ticket.")] = False,
) -> None:
    """Look for what stands between this machine and a bucket, and say what to do about it.

    It writes two temporary objects below the prefix, of 8 MiB and 4 KiB, reads them, and removes them. No secret is
    shown.

    Example: osstorch doctor oss://my-bucket/images/
    """
    found = list[Finding]()
    for finding in _examined(remote(uri), read_only):
        found.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        out_json({"uri": uri, "findings": [{**each._asdict(), "level": each.level.value} for each in found]})
    if worst(found) is Level.FAIL:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    level = finding.level.value
    out(f"{level:<4}  {finding.topic}: {finding.seen}")
    if finding.todo:
        out(f"      to do: {finding.todo}")


def _examined(place: Remote, read_only: bool) -> Iterator[Finding]:
    yield from about_this_machine()
    try:
        yield _config()
        client = session().client.with_settings(max_attempts=_ATTEMPTS, operation_timeout_seconds=_OPERATION_SECONDS)
        endpoint = parse_endpoint(client.endpoint)
    except OssConfigError as error:
        yield Finding(Level.FAIL, "settings", str(error), "correct it: docs/configuration.md has all keys")
        return
    yield from about_endpoint(endpoint.scheme, endpoint.host, endpoint.is_exposed, _proxy(endpoint, place))
    for look in (_credentials, lambda: _way(endpoint, place), lambda: _bucket(client, place)):
        for finding in look():
            yield finding
            if finding.level is Level.FAIL:
                return
    if not read_only:
        yield from _probed(client, place)
    yield about_retries(client.retries)


def _config() -> Finding:
    """Say which config file is used. Raises `OssConfigError` if it is wrong."""
    given = session().settings.connector_config
    path, named_by = config_file(given)
    load_config(given)
    return Finding(Level.OK, "settings", f"the config file {path} ({named_by})" if path else "no config file: defaults")


def _proxy(endpoint: Endpoint, place: Remote) -> str:
    found = proxy_for(endpoint.route(place.uri.bucket).origin)
    return urlsplit(found).hostname or "" if found else ""


def _credentials() -> Iterator[Finding]:
    try:
        source = session().source
        credentials = source.fetch()
    except OssError as error:
        yield Finding(Level.FAIL, "credentials", str(error), "docs/credentials.md lists the places that are looked at")
        return
    if credentials.is_anonymous:
        yield Finding(Level.OK, "credentials", "none: only what is public can be read")
        return
    left = None if credentials.expires_at is None else credentials.expires_at - time.time()
    yield about_expiry(left, f"{source} (key {credentials.access_key_id[:8]}...)")


def _way(endpoint: Endpoint, place: Remote) -> Iterator[Finding]:
    """Look up the name, connect, and shake hands. With a proxy, that is the proxy's affair."""
    if _proxy(endpoint, place):
        return
    origin = endpoint.route(place.uri.bucket).origin
    begun = time.monotonic()
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)}
    except OSError as error:
        todo = "check the endpoint's spelling, the region, and the DNS of this machine"
        yield Finding(Level.FAIL, "name", f"{origin.host} does not resolve: {error.strerror}", todo)
        return
    yield Finding(Level.OK, "name", f"{origin.host} is {', '.join(map(str, sorted(addresses)))} ({_ms(begun)})")
    yield _connected(origin)


def _connected(origin: Origin) -> Finding:
    begun = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection((origin.host, origin.port), _CONNECT_SECONDS))
            if origin.scheme == "https":
                context = ssl.create_default_context(cafile=session().client.config.ca_file or None)
                stack.enter_context(context.wrap_socket(plain, server_hostname=origin.host))
    except ssl.SSLCertVerificationError as error:
        todo = "a proxy may stand between, or the clock be wrong: an authority's certificate goes into caFile"
        seen = f"the TLS certificate of {origin.host} is not trusted: {error.verify_message}"
        return Finding(Level.FAIL, "connection", seen, todo)
    except ssl.SSLError as error:
        todo = "check the port; for plain http write http:// in the endpoint"
        return Finding(Level.FAIL, "connection", f"TLS with {origin.host} fails: {error.reason or error}", todo)
    except OSError as error:
        todo = "check the firewall and the network; an -internal endpoint is reached from its own region only"
        reason = error.strerror or "no answer in time"
        return Finding(Level.FAIL, "connection", f"{origin.host}:{origin.port} can't be reached: {reason}", todo)
    return Finding(Level.OK, "connection", f"made{' with TLS' if origin.scheme == 'https' else ''} ({_ms(begun)})")


def _bucket(client: OssClient, place: Remote) -> Iterator[Finding]:
    try:
        page = client.list_page(place.uri, max_keys=1)
        skew = time.time() - client.server_time(place.uri)
    except OssError as error:
        yield about_refusal("list", error, "oss:ListObjects")
        return
    yield Finding(Level.OK, "list", f"{place} {'has objects' if page.objects else 'is empty'}")
    yield about_clock(skew)
    if page.objects:
        first = OssUri(place.uri.bucket, page.objects[0].key)
        yield _tried("get", "an object can be read", "oss:GetObject", client.get, first, ByteSpan(0, 1))


def _probed(client: OssClient, place: Remote) -> Iterator[Finding]:
    """Write, read and remove temporary objects; measure on the way."""
    name = f".osstorch-doctor-{secrets.token_hex(8)}"
    large, small = (OssUri(place.uri.bucket, f"{place.folder().uri.key}{name}{end}") for end in ("", "-small"))
    written = list[OssUri]()
    try:
        put = _tried("put", "an object can be written", "oss:PutObject", client.put, large, bytes(_PROBE_BYTES))
        yield put
        if put.level is Level.OK:
            written = [large, small]
            client.put(small, bytes(_SMALL_BYTES))
            action = "oss:PutObject and oss:AbortMultipartUpload"
            yield _tried("multipart", "an object can be written in parts", action, _multipart, client, small)
            yield from _measured(client, large, small)
    except OssError as error:
        yield about_refusal("measurement", error, "oss:GetObject")
    finally:
        keys = [large.key, small.key]
        removed = _tried("delete", "objects can be removed", "oss:DeleteObject", client.delete_many, large.bucket, keys)
    if written and removed.level is Level.FAIL:
        removed = removed._replace(todo=f"{removed.todo or 'then'}; remove {large} and {small}".removeprefix("then; "))
    yield removed


def _multipart(client: OssClient, uri: OssUri) -> None:
    upload_id = client.create_upload(uri)
    try:
        part = client.upload_part(uri, upload_id, 1, bytes(_PART_BYTES))
        client.complete_upload(uri, upload_id, [part])
    except BaseException:
        client.abort_upload(uri, upload_id)
        raise


def _measured(client: OssClient, large: OssUri, small: OssUri) -> Iterator[Finding]:
    client.get(small)  # the connection is made
    until, latencies = time.monotonic() + _LATENCY_SECONDS, list[float]()
    while len(latencies) < _SMALL_READS and (time.monotonic() < until or not latencies):
        latencies.append(_seconds_of(lambda: client.get(small, ByteSpan(0, 1))))
    yield about_latency(latencies)
    in_flight = client.config.dataset.prefetch_concurrency
    yield about_in_flight("datasetConfig.prefetchConcurrency", in_flight, latencies)
    one = _PROBE_BYTES / _seconds_of(lambda: client.get(large))
    spans = [ByteSpan(start, start + _SPAN_BYTES) for start in range(0, _PROBE_BYTES, _SPAN_BYTES)]

    def many() -> None:
        for _ in client.map(
            lambda operations, span: operations.get(large, span), spans, concurrency=_IN_FLIGHT, workers=1
        ):
            pass

    def smalls() -> None:
        uris = [small] * (_IN_FLIGHT * 8)
        for _ in client.map(lambda operations, uri: operations.get(uri), uris, concurrency=_IN_FLIGHT, workers=1):
            pass

    many()  # the connections are made
    yield from about_rate(one, _PROBE_BYTES / _seconds_of(many), _IN_FLIGHT, _IN_FLIGHT * 8 / _seconds_of(smalls))


def _tried(topic: str, seen: str, action: str, call: Callable[..., object], *arguments: object) -> Finding:
    """Do something that needs the permission `action`, and say how it went."""
    try:
        call(*arguments)
    except OssError as error:
        return about_refusal(topic, error, action)
    return Finding(Level.OK, topic, seen)


def _seconds_of(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return max(time.monotonic() - begun, 1e-6)


def _ms(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:.0f} ms"
