"""Buckets: create, delete, list, and what is known of one."""

from __future__ import annotations

from ..documents import document, element, fields
from ..exchange import Call, Reply, xml_reply
from ..intake import Received
from ..refusals import Refused, invalid_argument
from ..service import OWNER_ID, Service
from ..storage import Bucket
from .arguments import STORAGE_CLASSES, iso_time, whole_number

_ACLS = ("private", "public-read", "public-read-write")
_OWNER = element("Owner", fields({"ID": OWNER_ID, "DisplayName": OWNER_ID}))


def put_bucket(service: Service, call: Call, received: Received) -> Reply:
    """Create a bucket; one that is there already keeps its objects and gets the new ACL."""
    acl = _acl(call)
    bucket = service.storage.buckets.get(call.bucket)
    if bucket is None:
        chosen = _storage_class(received.data)
        service.create_bucket(call.bucket, acl=acl, storage_class=chosen)
    elif "x-oss-acl" in call.headers:
        bucket.update(acl=acl)
    return Reply(200, {"Location": f"/{call.bucket}"})


def put_bucket_acl(service: Service, call: Call, _received: Received) -> Reply:
    service.bucket(call.bucket).update(acl=_acl(call))
    return Reply()


def get_bucket_acl(service: Service, call: Call, _received: Received) -> Reply:
    grant = element("AccessControlList", fields({"Grant": service.bucket(call.bucket).acl}))
    return xml_reply(document("AccessControlPolicy", _OWNER, grant))


def delete_bucket(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    if bucket.objects or bucket.uploads:
        raise Refused("BucketNotEmpty", extras={"BucketName": call.bucket})
    service.storage.delete_bucket(call.bucket)
    return Reply(204)


def list_buckets(service: Service, call: Call, _received: Received) -> Reply:
    """List buckets by name; the three paging elements are there only when the client pages."""
    prefix, marker = call.parameter("prefix"), call.parameter("marker")
    limit = whole_number(call, "max-keys", default=100, least=1, most=1000)
    names = [name for name in sorted(service.storage.buckets) if name.startswith(prefix) and name > marker]
    shown, is_truncated = names[:limit], len(names) > limit
    paging: dict[str, object] = {}
    if prefix or marker or call.has_parameter("max-keys"):
        paging = {"Prefix": prefix, "Marker": marker, "MaxKeys": limit, "IsTruncated": str(is_truncated).lower()}
        paging["NextMarker"] = shown[-1] if is_truncated else None
    rows = [element("Bucket", fields(_summary(service, service.storage.buckets[name]))) for name in shown]
    return xml_reply(document("ListAllMyBucketsResult", fields(paging), _OWNER, element("Buckets", *rows)))


def get_bucket_info(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    described = fields(_summary(service, bucket))
    acl = element("AccessControlList", fields({"Grant": bucket.acl}))
    return xml_reply(document("BucketInfo", element("Bucket", described, _OWNER, acl)))


def get_bucket_location(service: Service, call: Call, _received: Received) -> Reply:
    service.bucket(call.bucket)
    return xml_reply(document("LocationConstraint", f"oss-{service.policy.region}"))


def _summary(service: Service, bucket: Bucket) -> dict[str, object]:
    region = service.policy.region
    return {
        "Name": bucket.name,
        "CreationDate": iso_time(bucket.created),
        "Location": f"oss-{region}",
        "Region": region,
        "ExtranetEndpoint": f"oss-{region}.aliyuncs.com",
        "IntranetEndpoint": f"oss-{region}-internal.aliyuncs.com",
        "StorageClass": bucket.storage_class,
        "DataRedundancyType": "LRS",
    }


def _acl(call: Call) -> str:
    acl = call.headers.get("x-oss-acl", "private")
    if acl not in _ACLS:
        raise invalid_argument("x-oss-acl", acl, "No such ACL.")
    return acl


def _storage_class(body: bytes) -> str:
    """Return the storage class that a `CreateBucketConfiguration` asks for."""
    for name in STORAGE_CLASSES:
        if f"<StorageClass>{name}</StorageClass>".encode() in body:
            return name
    return "Standard"


OPERATIONS = {
    "PutBucket": put_bucket,
    "PutBucketAcl": put_bucket_acl,
    "GetBucketAcl": get_bucket_acl,
    "DeleteBucket": delete_bucket,
    "ListBuckets": list_buckets,
    "GetBucketInfo": get_bucket_info,
    "GetBucketLocation": get_bucket_location,
}
