"""What is said about a request that failed: operation, object, OSS's answer, attempts, and what to do.

The page docs/errors.md is made from the tables `ADVICE` and `ON_THE_WAY` here and from the docstrings of `errors` (by
`python docs/make_errors.py`). A test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import OssConnectionError, OssError, OssIntegrityError, OssProtocolError, OssTimeoutError, service_error
from ..protocol.answers import NOT_OSS
from ..protocol.endpoint import endpoint_in
from ..protocol.heads import ResponseHead
from ..protocol.values import Buffer, Request
from ..protocol.xml import parse_error
from ..redaction import Secret, printable, shortened, without

PAGE = "docs/errors.md"
# An error has at most this many letters. If there is more to tell, the server's words are cut, then the object's name.
MAX_LETTERS = 400
_LEAST_PLACE, _USUAL_PLACE, _LEAST_MESSAGE, _MOST_AFTER = 50, 150, 20, 220
_WRONG_REGION_EC = "0002-00000226"
_VERSION_1_EC = "0002-00000080"
_is_host = re.compile(r"[A-Za-z0-9.-]{1,80}").fullmatch
_MAX_CODE, _MAX_REQUEST_ID, _MAX_EC, _MAX_CAME = 40, 40, 20, 300


class Advice(NamedTuple):
    """What to do, in a few words for the error's text, and what the page says about the causes."""

    todo: str
    causes: str


