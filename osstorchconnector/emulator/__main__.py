"""`python -m osstorchconnector.emulator`: serve a folder from the command line."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..credentials import Credentials
from .handle import DEFAULT_KEY_ID, DEFAULT_REGION
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
    parser.add_argument("--control", action="store_true", help="allow control requests, print their token")
    parser.add_argument("--settings-from-stdin", action="store_true", help=argparse.SUPPRESS)
    return parser


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
    return "\n".join(lines)


def _say(text: str, file: Any = None) -> None:
    (file or sys.stdout).write(text + "\n")
    (file or sys.stdout).flush()


if __name__ == "__main__":
    sys.exit(main())
