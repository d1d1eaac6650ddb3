"""List pages: read at once where they are plain, by the book where they are not, with one result."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.values import ListedObject, ListPage
from osstorchconnector.protocol.xml import parse_list_page

DATE = "2025-03-14T15:09:26.000Z"


def entry(key: str, size: object = 5, etag: str = '"AB"', *, gap: str = "", more: str = "", first: str = "") -> str:
    children = [
        *(first, f"<Key>{key}</Key>", f"<LastModified>{DATE}</LastModified>", f"<ETag>{etag}</ETag>"),
        *("<Type>Normal</Type>", f"<Size>{size}</Size>", "<StorageClass>Standard</StorageClass>", more),
    ]
    return f"<Contents>{gap}{gap.join(filter(None, children))}{gap}</Contents>"


def page(
    entries: Iterable[str], *, gap: str = "", after: str = "", encoding: str = "url", truncated: str = ""
) -> bytes:
    head = [
        "<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys>",
        f"<EncodingType>{encoding}</EncodingType>" if encoding else "",
        truncated or "<IsTruncated>false</IsTruncated>",
    ]
    body = gap.join(["<ListBucketResult>", *head, *entries, after, "</ListBucketResult>"])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()


def by_the_book(body: bytes) -> bytes:
    """Return the same document so that it has to be read element by element."""
    return body.replace(b"</Contents>", b"<!-- --></Contents>")


def listed(*names: str) -> list[ListedObject]:
    return [ListedObject(name, 5, "AB", DATE) for name in names]


def read(body: bytes) -> ListPage | str:
    try:
        return parse_list_page(body)
    except OssProtocolError as error:
        return str(error).partition(":")[0]


keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
entries = st.tuples(keys, st.integers(0, 10**18 - 1), st.sampled_from(['"AB"', "&quot;AB&quot;", '""', "AB", ""]))


@given(
    st.lists(entries, max_size=6),
    st.sampled_from(["", "\n", "\n    ", " \t\r\n"]),
    st.sampled_from(["", "/"]),
    st.sampled_from(
        ["", "<Owner><ID>1</ID><DisplayName>me</DisplayName></Owner>", "<TransitionTime>x</TransitionTime>"]
    ),
)
def test_a_page_is_read_the_same_in_both_ways(
    found: list[tuple[str, int, str]], gap: str, kept: str, more: str
) -> None:
    body = page([entry(quote(key, safe=kept), size, etag, gap=gap, more=more) for key, size, etag in found], gap=gap)
    expected = [ListedObject(key, size, "" if etag in ('""', "") else "AB", DATE) for key, size, etag in found]
    assert parse_list_page(body) == parse_list_page(by_the_book(body)) == ListPage(expected, [], "")


@given(st.lists(keys.filter(lambda key: not any(char < " " or char in "\ufffe\uffff" for char in key)), max_size=5))
def test_keys_that_are_not_url_encoded_are_taken_as_they_stand(found: list[str]) -> None:
    body = page([entry(escape(key)) for key in found], encoding="")
    assert parse_list_page(body) == parse_list_page(by_the_book(body)) == ListPage(listed(*found), [], "")


@given(
    st.integers(0, 2**31),
    st.integers(0, 30),
    st.sampled_from(
        [
            *(
                b"",
                b"<",
                b">",
                b"&",
                b"&amp;",
                b"&#65;",
                b"<!--",
                b"-->",
                b"<![CDATA[",
                b"]]>",
                b"<?x",
                b"?>",
                b"%",
                b"\xff",
            ),
            *(
                b"<Contents>",
                b"</Contents>",
                b"<a>",
                b"</a>",
                b"<a/>",
                b'"',
                b"\n",
                b"\x0b",
                b"\xc2\xa0",
                b"%0A",
                b"%2f",
            ),
            *(b"<Key>x</Key>", b"<Size>1</Size>", b"<!DOCTYPE a>", b"\0", b"</ListBucketResult>", b"-", b"9" * 20),
        ]
    ),
    st.sampled_from(["", "\n  "]),
)
@settings(max_examples=300)
def test_a_damaged_page_is_read_the_same_in_both_ways_or_refused(at: int, drop: int, put: bytes, gap: str) -> None:
    body = page([entry("a%2Fb", gap=gap), entry("c%20d", 7, gap=gap), entry("e", gap=gap)], gap=gap)
    at %= len(body)
    damaged = body[:at] + put + body[at + drop :]
    if b"-" not in put and not body[at : at + drop].count(b"Contents"):
        assert read(damaged) == read(by_the_book(damaged))
    else:
        read(damaged)


def test_prefixes_come_beside_objects() -> None:
    after = "".join(f"<CommonPrefixes><Prefix>{one}</Prefix></CommonPrefixes>" for one in ("a%2F", "b%20c%2F"))
    assert parse_list_page(page([entry("k")], after=after)) == ListPage(listed("k"), ["a/", "b c/"], "")
    assert parse_list_page(page([], after=after)).prefixes == ["a/", "b c/"]


def test_the_token_leads_to_the_next_page() -> None:
    truncated = "<IsTruncated>true</IsTruncated><NextContinuationToken>Cg%2BJ%3D</NextContinuationToken>"
    assert parse_list_page(page([entry("k")], truncated=truncated)).next_token == "Cg+J="
    assert parse_list_page(page([entry("k")], truncated=truncated, encoding="")).next_token == "Cg%2BJ%3D"


def test_a_token_of_the_last_page_is_not_followed() -> None:
    truncated = "<IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
    assert parse_list_page(page([], truncated=truncated)).next_token == ""


def test_a_plus_sign_is_a_plus_sign() -> None:
    assert parse_list_page(page([entry("a+b%2Bc")])).objects == listed("a+b+c")


def test_escapes_may_be_in_lower_case() -> None:
    assert parse_list_page(page([entry("%e6%95%b0%2f%252f%0a")])).objects == listed("数/%2f\n")
    assert parse_list_page(page([entry("%e6%95%b0%2f%252F"), entry("b")])).objects == listed("数/%2F", "b")


def test_owner_and_later_additions_are_passed_over() -> None:
    more = '<RestoreInfo>ongoing-request="true"</RestoreInfo><Owner><ID>1</ID><DisplayName>数据</DisplayName></Owner>'
    assert parse_list_page(page([entry("a", more=more), entry("b")])).objects == listed("a", "b")


def test_objects_keep_their_order_when_only_some_are_plain() -> None:
    odd = entry("b", first="<New>1</New>")
    for order in ([entry("a"), odd, entry("c")], [odd, entry("a"), entry("c")], [entry("a"), entry("c"), odd]):
        names = ["b" if one is odd else "a" if one == entry("a") else "c" for one in order]
        assert parse_list_page(page(order)).objects == listed(*names)


def test_etag_and_date_may_be_missing() -> None:
    body = page(["<Contents><Key>a</Key><Size>0</Size></Contents>"])
    assert parse_list_page(body).objects == [ListedObject("a", 0, "", "")]


@pytest.mark.parametrize("hidden", ["<!--{}-->", "<![CDATA[{}]]>", "<?x {}?>", "<Other>{}</Other>"])
def test_what_stands_elsewhere_than_in_the_list_is_no_entry(hidden: str) -> None:
    assert parse_list_page(page([hidden.format(entry("a") + entry("b"))])).objects == []
    body = page([entry("a")], after=hidden.format(entry("b")))
    assert parse_list_page(body).objects == listed("a")
    body = page([hidden.format(entry("a")), entry("b"), hidden.format("")])
    assert parse_list_page(body).objects == listed("b")


def test_a_page_of_a_thousand_long_keys() -> None:
    names = [f"{'数据' * 170}{number:03}" for number in range(1000)]
    assert len(names[0].encode()) == 1023
    assert parse_list_page(page(entry(quote(name)) for name in names)).objects == listed(*names)


@pytest.mark.parametrize(
    "body",
    [
        page([entry("a")], truncated="<IsTruncated>true</IsTruncated>"),
        page([entry("a")], truncated="<IsTruncated>true</IsTruncated><NextContinuationToken/>"),
        page([entry("a")], truncated="<IsTruncated>yes</IsTruncated>"),
        page([entry("a")], truncated="<IsTruncated/>"),
        page([entry("a")], truncated="<IsTruncated>false</IsTruncated><IsTruncated>true</IsTruncated>"),
        page([entry("a")], truncated="<Other/>"),
        page([entry("a")], encoding="base64"),
        page([entry("a")], after="<CommonPrefixes/>"),
        page([entry("a")], after="<CommonPrefixes><Prefix>%</Prefix></CommonPrefixes>"),
        page([entry("")]),
        page([entry("a", -1)]),
        page([entry("a", "")]),
        page([entry("a", "5 ")]),
        page([entry("a", "0x5")]),
        page([entry("a", "5.0")]),
        page([entry("a", "1" * 19)]),
        page([entry("a", "\u0665")]),
        page([entry("a", etag="&#13;&#10;Range: x")]),
        page([entry("a", etag='"a b"')]),
        page([entry("a", more="<Size>6</Size>")]),
        page([entry("a", more="<Key>b</Key>")]),
        page([entry("a%")]),
        page([entry("a%2")]),
        page([entry("a%zz"), entry("b")]),
        page([entry("a%ff"), entry("b")]),
        page([entry("a%0A%ff"), entry("b")]),
        page([entry("%C3"), entry("%A9")]),
        page([entry("%F0%90"), entry("b")]),
        page(["<Contents/>"]),
        page(["<Contents><Size>5</Size></Contents>"]),
        page([entry("a"), "<Contents/>"]),
        page([entry("a")]).replace(b"ListBucketResult", b"ListResult"),
        page([entry("a")]).replace(b"<ListBucketResult>", b"<!DOCTYPE ListBucketResult><ListBucketResult>"),
        page([entry("a")])[:-1],
        page([entry("a")]) + b"<more/>",
        page([entry("a")]).replace(b"<Name>b", b"<Name>\xff"),
    ],
)
def test_a_lying_page_is_refused_in_both_ways(body: bytes) -> None:
    for spelling in (body, by_the_book(body)):
        with pytest.raises(OssProtocolError):
            parse_list_page(spelling)