ADVICE: Mapping[str, Advice] = {
    "AccessDenied": Advice(
        "check the permissions of these credentials, and that the endpoint is the bucket's",
        "The signature is right, but these credentials may not do this here. Look at the RAM policy of the user or "
        "role, at the bucket's policy and ACL, and whether the bucket allows only some networks. Each operation needs "
        "its own permission: oss:ListObjects on the bucket for datasets of a prefix, oss:GetObject on the objects, "
        "oss:PutObject and oss:AbortMultipartUpload for checkpoints. The EC in the text is OSS's number of the exact "
        "rule. Anonymous access reads public buckets only.",
    ),
    "AccessKeyIdAndSecurityTokenNotMatch": Advice(
        "use an access key and a security token that were issued together",
        "A security token is valid with the temporary key it came with. Often OSS_SESSION_TOKEN is left from an older "
        "session while the key is new.",
    ),
    "BadRequest": Advice(
        "look for a proxy on the way that changes requests",
        "OSS did not understand the request.",
    ),
    "BucketAlreadyExists": Advice(
        "choose another name",
        "Names of buckets are unique among all users of OSS.",
    ),
    "BucketNotEmpty": Advice(
        "delete its objects and unfinished uploads first",
        "Only an empty bucket can be deleted.",
    ),
    "CallbackFailed": Advice(
        "check the callback's server",
        "The object was stored, but the callback failed.",
    ),
    "EntityTooLarge": Advice(
        "write it in parts: use a writer instead of put",
        "One PUT takes at most 5 GB.",
    ),
    "EntityTooSmall": Advice(
        "set partSize to 100 KiB or more",
        "Parts, except the last, have at least 100 KB.",
    ),
    "FileAlreadyExists": Advice(
        "choose another key, or allow overwriting",
        "The request asked not to overwrite, and there is an object of this name. With `overwrite=False` that is what "
        "you asked for.",
    ),
    "FileImmutable": Advice(
        "wait until the retention period is over, or write to another key",
        "The bucket has a retention policy (WORM), which forbids changing or deleting this object.",
    ),
    "InternalError": Advice(
        "try again later; OSS's support asks for the request id",
        "OSS has a problem. The request was repeated until the retries were used up.",
    ),
    "InvalidAccessKeyId": Advice(
        "check the access key id in the credential file or provider",
        "OSS does not know the key, or it is disabled or deleted. Temporary keys begin with STS. and need their "
        "security token. README's section Credentials says which source is taken.",
    ),
    "InvalidArgument": Advice(
        "see what OSS says about it",
        "An argument of the request is wrong. The message names it.",
    ),
    "InvalidBucketName": Advice(
        "check the bucket's name in the URI",
        "A bucket's name has 3 to 63 lower-case letters, digits and hyphens, and no hyphen first or last.",
    ),
    "InvalidDigest": Advice(
        "look for broken memory, or a proxy that changes bodies",
        "What arrived is not what was sent. It was sent twice.",
    ),
    "InvalidObjectName": Advice(
        "check the key in the URI",
        "A key has 1 to 1,023 bytes in UTF-8 and does not begin with `/` or `\\`.",
    ),
    "InvalidObjectState": Advice(
        "the object is archived: restore it first",
        "Objects of the classes Archive, ColdArchive and DeepColdArchive can be read after RestoreObject is done, or "
        "by real-time access of archives if the bucket has it.",
    ),
    "InvalidPart": Advice(
        "write the object again",
        "A part of the upload is gone. Somebody may have aborted the upload, for example a lifecycle rule.",
    ),
    "InvalidRange": Advice(
        "open the object again",
        "The object has become shorter since it was opened.",
    ),
    "InvalidSecurityToken": Advice(
        "check the security token: it must belong to the access key",
        "The token is malformed, cut off, or of another account.",
    ),
    "NoSuchBucket": Advice(
        "check the bucket's name, and that the endpoint is the one of its region",
        "No bucket has this name at this endpoint. A bucket can be reached at the endpoints of its own region only.",
    ),
    "NoSuchKey": Advice(
        "check the key, upper and lower case included",
        "There is no object of this name. Keys are compared byte by byte: no leading `/`, no folders. An object that "
        "a manifest names may have been deleted since.",
    ),
    "NoSuchUpload": Advice(
        "the multipart upload was completed, aborted or cleaned up",
        "Another process has completed or aborted the upload, or a lifecycle rule removed it.",
    ),
    "NotImplemented": Advice(
        "use an endpoint of OSS itself",
        "The server (the emulator, or another storage) has not got this operation.",
    ),
    "ObjectNotAppendable": Advice(
        "append to an object that was made by appending",
        "An object that was put or uploaded in parts can't be appended to.",
    ),
    "OperationNotSupported": Advice(
        "see what OSS says about it",
        "The bucket or the object is of a kind that does not have this operation.",
    ),
    "PositionNotEqualToLength": Advice(
        "let only one process append to an object",
        "Somebody else has appended to the object in the meantime.",
    ),
    "PreconditionFailed": Advice(
        "read or write it again from the beginning",
        "The object is no longer the one that was seen first: it was replaced in the meantime.",
    ),
    "QpsLimitExceeded": Advice(
        "lower the number of workers, or ask OSS for a higher limit",
        "The bucket or account has reached its limit of requests. The library had slowed down, and the retries were "
        "used up.",
    ),
    "RequestTimeTooSkewed": Advice(
        "set this machine's clock",
        "The clock of this machine differs from OSS's by more than 15 minutes. The request was sent again with OSS's "
        "time, which OSS refused, too. Use NTP.",
    ),
    "RequestTimeout": Advice(
        "check the network",
        "OSS got no bytes for too long while the request was sent.",
    ),
    "RestoreAlreadyInProgress": Advice(
        "wait until it is restored",
        "The object is being restored from an archive.",
    ),
    "SecurityTokenExpired": Advice(
        "renew the temporary credentials: the source was read again and still gave expired ones",
        "The source of the credentials has not renewed them. A `cred_path` file must be rewritten before they expire; "
        "environment variables can't be renewed in a process that runs: use a file, a profile or a role.",
    ),
    "ServiceUnavailable": Advice(
        "lower the number of workers, or ask OSS for a higher limit",
        "OSS asked for fewer requests until the retries were used up.",
    ),
    "SignatureDoesNotMatch": Advice(
        "check the access key secret, and region=",
        "The secret does not belong to the key, or the request was signed for another region, or a proxy changed it. "
        "A secret that was copied with a blank or a line end is a common cause.",
    ),
    "SymlinkTargetNotExist": Advice(
        "check the target of the link",
        "The object is a link to an object that is not there.",
    ),
    "TooManyBuckets": Advice(
        "delete buckets, or ask OSS for a higher limit",
        "An account has at most 100 buckets.",
    ),
    "UserDisable": Advice(
        "look at the account: it may be in arrears",
        "The account is disabled, usually since a bill is unpaid.",
    ),
}


