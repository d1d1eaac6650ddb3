from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssConfigError
from osstorchconnector.protocol.endpoint import Origin, endpoint_in, infer_region, parse_endpoint, plan_signing


@pytest.mark.parametrize(
    ("text", "addressing", "origin", "host", "target"),
    [
        ("oss-cn-x.aliyuncs.com", "auto", ("https", "b.oss-cn-x.aliyuncs.com", 443), "b.oss-cn-x.aliyuncs.com", "/k"),
        ("http://oss.test", "auto", ("http", "b.oss.test", 80), "b.oss.test", "/k"),
        ("http://oss.test:80/", "auto", ("http", "b.oss.test", 80), "b.oss.test", "/k"),
        ("https://oss.test:8443", "auto", ("https", "b.oss.test", 8443), "b.oss.test:8443", "/k"),
        ("http://127.0.0.1:9000", "auto", ("http", "127.0.0.1", 9000), "127.0.0.1:9000", "/b/k"),
        ("http://localhost", "auto", ("http", "localhost", 80), "localhost", "/b/k"),
        ("http://[::1]:9000", "auto", ("http", "::1", 9000), "[::1]:9000", "/b/k"),
        ("http://oss.test", "path", ("http", "oss.test", 80), "oss.test", "/b/k"),
        ("https://data.example.com", "cname", ("https", "data.example.com", 443), "data.example.com", "/k"),
        ("http://127.0.0.1:9000", "virtual", ("http", "b.127.0.0.1", 9000), "b.127.0.0.1:9000", "/k"),
    ],
)
def test_bucket_and_key_go_where_the_style_wants_them(text, addressing, origin, host, target):
    endpoint = parse_endpoint(text, addressing)
    route = endpoint.route("b")
    assert route.origin == Origin(*origin)
    assert route.host_header == host
    assert route.target("k", "") == target
    assert route.target("k", "x=1") == f"{target}?x=1"


def test_requests_to_the_service_name_no_bucket():
    endpoint = parse_endpoint("http://oss.test")
    assert (endpoint.route("").origin.host, endpoint.route("").target("", "")) == ("oss.test", "/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        None,
        "ftp://oss.test",
        "http://",
        "http://oss.test/bucket",
        "http://oss.test?x=1",
        "http://oss.test#x",
        "http://oss test",
        "http://oss.test:port",
        "http://oss.test:99999999",
        "oss://bucket/key",
    ],
)
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(OssConfigError, match="endpoint"):
        parse_endpoint(text)


def test_an_endpoint_that_is_no_text_is_called_that():
    with pytest.raises(OssConfigError, match="endpoint is a list, not a text"):
        parse_endpoint(["http://oss.test"])


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@oss.test",
        "user:hunter2@oss.test",
        "//user:hunter2@oss.test",
        "http:user:hunter2@oss.test",
        "ftp://user:hunter2@oss.test",
        "http://user:and@hunter2@oss.test",
        "http://user:and/hunter2@oss.test",
        "user:hunter2@oss.test:99999",
    ],
)
def test_a_password_in_an_endpoint_is_refused_and_not_repeated(text):
    with pytest.raises(OssConfigError, match=r"\.\.\.@oss\.test") as refused:
        parse_endpoint(text)
    assert "hunter2" not in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_a_clear_error(text):
    try:
        endpoint = parse_endpoint(text)
    except OssConfigError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("oss-ap-southeast-1-internal.aliyuncs.com", "ap-southeast-1"),
        ("cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou"),
        ("oss-accelerate.aliyuncs.com", ""),
        ("oss-accelerate-overseas.aliyuncs.com", ""),
        ("oss-cn-hangzhou.aliyuncs.com.evil.test", ""),
        ("vpc100-oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("cn-hangzhou-internal.oss-data-acc.aliyuncs.com", "cn-hangzhou"),
        ("oss-cache-cn-beijing-h.aliyuncs.com", "cn-beijing"),
        ("oss-cn-hzfinance.aliyuncs.com", "cn-hzfinance"),
        ("oss-cn-shanghai-finance-1-pub-internal.aliyuncs.com", "cn-shanghai-finance-1-pub"),
        ("oss-cn-north-2-gov-1.aliyuncs.com", "cn-north-2-gov-1"),
        ("oss-rg-china-mainland.aliyuncs.com", "rg-china-mainland"),
        ("oss-us-east-1.aliyuncs.com", "us-east-1"),
        ("cb-f8z7yvzgwfkl9q0h.cn-beijing.oss-cloudbox.aliyuncs.com", ""),
        ("oss.aliyuncs.com", ""),
        ("my-bucket.oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        ("data.example.com", ""),
        ("127.0.0.1", ""),
    ],
)
def test_the_region_is_told_by_the_host(host, region):
    assert infer_region(host) == region


