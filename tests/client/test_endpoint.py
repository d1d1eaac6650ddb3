from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.endpoint import Origin, infer_region, parse_endpoint, plan_signing
from osstorchconnector.errors import OssConfigError


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
    ],
)
def test_v4_is_signed_where_a_region_is_known(endpoint, region, version, plan):
    assert plan_signing(parse_endpoint(endpoint), region, version) == plan


@pytest.mark.parametrize("region", [5, b"cn-x", "cn x", "cn-x/oss", "cn-x\r\nX-Forged: y", " cn-x", "-", "cn_x", "é"])
@pytest.mark.parametrize("version", ["auto", "v1", "v4"])
def test_what_is_no_region_is_refused_before_it_is_signed_with(region, version):
    with pytest.raises(OssConfigError, match="region="):
        plan_signing(parse_endpoint("https://oss-cn-x.aliyuncs.com"), region, version)


@pytest.mark.parametrize(("endpoint", "version"), [("https://data.example.com", "auto"), ("http://127.0.0.1", "v4")])
def test_no_region_where_one_is_needed_names_the_parameter(endpoint, version):
    with pytest.raises(OssConfigError, match="region="):
        plan_signing(parse_endpoint(endpoint), "", version)


@pytest.mark.parametrize(
    ("endpoint", "is_exposed"),
    [
        ("http://oss-cn-hangzhou.aliyuncs.com", True),
        ("http://10.1.2.3:8080", True),
        ("http://my-internal-host.example", True),
        ("http://oss-cn-hangzhou-internal.aliyuncs.com", False),
        ("https://oss-cn-hangzhou.aliyuncs.com", False),
        ("http://127.8.9.1", False),
        ("http://[::1]:80", False),
        ("http://localhost:9000", False),
    ],
)
def test_where_plain_http_can_be_overheard(endpoint: str, is_exposed: bool) -> None:
    assert parse_endpoint(endpoint).is_exposed is is_exposed