# What fails before or beside OSS's answer, by the headings of the page.
ON_THE_WAY: Mapping[str, Advice] = {
    "BrokenConnection": Advice(
        "check the network and the proxy",
        "The connection ended before the answer was complete. Once is nothing, and is repeated. If it happens all the "
        "time, something on the way cuts connections: a proxy, a NAT with few ports, a firewall.",
    ),
    "NoAnswer": Advice(
        "check the network, or raise readTimeout",
        "A connection was there, but hardly a byte came within `readTimeout`, or all within `operationTimeout` was not "
        "enough. `osstorch doctor` measures what the way to the bucket gives.",
    ),
    "NoConnection": Advice(
        "check the network, the proxy and the firewall",
        "Nobody answered at the address, or it refused the connection. An `-internal` endpoint is reached from its own "
        "region's network only. If nothing has ever answered there, an operation gives up within 3 s, since the "
        "endpoint is probably wrong. Where the network of a container begins late, set `maxAttempts`: then that many "
        "attempts are made from the first request on, within `operationTimeout`.",
    ),
    "NoTls": Advice(
        "write http:// in endpoint= if plain http is meant",
        "The server answers, but not with TLS. Often the port is that of plain http.",
    ),
    "NotFromOss": Advice(
        "look for a proxy or another server behind the endpoint's name",
        "The answer is not HTTP/1.1, or has no request id of OSS: a proxy's login page, another server behind the "
        "name, a load balancer. The text shows what came.",
    ),
    "SignatureVersion1": Advice(
        "OSS takes no signatures of version 1 here: pass region='cn-...', the bucket's, for version 4",
        "Without a region requests are signed with version 1, which some buckets and accounts do not allow any more.",
    ),
    "UnknownHost": Advice(
        "check endpoint= and the bucket's name, then this machine's DNS",
        "The resolver says that there is no such name. An endpoint is https://oss-<region>.aliyuncs.com, with "
        "`-internal` behind the region inside of Alibaba Cloud. The bucket's name is put before it.",
    ),
    "UntrustedCertificate": Advice(
        "if an authority of your own signed it, name its file with the config key caFile",
        "The server's certificate is not signed by an authority that this machine knows, has expired, or is for "
        "another name. A proxy that reads https shows its own: ask for its authority's certificate. A wrong clock has "
        "the same effect.",
    ),
    "WrongBytes": Advice(
        "if it happens again, look for broken memory or a proxy that changes bodies",
        "The CRC-64 of what arrived is not the object's. It was transferred again before this was raised.",
    ),
    "WrongEndpoint": Advice(
        "pass the endpoint of the bucket's region",
        "A bucket is reached at the endpoints of its own region only. OSS has said which one that is.",
    ),
    "WrongProxy": Advice(
        "set https_proxy to http://host:port, or no_proxy to the endpoint's host",
        "The environment variable http_proxy or https_proxy can't be used as it is.",
    ),
    "WrongRegion": Advice(
        "pass region= as in the endpoint's name",
        "Signatures of version 4 are for one region, and OSS takes only those for its own.",
    ),
}
_KINDS: Mapping[str, tuple[type[OssError], str]] = {
    "setup": (OssConnectionError, ""),
    "connect": (OssConnectionError, "NoConnection"),
    "connect_timeout": (OssTimeoutError, "NoConnection"),
    "reset": (OssConnectionError, "BrokenConnection"),
    "timeout": (OssTimeoutError, "NoAnswer"),
    "protocol": (OssProtocolError, "NotFromOss"),
    "integrity": (OssIntegrityError, "WrongBytes"),
}


class Story(NamedTuple):
    """What is told of a request that failed: tried on what, what came of it, and what to do."""

    operation: str
    place: str
    came: str
    facts: str
    todo: str
    message: str = ""
    status: int = 0
    code: str = ""
    request_id: str = ""
    kind: type[OssError] | None = None

    def text(self, reason: str = "") -> str:
        """Return all of it in `MAX_LETTERS`; `reason` says why it is given up."""
        after = "; ".join(filter(None, (self.facts, reason, self.todo)))
        if reason and len(after) > _MOST_AFTER:
            after = f"{self.facts}; {reason}; see {self.todo.rpartition(' (')[2].rstrip(')')}"
        room = MAX_LETTERS - len(f"{self.operation} :  {after}")
        came = printable(self.came, room - _LEAST_PLACE)
        room -= len(came)
        words = room - min(len(self.place), _USUAL_PLACE) - len(" ()")
        message = f" ({printable(self.message, words)})" if self.message and words >= _LEAST_MESSAGE else ""
        return f"{self.operation} {shortened(self.place, room - len(message))}: {came}{message} {after}"

    def error(self, reason: str = "") -> OssError:
        """Return the error to raise."""
        if self.kind is not None:
            return self.kind(self.text(reason))
        return service_error(self.text(reason), status=self.status, code=self.code, request_id=self.request_id)

    def __str__(self) -> str:
        return self.text()