@pytest.mark.parametrize(
    ("endpoint", "region", "version", "plan"),
    [
        ("oss-cn-x.aliyuncs.com", "", "auto", ("v4", "cn-x")),
        ("oss-cn-x.aliyuncs.com", "cn-y", "auto", ("v4", "cn-y")),
        ("oss-cn-x.aliyuncs.com", "oss-cn-y", "v4", ("v4", "cn-y")),
        ("oss-cn-x.aliyuncs.com", "cn-y", "v1", ("v1", "")),
        ("http://127.0.0.1:1", "", "auto", ("v1", "")),
        ("http://127.0.0.1:1", "cn-y", "auto", ("v4", "cn-y")),
        ("oss-accelerate.aliyuncs.com", "", "auto", ("v1", "")),
        ("https://oss-accelerate-overseas.aliyuncs.com/", "", "auto", ("v1", "")),
        ("oss-accelerate.aliyuncs.com", "cn-y", "auto", ("v4", "cn-y")),
        ("http://cn-beijing-internal.oss-data-acc.aliyuncs.com", "", "auto", ("v4", "cn-beijing")),
    ],
)
def test_v4_is_signed_where_a_region_is_known(endpoint, region, version, plan):
    assert plan_signing(parse_endpoint(endpoint), region, version) == plan


@pytest.mark.parametrize("region", [5, b"cn-x", "cn x", "cn-x/oss", "cn-x\r\nX-Forged: y", " cn-x", "-", "cn_x", "é"])
@pytest.mark.parametrize("version", ["auto", "v1", "v4"])
def test_what_is_no_region_is_refused_before_it_is_signed_with(region, version):
    with pytest.raises(OssConfigError, match="region="):
        plan_signing(parse_endpoint("https://oss-cn-x.aliyuncs.com"), region, version)


@pytest.mark.parametrize(
    ("endpoint", "version"),
    [("https://data.example.com", "auto"), ("http://127.0.0.1", "v4"), ("oss-accelerate.aliyuncs.com", "v4")],
)
def test_no_region_where_one_is_needed_names_the_parameter(endpoint, version):
    with pytest.raises(OssConfigError, match="region="):
        plan_signing(parse_endpoint(endpoint), "", version)


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ("cn-beijing", "if cn-beijing is the region, pass endpoint='https://oss-cn-beijing.aliyuncs.com'"),
        ("http://us-west-1:80", "pass endpoint='https://oss-us-west-1.aliyuncs.com'"),
        ("https://data.example.com", ""),
    ],
)
def test_a_region_in_the_place_of_an_endpoint_is_told_the_endpoint(endpoint, hint):
    with pytest.raises(OssConfigError) as caught:
        plan_signing(parse_endpoint(endpoint), "", "auto")
    assert hint in str(caught.value)
    assert bool(hint) == ("is the region" in str(caught.value))


@pytest.mark.parametrize(
    ("endpoint", "is_exposed"),
    [
        ("http://oss-cn-hangzhou.aliyuncs.com", True),
        ("http://10.1.2.3:8080", True),
        ("http://my-internal-host.example", True),
        ("http://oss-cn-hangzhou-internal.aliyuncs.com", False),
        ("http://vpc100-oss-cn-hangzhou.aliyuncs.com", False),
        ("https://oss-cn-hangzhou.aliyuncs.com", False),
        ("http://127.8.9.1", False),
        ("http://[::1]:80", False),
        ("http://localhost:9000", False),
    ],
)
def test_where_plain_http_can_be_overheard(endpoint: str, is_exposed: bool) -> None:
    assert parse_endpoint(endpoint).is_exposed is is_exposed


