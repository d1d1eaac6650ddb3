"""The wire format of Alibaba Cloud's STS: the two requests that assume a role, and their answers. No I/O.

Sources: "AssumeRole" and "AssumeRoleWithOIDC" of the STS API 2015-04-01, and the signature of RPC APIs (HMAC-SHA1).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from ..errors import OssCredentialsError
from ..redaction import MAX_NAME_LETTERS, Secret, SecretBytes, keeper, printable
from .values import DOCUMENT_NAMES, Credentials, checked_credentials, read_object

LEAST_SECONDS, MOST_SECONDS = 900, 43200  # of a session, as STS allows them


@dataclass(frozen=True, kw_only=True)
class Role:
    """A RAM role to assume: `arn` is like `acs:ram::1234567890123456:role/training`.

    `session_name` stands in the audit trail of the account. `session_seconds` is how long the credentials of one
    session hold, from 900 to 43,200 (and no longer than the role allows). `policy` is JSON that narrows what the
    session may do. `external_id` is what the owner of the role asks of other accounts. `sts_region` and `vpc` choose
    the endpoint of STS, or `sts_endpoint` is its URL. A wrong value raises `OssCredentialsError`.
    """

    arn: str
    session_name: str = "osstorchconnector"
    session_seconds: int = 3600
    policy: str = ""
    external_id: str = ""
    sts_region: str = ""
    vpc: bool = False
    sts_endpoint: str = ""

    def __post_init__(self) -> None:
        if not self.arn.startswith("acs:ram::"):
            raise OssCredentialsError(
                f"the ARN of a role is like acs:ram::1234567890123456:role/name, not {self.arn!r}"
            )
        if not LEAST_SECONDS <= self.session_seconds <= MOST_SECONDS:
            raise OssCredentialsError(
                f"a session of a role takes {LEAST_SECONDS} to {MOST_SECONDS} seconds, not {self.session_seconds}"
            )

    def endpoint(self) -> str:
        """Return the URL of STS."""
        if self.sts_endpoint:
            return self.sts_endpoint
        prefix = "sts-vpc" if self.vpc else "sts"
        return f"https://{prefix}.{self.sts_region}.aliyuncs.com/" if self.sts_region else "https://sts.aliyuncs.com/"


class StsRequest:
    """A POST to STS: `query` goes into the URL, `body` is the form, with what is secret."""

    def __init__(self, query: str, form: Mapping[str, str]) -> None:
        self.query = query
        self.body = SecretBytes(_encoded(form).encode())


def assume_role(role: Role, credentials: Credentials, *, nonce: str, epoch_seconds: float) -> StsRequest:
    """Return the request that assumes a role with these credentials."""
    form = {**_form(role), **({"ExternalId": role.external_id} if role.external_id else {})}
    query = {
        **_query("AssumeRole", nonce, epoch_seconds),
        "AccessKeyId": credentials.access_key_id,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
    }
    if credentials.security_token:
        # In the form, so that it is in no URL that a proxy writes down.
        form["SecurityToken"] = credentials.security_token
    signature = _signature({**query, **form}, credentials.access_key_secret)
    return StsRequest(_encoded({**query, "Signature": signature}), form)


def assume_role_with_oidc(
    role: Role, provider_arn: str, token: Secret, *, nonce: str, epoch_seconds: float
) -> StsRequest:
    """Return the request that assumes a role with a token of an OIDC provider. It is not signed."""
    form = {**_form(role), "OIDCProviderArn": provider_arn, "OIDCToken": token}
    return StsRequest(_encoded(_query("AssumeRoleWithOIDC", nonce, epoch_seconds)), form)


def sts_credentials(status: int, body: SecretBytes) -> Credentials | str:
    """Return the credentials in an answer of STS, or what is wrong with it."""
    if status != 200:
        return f"answered {_refusal(status, body)}"
    document = read_object(body, '{"Credentials": {"AccessKeyId": ...}}')
    if isinstance(document, str):
        return f"gave an answer that is {document}"
    inner = keeper(document().get("Credentials"))
    if not isinstance(inner(), dict):
        return "gave an answer without Credentials"
    outcome = checked_credentials(lambda field: inner().get(DOCUMENT_NAMES[field]), DOCUMENT_NAMES)  # type: ignore[attr-defined]
    return outcome if isinstance(outcome, Credentials) else f"gave credentials whose {outcome}"


def _refusal(status: int, body: SecretBytes) -> str:
    try:
        document = json.loads(body)
        named = {name: printable(str(document[name]), MAX_NAME_LETTERS) for name in ("Code", "RequestId")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP status {status}"
    return f"{named['Code']} (HTTP status {status}, request id {named['RequestId']})"


def _form(role: Role) -> dict[str, str]:
    form = {
        "RoleArn": role.arn,
        "RoleSessionName": role.session_name,
        "DurationSeconds": str(role.session_seconds),
    }
    return {**form, "Policy": role.policy} if role.policy else form


def _query(action: str, nonce: str, epoch_seconds: float) -> dict[str, str]:
    moment = datetime.fromtimestamp(int(epoch_seconds), timezone.utc)
    return {
        "Action": action,
        "Format": "JSON",
        "Version": "2015-04-01",
        "Timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "SignatureNonce": nonce,
    }


def _signature(parameters: Mapping[str, str], secret: str) -> str:
    text = Secret(f"POST&{_quoted('/')}&{_quoted(_encoded(dict(sorted(parameters.items()))))}")
    key = SecretBytes(f"{secret}&".encode())
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha1).digest()).decode()


def _encoded(parameters: Mapping[str, str]) -> Secret:
    return Secret("&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in parameters.items()))


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")
