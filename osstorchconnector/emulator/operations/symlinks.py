"""Symlinks: objects without bytes that stand for another object of their bucket."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from urllib.parse import quote

from ..exchange import Call, Reply
from ..intake import Received
from ..records import SYMLINK, ObjectRecord
from ..refusals import Refused
from ..routing import check_names, decode_path
from ..service import Service
from .arguments import http_time, missing, object_headers, storage_class
from .attributes import traits
from .objects import check_overwrite

_TARGET = "x-oss-symlink-target"


def put_symlink(service: Service, call: Call, _received: Received) -> Reply:
    """Make the key stand for another; whether there is an object of that key shows when it is read."""
    bucket = service.bucket(call.bucket)
    if not call.headers.get(_TARGET):
        raise missing(_TARGET)
    target = decode_path(call.headers[_TARGET])
    check_names(Call("", "", call.bucket, target))
    check_overwrite(service, call)
    record = ObjectRecord(
        call.key,
        (),
        0,
        hashlib.md5(target.encode(), usedforsecurity=False).hexdigest().upper(),
        None,
        int(service.now()),
        SYMLINK,
        storage_class(call.headers, bucket.storage_class),
        object_headers(call.headers),
        replace(traits(call.headers), target=target),
    )
    bucket.put(record)
    return Reply(200, {"ETag": f'"{record.etag}"'})


def get_symlink(service: Service, call: Call, _received: Received) -> Reply:
    record = service.record(call)
    if record.kind != SYMLINK:
        raise Refused("NotSymlink", extras={"BucketName": call.bucket, "Key": call.key})
    headers = {
        "ETag": f'"{record.etag}"',
        "Last-Modified": http_time(record.modified),
        _TARGET: quote(record.traits.target, safe="/-_.~"),
        **{name: value for name, value in record.headers.items() if name.startswith("x-oss-meta-")},
    }
    return Reply(200, headers)


OPERATIONS = {"PutSymlink": put_symlink, "GetSymlink": get_symlink}
