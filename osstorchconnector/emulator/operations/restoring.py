"""Archived objects: a request restores a copy, which can be read for some days.

The server's policy says how long a restore takes, by the server's own clock: a test sets that clock and need not wait.
"""

from __future__ import annotations

from dataclasses import replace

from ..documents import parse_restore
from ..exchange import Call, Received, Reply
from ..records import ObjectRecord
from ..refusals import Refused, invalid_argument
from ..service import Service
from .arguments import http_time

COLD = ("Archive", "ColdArchive", "DeepColdArchive")
_DAY_SECONDS = 24 * 60 * 60
_TIERS = ("Standard", "Expedited", "Bulk")
_MOST_DAYS = {"Archive": 7, "ColdArchive": 365, "DeepColdArchive": 365}


def restore(service: Service, call: Call, received: Received) -> Reply:
    """Begin to restore an object (202), or keep a restored copy for longer (200)."""
    record = service.record(call)
    if record.storage_class not in COLD:
        raise Refused("OperationNotSupported", extras={"BucketName": call.bucket, "Key": call.key})
    days, tier = parse_restore(received.data) if received.data else (1, "")
    if not 1 <= days <= _MOST_DAYS[record.storage_class]:
        raise Refused("MalformedXML", f"Days must be 1 to {_MOST_DAYS[record.storage_class]}.")
    if tier and record.storage_class == "Archive":
        raise Refused("MalformedXML", "An object of class Archive is restored without a tier.")
    if tier and tier not in _TIERS:
        raise invalid_argument("Tier", tier, f"Tier must be one of {', '.join(_TIERS)}.")
    now, traits = service.now(), record.traits
    is_readable = traits.readable_at <= now < traits.readable_until
    if now < traits.readable_at:
        raise Refused("RestoreAlreadyInProgress", extras={"BucketName": call.bucket, "Key": call.key})
    begin = traits.readable_at if is_readable else int(now + service.policy.restore_seconds)
    until = int(now if is_readable else begin) + days * _DAY_SECONDS
    restored = replace(traits, readable_at=begin, readable_until=until)
    service.bucket(call.bucket).put(replace(record, traits=restored))
    headers = {} if record.storage_class == "Archive" else {"x-oss-object-restore-priority": tier or "Standard"}
    return Reply(200 if is_readable else 202, headers)


def restore_status(record: ObjectRecord, now: float) -> str:
    """Return the value of `x-oss-restore`, or "" for an object without a restored copy."""
    traits = record.traits
    if now < traits.readable_at:
        return 'ongoing-request="true"'
    if now < traits.readable_until:
        return f'ongoing-request="false", expiry-date="{http_time(traits.readable_until)}"'
    return ""


def check_readable(service: Service, record: ObjectRecord) -> None:
    """Refuse an object whose bytes can't be read: archived, or discarded after the check."""
    if record.storage_class in COLD:
        traits = record.traits
        if not traits.readable_at <= service.now() < traits.readable_until:
            raise Refused("InvalidObjectState")
    if record.is_discarded:
        raise Refused("InvalidObjectState", "This server was told to check uploads and to discard their bytes.")


OPERATIONS = {"RestoreObject": restore}