@pytest.mark.parametrize(
    ("text", "bucket", "right"),
    [
        ("my-bucket.oss-cn-beijing.aliyuncs.com", "my-bucket", "https://oss-cn-beijing.aliyuncs.com"),
        ("http://my-bucket.oss-cn-beijing.aliyuncs.com/", "my-bucket", "http://oss-cn-beijing.aliyuncs.com"),
        ("https://oss-data.oss-cn-beijing.aliyuncs.com", "oss-data", "https://oss-cn-beijing.aliyuncs.com"),
        ("oss-data.oss-cn-beijing-internal.aliyuncs.com", "oss-data", "https://oss-cn-beijing-internal.aliyuncs.com"),
        ("b-1.vpc100-oss-cn-hangzhou.aliyuncs.com", "b-1", "https://vpc100-oss-cn-hangzhou.aliyuncs.com"),
        ("data.oss-accelerate.aliyuncs.com", "data", "https://oss-accelerate.aliyuncs.com"),
        ("data.oss-accelerate-overseas.aliyuncs.com", "data", "https://oss-accelerate-overseas.aliyuncs.com"),
        ("data.cn-hangzhou.oss.aliyuncs.com", "data", "https://cn-hangzhou.oss.aliyuncs.com"),
        (
            "data.cn-beijing-internal.oss-data-acc.aliyuncs.com",
            "data",
            "https://cn-beijing-internal.oss-data-acc.aliyuncs.com",
        ),
        ("data.oss-cn-hzfinance.aliyuncs.com", "data", "https://oss-cn-hzfinance.aliyuncs.com"),
        ("oss-cn-x.oss-cn-y.aliyuncs.com", "oss-cn-x", "https://oss-cn-y.aliyuncs.com"),
        ("a.b.oss-cn-beijing.aliyuncs.com", "a.b", "https://oss-cn-beijing.aliyuncs.com"),
    ],
)
@pytest.mark.parametrize("addressing", ["auto", "virtual", "path"])
def test_the_domain_of_a_bucket_is_no_endpoint_and_the_error_names_both(
    text: str, bucket: str, right: str, addressing: str
) -> None:
    with pytest.raises(OssConfigError) as refused:
        parse_endpoint(text, addressing)  # type: ignore[arg-type]
    assert f"'{bucket}' is the bucket's name" in str(refused.value)
    assert str(refused.value).endswith(f"pass endpoint='{right}'")
    assert parse_endpoint(right)


def test_the_domain_of_a_bucket_is_one_where_it_is_said_to_be_the_buckets_own() -> None:
    endpoint = parse_endpoint("my-bucket.oss-cn-beijing.aliyuncs.com", "cname")
    assert endpoint.route("my-bucket").host_header == "my-bucket.oss-cn-beijing.aliyuncs.com"
    assert plan_signing(endpoint, "", "auto").region == "cn-beijing"


@pytest.mark.parametrize("host", ["s3.oss-cn-hangzhou.aliyuncs.com", "s3.oss-cn-hangzhou-internal.aliyuncs.com"])
def test_the_endpoint_for_s3_clients_is_called_that(host: str) -> None:
    with pytest.raises(OssConfigError, match=f"S3 protocol.*pass endpoint='https://{host[3:]}'"):
        parse_endpoint(host)


@pytest.mark.parametrize(
    "host",
    [
        "oss-cn-hangzhou.aliyuncs.com",
        "cn-hangzhou.oss.aliyuncs.com",
        "oss-accelerate.aliyuncs.com",
        "cb-f8z7yvzgwfkl9q0h.cn-beijing.oss-cloudbox.aliyuncs.com",
        "oss-cn-beijing.example.com",
        "my.oss-cn-beijing.example.com",
        "storage.internal",
    ],
)
def test_what_only_looks_like_the_domain_of_a_bucket_is_an_endpoint(host: str) -> None:
    assert parse_endpoint(host).host == host


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("http://data.oss-cn-shanghai.aliyuncs.com/key?x=1", "oss-cn-shanghai.aliyuncs.com"),
        ("https://oss-cn-shanghai-internal.aliyuncs.com/", "oss-cn-shanghai-internal.aliyuncs.com"),
        ("http://other.oss-cn-shanghai.aliyuncs.com/key", ""),
        ("http://evil.test/data.oss-cn-shanghai.aliyuncs.com", ""),
        ("/elsewhere", ""),
        ("http://[", ""),
        ("", ""),
    ],
)
def test_a_redirect_names_an_endpoint_of_oss_or_none(location: str, found: str) -> None:
    assert endpoint_in(location, "data") == found
