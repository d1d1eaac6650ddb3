"""The official SDK's signers and ours sign alike, whatever the request."""

from __future__ import annotations

import string

import oss2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oss2.credentials import StaticCredentialsProvider
from oss2.http import Request as Oss2Request

from osstorchconnector.credentials import Credentials
from osstorchconnector.protocol.heads import parse_http_date
from osstorchconnector.protocol.signing import SIGNED_PARAMETERS_V1, V1Signer, V4Signer, oss_date
from osstorchconnector.protocol.values import Request

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

REGION = "cn-test"
# Signed by alibabacloud-oss-v2, whose signers are newer.
UNKNOWN_TO_OSS2 = {"cloudboxes"}

credentials = st.builds(
    Credentials,
    access_key_id=st.text(string.ascii_letters + string.digits + ".", min_size=1, max_size=24),
    access_key_secret=st.text(string.ascii_letters + string.digits, min_size=1, max_size=80),
    security_token=st.text(string.ascii_letters + "+/=", max_size=30),
)
keys = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30)
parameters = st.dictionaries(
    st.sampled_from(sorted(SIGNED_PARAMETERS_V1 - UNKNOWN_TO_OSS2 - {"security-token"}))
    | st.sampled_from(["prefix", "list-type", "max-keys", "start-after", "delimiter"])
    | st.text(string.ascii_letters + "-_.+é /", min_size=1, max_size=8),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    max_size=5,
)
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-MD5", "Range", "If-Match", "x-oss-meta-Name", "X-Oss-Acl", "x-oss-a"]),
    st.text(string.ascii_letters + string.digits + "=-/;", min_size=1, max_size=12),
    max_size=4,
)
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"])


def both(
    method: str, bucket: str, key: str, query: dict[str, str], extra: dict[str, str]
) -> tuple[Oss2Request, Request]:
    theirs = Oss2Request(method, "http://host/", params=dict(query), headers=dict(extra), region=REGION, product="oss")
    return theirs, Request("Any", method, bucket, key, tuple(query.items()), tuple(extra.items()))


def provider_of(found: Credentials) -> StaticCredentialsProvider:
    return StaticCredentialsProvider(found.access_key_id, found.access_key_secret, found.security_token)


def epoch_of(date: str) -> int:
    stamp = f"{date[6:8]} {'JanFebMarAprMayJunJulAugSepOctNovDec'[int(date[4:6]) * 3 - 3 :][:3]} {date[:4]}"
    epoch = parse_http_date(f"Mon, {stamp} {date[9:11]}:{date[11:13]}:{date[13:15]} GMT")
    assert epoch is not None
    assert oss_date(int(epoch)) == date
    return int(epoch)


@given(credentials, methods, st.sampled_from(["", "bucket-1"]), keys, parameters, headers)
def test_version_4_headers(
    found: Credentials, method: str, bucket: str, key: str, query: dict[str, str], extra: dict[str, str]
) -> None:
    theirs, ours = both(method, bucket, key, query, extra)
    oss2.ProviderAuthV4(provider_of(found))._sign_request(theirs, bucket, key, in_additional_headers={"Range"})
    epoch = epoch_of(theirs.headers["x-oss-date"])
    signed = dict(V4Signer(found, REGION, additional=["range"]).sign(ours, epoch))
    assert signed == {name: theirs.headers[name] for name in signed}


@given(credentials, methods, st.sampled_from(["", "bucket-1"]), keys, parameters, headers)
def test_version_1_headers(
    found: Credentials, method: str, bucket: str, key: str, query: dict[str, str], extra: dict[str, str]
) -> None:
    key = key if bucket else ""
    theirs, ours = both(method, bucket, key, query, extra)
    oss2.ProviderAuth(provider_of(found))._sign_request(theirs, bucket, key)
    epoch = parse_http_date(theirs.headers["date"])
    assert epoch is not None
    signed = dict(V1Signer(found).sign(ours, int(epoch)))
    assert signed == {name: theirs.headers[name] for name in signed}


def test_the_same_parameters_count_in_version_1() -> None:
    assert oss2.ProviderAuth._subresource_key_set | UNKNOWN_TO_OSS2 == SIGNED_PARAMETERS_V1
