"""How this server differs from OSS: a table for docs/emulator.md, checked by tests."""

from __future__ import annotations

import sys
from typing import NamedTuple

from .interface import BUCKET, MISSING, OBJECT, ROUTES, SERVICE


class Difference(NamedTuple):
    """One behaviour that is not that of OSS."""

    matter: str
    here: str


DIFFERENCES = (
    Difference(
        "query parameters",
        "An operation answers 501 to a parameter that it does not know, and does nothing. Only GetObject and "
        "HeadObject ignore custom ones, such as `?v=3`",
    ),
    Difference(
        "headers",
        "An unknown `x-oss-` header gets 501, even where OSS would ignore it. Conditions on writes (`If-Match` and the "
        "like) get 400 NotImplemented, as at OSS",
    ),
    Difference(
        "encryption",
        "`x-oss-server-side-encryption` and its key id are kept and sent back. Nothing is encrypted",
    ),
    Difference(
        "storage classes",
        "Any class can be written. Restoring an archived object takes a minute by the server's clock, whatever its "
        "class: `oss.set_policy(restore_seconds=0)` and `oss.set_clock(60)` shorten it. There are no fees",
    ),
    Difference(
        "access", "There is one account. ACLs of buckets and objects say what others may do; there are no policies"
    ),
    Difference(
        "endpoints",
        "GetBucketInfo and ListBuckets name the address that the client used, never the live service, and put "
        "`http://` before it, since SDKs would take https for granted",
    ),
    Difference(
        "throttling",
        "It happens only on demand, by faults or a `Network`. A request keeps to its own `x-oss-traffic-limit`",
    ),
    Difference(
        "ranges",
        "Several parts in one `Range` are ignored. With `x-oss-range-behavior: standard` a suffix longer than the "
        "object is the whole object",
    ),
    Difference("discarded bodies", "What was uploaded under `discard_bodies` can't be read: 403 InvalidObjectState"),
    Difference("compression", "No answer is compressed, whatever `Accept-Encoding` says"),
    Difference("sizes of copies", "CopyObject takes sources of up to 5 GB; parts are copied from any"),
    Difference("ETags under `fast_etag`", "They are made of CRC-64 and size, not of MD5"),
)


def render() -> str:
    """Return the part of docs/emulator.md between its two marks."""
    lines = ["It has these operations:", ""]
    for place in (SERVICE, BUCKET, OBJECT):
        names = sorted(_operations_of(place))
        lines.append(
            f"- of the {place}: {', '.join(names)}" if place == SERVICE else f"- of {place}s: {', '.join(names)}"
        )
    lines += [
        "",
        "It lacks what these parameters ask for, and answers 501 NotImplemented with the parameter's name:",
        "",
    ]
    lines += ["| what | parameters |", "|---|---|"]
    lines += [f"| {what} | {' '.join(f'`{name}`' for name in names.split())} |" for what, names in MISSING.items()]
    lines += ["", "Where it differs from OSS in what it has:", "", "| matter | here |", "|---|---|"]
    lines += [f"| {matter} | {here} |" for matter, here in DIFFERENCES]
    return "\n".join(lines) + "\n"


def _operations_of(place: str) -> set[str]:
    found = {route.operation for (_, where), routes in ROUTES.items() for route in routes if where == place}
    more = {BUCKET: {"ListObjectsV2"}, OBJECT: {"CopyObject", "UploadPartCopy"}}
    return found | more.get(place, set())


if __name__ == "__main__":
    sys.stdout.write(render())