def subject(request: Request) -> tuple[str, str]:
    """Return the operation, and the object or prefix: `GetObject` and `oss://bucket/key`."""
    name = request.key or dict(request.query).get("prefix") or ""
    return request.operation, f"oss://{request.bucket}/{name}" if request.bucket else "the service"


def named(request: Request) -> str:
    """Return operation and object in one phrase."""
    operation, place = subject(request)
    return f"{operation} {shortened(place, MAX_LETTERS // 2)}"


def circumstances(attempts: int, request_id: str, ec: str = "") -> str:
    """Return what OSS's support asks for first: `[request id 5C3D9175B6FC201293AD4890, EC 0003-00000001, 3 attempts]`.

    `ec` is OSS's number of the exact cause, which its documents are searched by.
    """
    facts = [f"request id {printable(request_id, _MAX_REQUEST_ID)}"] if request_id else []
    facts += [f"EC {printable(ec, _MAX_EC)}"] if ec else []
    return f"[{', '.join([*facts, '1 attempt' if attempts == 1 else f'{attempts} attempts'])}]"


def story_of_refusal(
    request: Request,
    sent_headers: Iterable[tuple[str, str]],
    head: ResponseHead,
    body: Buffer,
    attempts: int,
    region: str,
) -> Story:
    """Return what to tell of an answer that refuses a request which was sent with these headers."""
    fault = parse_error(body, head)
    # A proxy's error page may echo what it was sent.
    sent = [value for _, value in sent_headers if isinstance(value, Secret)]
    sent += [Secret(value.rpartition("Signature=")[2].rpartition(":")[2]) for value in sent]  # of version 4, and of 1
    code = printable(without(fault.code, sent), _MAX_CODE)
    message, ec = without(fault.message, sent), without(fault.ec, sent)
    request_id = printable(without(fault.request_id or head.get("x-oss-request-id"), sent), _MAX_REQUEST_ID)
    endpoint = fault.endpoint or endpoint_in(head.get("location"), request.bucket)
    return Story(
        *subject(request),
        f"{'OSS' if request_id else NOT_OSS} answered {head.status}{f' {code}' if code else ''}",
        circumstances(attempts, request_id, ec),
        advice(code, message, ec, endpoint, region),
        message=message,
        status=head.status,
        code=code,
        request_id=request_id,
    )


def story_of_failure(
    request: Request, kind: str, text: str, attempts: int, request_id: str = "", heading: str = ""
) -> Story:
    """Return what to tell of a request that got no answer, or none that can be believed; `retry.Kind` has the kinds.

    `heading` is one of `ON_THE_WAY`, if more is known than the kind.
    """
    error, usual = _KINDS[kind]
    facts = circumstances(attempts, request_id)
    return Story(*subject(request), printable(text, _MAX_CAME), facts, see(heading or usual), kind=error)


def advice(code: str, message: str, ec: str, endpoint: str, region: str) -> str:
    """Return what to do about OSS's answer, with where the page says more, or "" if nothing is known.

    `endpoint` is the one that OSS names as the bucket's, `region` the one that the request was signed for.
    """
    if _is_host(endpoint):
        todo = f"the bucket is reached elsewhere: pass endpoint='https://{endpoint}' (or its internal one)"
        return see("WrongEndpoint", todo)
    if ec == _WRONG_REGION_EC or "signing region" in message:
        todo = f"check region=: the request was signed for {region or 'none'}, which is not the endpoint's"
        return see("WrongRegion", todo)
    return see("SignatureVersion1" if ec == _VERSION_1_EC else code)


def see(heading: str, todo: str = "") -> str:
    """Return what to do, and where the page says more; "" if nothing is known under this heading."""
    known = ADVICE.get(heading) or ON_THE_WAY.get(heading)
    return f"{todo or known.todo} ({PAGE}#{heading.lower()})" if known else ""


def retried(story: object, *, next_attempt: int, delay_seconds: float, left_seconds: float, untold: int) -> str:
    """Return the log's line about a request that failed and is sent again."""
    line = f"{story}; sent again in {delay_seconds:.2g} s as attempt {next_attempt}, for {left_seconds:.0f} s at most"
    return f"{line} ({untold} more retries there since the last such line)" if untold else line
