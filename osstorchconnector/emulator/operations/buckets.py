"""Buckets: create, delete, list, describe."""

from __future__ import annotations

from ..documents import document, element, fields, parse_bucket
from ..exchange import Call, Received, Reply, xml_reply
from ..refusals import Refused, invalid_argument
from ..service import Service
from ..storage import Bucket
from .arguments import BUCKET_ACLS, STORAGE_CLASSES, iso_time, whole_number
from .attributes import OWNER

_REDUNDANCIES = ("LRS", "ZRS")
# Storage classes, and how the elements of GetBucketStat for them begin.
_STATISTICS = {
    "Standard": "Standard",
    "IA": "InfrequentAccess",
    "Archive": "Archive",
    "ColdArchive": "ColdArchive",
    "DeepColdArchive": "DeepColdArchive",
}


def put_bucket(service: Service, call: Call, received: Received) -> Reply:
    """Create a bucket; an existing one keeps its objects and gets the new ACL."""
    acl = _acl(call)
    bucket = service.storage.buckets.get(call.bucket)
    if bucket is None:
        chosen, redundancy = _configuration(received.data)
        service.create_bucket(call.bucket, acl=acl, storage_class=chosen, redundancy=redundancy)
    elif "x-oss-acl" in call.headers:
        bucket.update(acl=acl)
    return Reply(200, {"Location": f"/{call.bucket}"})


def put_bucket_acl(service: Service, call: Call, _received: Received) -> Reply:
    """Change a bucket's ACL; create a missing bucket with it, as OSS does."""
    acl = _acl(call)
    if call.bucket in service.storage.buckets:
        service.bucket(call.bucket).update(acl=acl)
    else:
        service.create_bucket(call.bucket, acl=acl)
    return Reply()


def get_bucket_acl(service: Service, call: Call, _received: Received) -> Reply:
    grant = element("AccessControlList", fields({"Grant": service.bucket(call.bucket).acl}))
    return xml_reply(document("AccessControlPolicy", OWNER, grant))


def delete_bucket(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    if bucket.objects or bucket.uploads:
        raise Refused("BucketNotEmpty", extras={"BucketName": call.bucket})
    service.storage.delete_bucket(call.bucket)
    return Reply(204)


def list_buckets(service: Service, call: Call, _received: Received) -> Reply:
    """List buckets by name; the answer has paging elements only if the request has paging parameters."""
    prefix, marker = call.parameter("prefix"), call.parameter("marker")
    limit = whole_number(call, "max-keys", default=100, least=1, most=1000)
    names = [name for name in sorted(service.storage.buckets) if name.startswith(prefix) and name > marker]
    shown, is_truncated = names[:limit], len(names) > limit
    paging: dict[str, object] = {}
    if prefix or marker or call.has_parameter("max-keys"):
        paging = {"Prefix": prefix, "Marker": marker, "MaxKeys": limit, "IsTruncated": str(is_truncated).lower()}
        paging["NextMarker"] = shown[-1] if is_truncated else None
    rows = [element("Bucket", fields(_summary(service, call, service.storage.buckets[name]))) for name in shown]
    return xml_reply(document("ListAllMyBucketsResult", fields(paging), OWNER, element("Buckets", *rows)))


def get_bucket_info(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    described = {
        "AccessMonitor": "Disabled",
        "BlockPublicAccess": "false",
        "Comment": "",
        "CrossRegionReplication": "Disabled",
        **_summary(service, call, bucket),
        "DataRedundancyType": bucket.redundancy,
        "TransferAcceleration": "Disabled",
    }
    acl = element("AccessControlList", fields({"Grant": bucket.acl}))
    encryption = element("ServerSideEncryptionRule", fields({"SSEAlgorithm": "None"}))
    policy = element("BucketPolicy", fields({"LogBucket": "", "LogPrefix": ""}))
    return xml_reply(document("BucketInfo", element("Bucket", fields(described), OWNER, acl, encryption, policy)))


def get_bucket_stat(service: Service, call: Call, _received: Received) -> Reply:
    """Return the statistics of a bucket by storage class; a restored object still counts as archived."""
    bucket = service.bucket(call.bucket)
    records = bucket.objects.values()
    parts = sum(part.size for upload in bucket.uploads.values() for part in upload.parts.values())
    shown: dict[str, object] = {
        "Storage": sum(record.size for record in records),
        "ObjectCount": len(records),
        "MultipartUploadCount": len(bucket.uploads),
        "MultipartPartCount": sum(len(upload.parts) for upload in bucket.uploads.values()),
        "LiveChannelCount": 0,
        "LastModifiedTime": max((record.modified for record in records), default=0),
        "MultipartPartStorage": parts,
        "DeleteMarkerCount": 0,
    }
    for name, element_name in _STATISTICS.items():
        of_class = [record.size for record in records if record.storage_class == name]
        if name != "Standard":
            shown[f"{element_name}RealStorage"] = sum(of_class)
        shown[f"{element_name}Storage"] = sum(of_class)
        shown[f"{element_name}ObjectCount"] = len(of_class)
    return xml_reply(document("BucketStat", fields(shown)))


def get_bucket_location(service: Service, call: Call, _received: Received) -> Reply:
    service.bucket(call.bucket)
    return xml_reply(document("LocationConstraint", f"oss-{service.policy.region}"))


def _summary(service: Service, call: Call, bucket: Bucket) -> dict[str, object]:
    """Return what the list of buckets and the description of one share; the endpoints are the one the client uses."""
    region, endpoint = service.policy.region, service.endpoint_for(call)
    return {
        "Name": bucket.name,
        "CreationDate": iso_time(bucket.created),
        "Location": f"oss-{region}",
        "Region": region,
        "ExtranetEndpoint": endpoint,
        "IntranetEndpoint": endpoint,
        "StorageClass": bucket.storage_class,
        "ResourceGroupId": "rg-emulator",
    }


def _acl(call: Call) -> str:
    acl = call.headers.get("x-oss-acl", "private")
    if acl not in BUCKET_ACLS:
        raise invalid_argument("x-oss-acl", acl, "No such ACL.")
    return acl


def _configuration(body: bytes) -> tuple[str, str]:
    """Return storage class and redundancy of a `CreateBucketConfiguration`."""
    wanted = parse_bucket(body) if body.strip() else {}
    chosen, redundancy = wanted.get("StorageClass", "Standard"), wanted.get("DataRedundancyType", "LRS")
    if chosen not in STORAGE_CLASSES:
        raise invalid_argument("StorageClass", chosen, "No such storage class.")
    if redundancy not in _REDUNDANCIES:
        raise invalid_argument("DataRedundancyType", redundancy, "No such redundancy.")
    return chosen, redundancy


OPERATIONS = {
    "PutBucket": put_bucket,
    "PutBucketAcl": put_bucket_acl,
    "GetBucketAcl": get_bucket_acl,
    "DeleteBucket": delete_bucket,
    "ListBuckets": list_buckets,
    "GetBucketInfo": get_bucket_info,
    "GetBucketLocation": get_bucket_location,
    "GetBucketStat": get_bucket_stat,
}
