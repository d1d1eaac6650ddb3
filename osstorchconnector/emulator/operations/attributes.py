"""An object's own ACL and its tags. Changing them does not make a new object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..documents import document, element, fields, parse_tagging
from ..exchange import Call, Received, Reply, xml_reply
from ..records import DEFAULT_ACL, NO_TRAITS, Traits
from ..refusals import Refused, invalid_argument
from ..routing import decode_query
from ..service import OWNER_ID, Service
from .arguments import BUCKET_ACLS

OBJECT_ACLS = (DEFAULT_ACL, *BUCKET_ACLS)
MAX_TAGS = 10
OWNER = element("Owner", fields({"ID": OWNER_ID, "DisplayName": OWNER_ID}))
_TAG_TEXT = re.compile(r"[\w +\-=.:/]*").fullmatch


def traits(headers: Mapping[str, str]) -> Traits:
    """Return the ACL and the tags that a write gives its object."""
    if "x-oss-object-acl" not in headers and "x-oss-tagging" not in headers:
        return NO_TRAITS
    acl = object_acl(headers) if "x-oss-object-acl" in headers else DEFAULT_ACL
    return Traits(acl=acl, tags=tags_of_header(headers.get("x-oss-tagging", "")))


def object_acl(headers: Mapping[str, str]) -> str:
    acl = headers.get("x-oss-object-acl", "")
    if acl not in OBJECT_ACLS:
        message = "No such object access control exists."
        raise invalid_argument("x-oss-object-acl", acl, message, ec="0017-00000104" if acl else "0017-00000105")
    return acl


def tags_of_header(text: str) -> dict[str, str]:
    """Return the tags of `x-oss-tagging: name=value&other`, each percent-encoded."""
    items = [item for item in text.split("&") if item]
    if any(item.count("=") > 1 for item in items):
        raise _wrong_tag("not key or key=value", "0010-00000219")
    return checked_tags(decode_query(text))


def checked_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return tags by key; refuse too many tags, repeated keys, and texts that OSS does not allow."""
    tags = dict(pairs)
    if len(pairs) > MAX_TAGS:
        raise _wrong_tag(f"{len(pairs)} tags, {MAX_TAGS} are allowed", "0010-00000218")
    if len(tags) < len(pairs):
        raise _wrong_tag("a key comes twice", "0010-00000218")
    for key, value in pairs:
        if not (1 <= len(key) <= 128 and len(value) <= 256 and _TAG_TEXT(key) and _TAG_TEXT(value)):
            raise _wrong_tag("a key or value that is too long or has characters that are not allowed", "0010-00000217")
    return tags


def _wrong_tag(what: str, ec: str) -> Refused:
    return Refused("InvalidTag", f"The object's tags are not valid: {what}.", ec=ec)


def put_acl(service: Service, call: Call, _received: Received) -> Reply:
    _change(service, call, acl=object_acl(call.headers))
    return Reply()


def get_acl(service: Service, call: Call, _received: Received) -> Reply:
    grant = element("AccessControlList", fields({"Grant": service.record(call).traits.acl}))
    return xml_reply(document("AccessControlPolicy", OWNER, grant))


def put_tagging(service: Service, call: Call, received: Received) -> Reply:
    """Replace the tags of an object."""
    _change(service, call, tags=checked_tags(parse_tagging(received.data)))
    return Reply()


def get_tagging(service: Service, call: Call, _received: Received) -> Reply:
    tags = service.record(call).traits.tags
    rows = [element("Tag", fields({"Key": key, "Value": value})) for key, value in tags.items()]
    return xml_reply(document("Tagging", element("TagSet", *rows)))


def delete_tagging(service: Service, call: Call, _received: Received) -> Reply:
    _change(service, call, tags={})
    return Reply(204)


def _change(service: Service, call: Call, **changes: object) -> None:
    record = service.record(call)
    service.bucket(call.bucket).put(replace(record, traits=replace(record.traits, **changes)))  # type: ignore[arg-type]


OPERATIONS = {
    "PutObjectACL": put_acl,
    "GetObjectACL": get_acl,
    "PutObjectTagging": put_tagging,
    "GetObjectTagging": get_tagging,
    "DeleteObjectTagging": delete_tagging,
}
