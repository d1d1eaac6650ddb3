"""`python -m osstorchconnector.emulator`: serve a folder from the command line."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..credentials import Credentials
from .handle import DEFAULT_KEY_ID, DEFAULT_REGION
from .network import PRESETS, Network
from .refusals import Refused
from .server import ServerSettings, run
from .service import Policy
from .sockets import endpoint_of


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.settings_from_stdin:
            _serve_for_handle()
        else:
            settings = _settings(options)
            run(settings, announce=lambda port: _say(_greeting(settings, port)))
    except (OSError, Refused, TypeError, ValueError) as error:
        if options.settings_from_stdin:
            _say(json.dumps({"error": f"{error}"}))
        else:
            _say(f"the emulator can't serve: {error}", sys.stderr)
        return 1
    return 0


def settings_from(values: dict[str, Any]) -> ServerSettings:
    """Return the settings from the JSON of a handle."""
    return ServerSettings(
        **{
            **values,
            "root": Path(values["root"]),
            "identities": tuple(Credentials(**identity) for identity in values["identities"]),
            "policy": Policy(**values["policy"]),
            "domains": tuple(values["domains"]),
            "buckets": tuple(values["buckets"]),
            "network": Network(**values["network"]) if values["network"] else None,
        }
    )


def _serve_for_handle() -> None:
    """Serve the process at the other end of stdin, until it ends."""
    # Unbuffered, so that the loop sees the end of stdin after this line.
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        settings = settings_from(json.loads(stdin.readline()))
    is_orphaned = run(settings, announce=lambda port: _say(json.dumps({"port": port})), stop_at_end_of=0)
    if is_orphaned and settings.is_temporary:
        shutil.rmtree(settings.root, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m osstorchconnector.emulator",
        description="An OSS-shaped server for one machine. Objects live in a folder and outlive the process.",
        epilog="The key pair is read from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN; without "
        "them a secret is made up and printed.",
    )
    parser.add_argument("--root", default="oss-emulator", help="folder of the objects (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=_port, default=9000, help="0 for any free port (default: %(default)s)")
    parser.add_argument("--region", default=DEFAULT_REGION, help="region of the signatures (default: %(default)s)")
    parser.add_argument("--bucket", action="append", default=[], help="bucket to create; may be repeated")
    parser.add_argument("--domain", action="append", default=[], help="name that a bucket stands in front of")
    parser.add_argument(
        "--cname", action="append", default=[], type=_cname, metavar="HOST=BUCKET", help="host that is a bucket"
    )
    parser.add_argument("--certfile", default="", help="serve https with this certificate")
    parser.add_argument("--keyfile", default="", help="the certificate's key, if it is not in the same file")
    parser.add_argument("--discard-bodies", action="store_true", help="check uploads and keep no bytes of them")
    parser.add_argument("--fast-etag", action="store_true", help="make ETags of CRC-64 instead of MD5")
    _add_network_options(parser)
    parser.add_argument("--control", action="store_true", help="allow control requests, print their token")
    parser.add_argument("--settings-from-stdin", action="store_true", help=argparse.SUPPRESS)
    return parser


# Each option of the network, the field of `Network` that it sets, how many of the field's unit one is, and its help.
_NETWORK_OPTIONS = (
    ("--latency-ms", "latency_seconds", 1e-3, "milliseconds from a request to the first byte of its answer"),
    ("--latency-p99-ms", "latency_p99_seconds", 1e-3, "99th percentile; --latency-ms is the median then"),
    ("--connection-mb", "connection_bytes_per_second", 1e6, "MB/s that a connection carries in each direction"),
    ("--total-mb", "total_bytes_per_second", 1e6, "MB/s that all connections carry together"),
    (
        "--round-trip-ms",
        "round_trip_seconds",
        1e-3,
        "ms of a round trip; a new connection takes one or more",
    ),
    ("--requests-per-second", "requests_per_second", 1.0, "refuse more requests than this with 503"),
)


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network", "Answer as from a distance. The other options change the --network.")
    group.add_argument("--network", choices=sorted(PRESETS), help="a network like that of OSS")
    for option, field, _scale, text in _NETWORK_OPTIONS:
        group.add_argument(option, dest=field, type=float, metavar="NUMBER", help=text)


def _network(options: argparse.Namespace) -> Network | None:
    """Return the network that the options describe, if they do."""
    own = {
        field: getattr(options, field) * scale
        for _option, field, scale, _text in _NETWORK_OPTIONS
        if getattr(options, field) is not None
    }
    if not own and options.network is None:
        return None
    return replace(PRESETS[options.network]() if options.network else Network(), **own)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def _cname(text: str) -> tuple[str, str]:
    host, _, bucket = text.partition("=")
    if not host or not bucket:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST=BUCKET")
    return host, bucket


def _settings(options: argparse.Namespace) -> ServerSettings:
    credentials = Credentials(
        access_key_id=os.environ.get("OSS_ACCESS_KEY_ID", DEFAULT_KEY_ID),
        access_key_secret=os.environ.get("OSS_ACCESS_KEY_SECRET", "") or secrets.token_hex(16),
        security_token=os.environ.get("OSS_SESSION_TOKEN", ""),
    )
    return ServerSettings(
        root=Path(options.root),
        host=options.host,
        port=options.port,
        identities=(credentials,),
        policy=Policy(region=options.region, discard_bodies=options.discard_bodies, fast_etag=options.fast_etag),
        domains=tuple(options.domain),
        cnames=dict(options.cname),
        buckets=tuple(options.bucket),
        control_token=secrets.token_hex(16) if options.control else "",
        certfile=options.certfile,
        keyfile=options.keyfile,
        network=_network(options),
    )


def _greeting(settings: ServerSettings, port: int) -> str:
    identity = settings.identities[0]
    is_made_up = not os.environ.get("OSS_ACCESS_KEY_SECRET")
    lines = [
        f"Serving {settings.root.resolve()}",
        f"  endpoint    {endpoint_of(settings.scheme, settings.host, port)}",
        f"  region      {settings.policy.region}",
        f"  key id      {identity.access_key_id}",
        f"  key secret  {identity.access_key_secret if is_made_up else '(from OSS_ACCESS_KEY_SECRET)'}",
    ]
    if is_made_up:
        pair = f"OSS_ACCESS_KEY_ID={identity.access_key_id} OSS_ACCESS_KEY_SECRET={identity.access_key_secret}"
        lines.append(f"  for clients  export {pair}")
    if settings.control_token:
        lines.append(f"  control     {settings.control_token}")
    if settings.network is not None:
        lines.append(f"  network     {settings.network}")
    return "\n".join(lines)


def _say(text: str, file: Any = None) -> None:
    (file or sys.stdout).write(text + "\n")
    (file or sys.stdout).flush()


if __name__ == "__main__":
    sys.exit(main())
