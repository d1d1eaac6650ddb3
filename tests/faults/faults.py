"""What clouds do: each fault, where it can strike, and how an operation must end that meets it.

"once" is a fault that has gone when the request is sent again: the operation must end right. "always" is one that
stays: the operation must end, in time, in the error that `always` names; `HARMLESS` where it ends right all the same,
`UNDETECTABLE` where no client of OSS could tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from osstorchconnector.errors import (
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssObjectChangedError,
    OssPermissionError,
    OssProtocolError,
    OssServiceError,
    OssThrottledError,
    OssTimeoutError,
)

HARMLESS, UNDETECTABLE = "harmless", "undetectable"
Ending = type[OssError] | str

GETS = ("GetObject",)
LISTS = ("ListObjectsV2",)
DOCUMENTS = (*LISTS, "InitiateMultipartUpload", "CompleteMultipartUpload", "CopyObject", "ListParts")
BODIES = (*GETS, *DOCUMENTS)
UPLOADS = ("PutObject", "UploadPart")
NOT_DELETES = (*BODIES, *UPLOADS, "HeadObject", "DeleteMultipleObjects")
ALL = (*NOT_DELETES, "DeleteObject", "AbortMultipartUpload")


@dataclass(frozen=True)
class Fault:
    """`path` names the code that meets it: of faults with one path, only the first is shown to every user."""

    name: str
    path: str
    always: Ending
    operations: tuple[str, ...] = ALL
    effect: str = ""  # the emulator's name for it, if another
    options: Mapping[str, object] = field(default_factory=dict)
    exceptions: Mapping[str, Ending] = field(default_factory=dict)  # by operation, by user, or both
    once: Mapping[str, Ending] = field(default_factory=dict)  # by user: too late to fetch again what was handed out
    is_final: bool = False  # not sent again: once is as bad as always

    def ending(self, operation: str, user: str) -> Ending:
        for who in (f"{operation} of {user}", user, operation):
            if who in self.exceptions:
                return self.exceptions[who]
        return self.always


# What the server did and never said: found out for a completed upload, and without effect when done again elsewhere.
DONE = {"CompleteMultipartUpload": HARMLESS}
# `.metadata` that is there already is looked at: it may be the one that was sent, whatever was said of it.
LOOKED_AT = {**DONE, "PutObject of DCP save": HARMLESS}
# What a reader has handed out it can't fetch again: it finds out at the end.
TOO_LATE = {"reader": OssIntegrityError}

FAULTS = [
    Fault("500", "passing refusal", OssServiceError),
    Fault("503 SlowDown", "throttled", OssThrottledError, effect="slow_down"),
    Fault("429", "throttled", OssThrottledError),
    Fault("400 RequestTimeout", "passing refusal", OssServiceError, effect="400"),
    Fault("502 from a proxy", "passing refusal of a proxy", OssServiceError, effect="html"),
    Fault("403 expired token", "expired token", OssPermissionError, effect="expired_token"),
    Fault("reset before the head", "broken before the head", OssConnectionError, effect="reset"),
    Fault("closed before the head", "broken before the head", OssConnectionError, effect="close"),
    Fault("answer lost", "answer lost", OssConnectionError, effect="lost_answer", exceptions=DONE),
    Fault("no answer", "no answer", OssTimeoutError, effect="stall_head", exceptions=DONE),
    Fault("reset in the body", "broken body", OssConnectionError, BODIES, "reset_body", exceptions=DONE),
    Fault("truncated body", "broken body", OssConnectionError, BODIES, "truncate", exceptions=DONE),
    Fault("stalled body", "stalled body", OssTimeoutError, BODIES, "stall", exceptions=DONE),
    Fault("slow drip", "slow drip", OssTimeoutError, BODIES, "drip", {"piece_bytes": 1, "seconds": 0.1}, DONE),
    Fault(
        "flipped byte",
        "wrong bytes",
        OssIntegrityError,
        GETS,
        "flip",
        exceptions={"range": UNDETECTABLE, "fs ranges": UNDETECTABLE},
        once=TOO_LATE,
    ),
    Fault(
        "wrong CRC header",
        "wrong CRC",
        OssIntegrityError,
        (*GETS, *UPLOADS, "CompleteMultipartUpload"),
        "wrong_crc",
        exceptions={"range": HARMLESS, "fs ranges": HARMLESS, **LOOKED_AT},
        once=TOO_LATE,
    ),
    Fault("garbage for a head", "no HTTP", OssConnectionError, effect="garbage", exceptions=DONE),
    Fault("endless head", "no HTTP", OssConnectionError, effect="endless_head", exceptions=DONE),
    Fault("too long a length", "lying length", OssConnectionError, BODIES, "lying_length", exceptions=DONE),
    Fault(
        "too short a length",
        "lying length",
        OssProtocolError,
        GETS,
        "lying_length",
        {"delta": -7},
        {"get": OssIntegrityError, "reader": OssIntegrityError},
    ),
    Fault(
        "200 for 206",
        "range ignored",
        OssProtocolError,
        GETS,
        "ignore_range",
        exceptions={"get": HARMLESS, "DCP load": HARMLESS},
    ),
    Fault("page twice", "listing out of order", OssProtocolError, LISTS, "duplicate_page", {"after": 1}),
    Fault("token twice", "listing out of order", OssProtocolError, LISTS, "repeat_token", {"after": 1}),
    Fault("foreign keys", "listing out of its prefix", OssProtocolError, LISTS, "foreign_keys"),
    Fault("malformed XML", "malformed XML", OssProtocolError, DOCUMENTS, "malformed_xml", exceptions=DONE),
    Fault("login page", "not OSS", OssProtocolError, effect="html", options={"status": 200}),
    Fault("404 from a proxy", "not OSS's refusal", OssProtocolError, effect="html", options={"status": 404}),
    Fault("202 for its status", "wrong status", OssProtocolError, ALL, "status", {"status": 202}, DONE),
    Fault("203 for its status", "wrong status", OssProtocolError, ALL, "status", {"status": 203}, DONE),
    Fault("204 for its status", "wrong status", OssProtocolError, NOT_DELETES, "status", {"status": 204}, DONE),
    Fault(
        "answer without CRC",
        "no CRC",
        OssProtocolError,
        (*UPLOADS, "CompleteMultipartUpload"),
        "headers",
        {"headers": {"x-oss-hash-crc64ecma": None}},
        LOOKED_AT,
    ),
    Fault("replaced midway", "replaced midway", OssObjectChangedError, GETS, "replace"),
    Fault("deleted midway", "deleted midway", OssServiceError, GETS, "delete"),
    Fault("upload reset", "upload broken", OssConnectionError, UPLOADS, "reset_upload"),
    Fault("upload stalled", "upload broken", OssTimeoutError, UPLOADS, "stall_upload"),
    Fault(
        "redirect elsewhere",
        "redirect",
        OssServiceError,
        effect="redirect",
        options={"location": "http://a.invalid/"},
        is_final=True,
    ),
    Fault("403 AccessDenied", "final refusal", OssPermissionError, effect="403", is_final=True),
]
BY_NAME = {fault.name: fault for fault in FAULTS}
