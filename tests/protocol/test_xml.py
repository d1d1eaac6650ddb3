"""Documents of OSS: read as values when they are sound, refused when they are not, written so that they read back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol import xml
from osstorchconnector.protocol.heads import ResponseHead
from osstorchconnector.protocol.values import ListedBucket, ListedUpload, UploadedPart
from osstorchconnector.protocol.xml import ServiceFault
from osstorchconnector.protocol.xml_tree import MAX_DEPTH, MAX_DOCUMENT_BYTES, parse_document

PARSERS: dict[str, Callable[[bytes], object]] = {
    "ListBucketResult": xml.parse_list_page,
    "ListMultipartUploadsResult": partial(xml.parse_uploads, prefix="k"),
    "ListPartsResult": partial(xml.parse_parts, key="k", upload_id="ID", marker=0),
    "InitiateMultipartUploadResult": partial(xml.parse_upload_id, key="k"),
    "CompleteMultipartUploadResult": partial(xml.parse_complete, key="k"),
    "CopyObjectResult": xml.parse_copy,
    "DeleteResult": partial(xml.parse_deleted, asked=["a\nb", "c"]),
    "ListAllMyBucketsResult": partial(xml.parse_buckets, marker="a"),
}
# Sound documents of each kind, as OSS writes them.
SAMPLES = {
    "ListBucketResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult>
  <Name>b</Name><Prefix>a%2F</Prefix><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
  <Contents><Key>a%2Fb</Key><LastModified>2025-03-14T15:09:26.000Z</LastModified><ETag>"AB"</ETag><Type>Normal</Type>
  <Size>5</Size><StorageClass>Standard</StorageClass></Contents>
</ListBucketResult>""",
    "ListMultipartUploadsResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<ListMultipartUploadsResult>
  <Bucket>b</Bucket><KeyMarker/><UploadIdMarker/><NextKeyMarker>k%2B2</NextKeyMarker>
  <NextUploadIdMarker>ID2</NextUploadIdMarker><EncodingType>url</EncodingType><MaxUploads>2</MaxUploads>
  <IsTruncated>true</IsTruncated>
  <Upload><Key>k%201</Key><UploadId>ID1</UploadId><Initiated>2025-03-14T15:09:26.000Z</Initiated></Upload>
  <Upload><Key>k%2B2</Key><UploadId>ID2</UploadId><Initiated>2025-03-14T15:09:27.000Z</Initiated></Upload>
</ListMultipartUploadsResult>""",
    "ListPartsResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<ListPartsResult>
  <Bucket>b</Bucket><Key>k</Key><UploadId>ID</UploadId><PartNumberMarker>0</PartNumberMarker>
  <NextPartNumberMarker>5</NextPartNumberMarker><MaxParts>1000</MaxParts><IsTruncated>true</IsTruncated>
  <Part><PartNumber>1</PartNumber><LastModified>2025-03-14T15:09:26.000Z</LastModified><ETag>"AB"</ETag>
    <HashCrc64ecma>18446744073709551615</HashCrc64ecma><Size>102400</Size></Part>
  <Part><PartNumber>5</PartNumber><LastModified>2025-03-14T15:09:26.000Z</LastModified><ETag>&quot;CD&quot;</ETag>
    <HashCrc64ecma>7</HashCrc64ecma><Size>1</Size></Part>
</ListPartsResult>""",
    "InitiateMultipartUploadResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<InitiateMultipartUploadResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
  <Bucket>b</Bucket><Key>k</Key><UploadId>0004B9894A22E5B1888A1E29F8236E2D</UploadId>
</InitiateMultipartUploadResult>""",
    "CompleteMultipartUploadResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<o:CompleteMultipartUploadResult xmlns:o="http://doc.oss-cn-hangzhou.aliyuncs.com">
  <o:Location>http://b.oss/k</o:Location><o:Bucket>b</o:Bucket><o:Key>k</o:Key><o:ETag>"AB-2"</o:ETag>
</o:CompleteMultipartUploadResult>""",
    "CopyObjectResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<CopyObjectResult><ETag>"AB"</ETag><LastModified>2025-03-14T15:09:26.000Z</LastModified></CopyObjectResult>""",
    "DeleteResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<DeleteResult><EncodingType>url</EncodingType><Deleted><Key>a%0Ab</Key></Deleted><Deleted><Key>c</Key></Deleted>
</DeleteResult>""",
    "ListAllMyBucketsResult": b"""<?xml version="1.0" encoding="UTF-8"?>
<ListAllMyBucketsResult><IsTruncated>true</IsTruncated><NextMarker>c</NextMarker><Buckets>
  <Bucket><Name>b</Name><CreationDate>2025-03-14T15:09:26.000Z</CreationDate><Region>cn-test</Region></Bucket>
  <Bucket><Name>c</Name></Bucket></Buckets></ListAllMyBucketsResult>""",
}
EVERY_KIND = pytest.mark.parametrize("kind", PARSERS)


def test_uploads() -> None:
    page = xml.parse_uploads(SAMPLES["ListMultipartUploadsResult"], "k")
    assert page.uploads == [
        ListedUpload("k 1", "ID1", "2025-03-14T15:09:26.000Z"),
        ListedUpload("k+2", "ID2", "2025-03-14T15:09:27.000Z"),
    ]
    assert (page.next_key_marker, page.next_upload_id_marker) == ("k+2", "ID2")


def test_markers_of_the_last_page_of_uploads_are_not_followed() -> None:
    last = SAMPLES["ListMultipartUploadsResult"].replace(b">true<", b">false<")
    assert xml.parse_uploads(last, "")[1:] == ("", "")


def test_parts() -> None:
    page = xml.parse_parts(SAMPLES["ListPartsResult"], "k", "ID", 0)
    when = "2025-03-14T15:09:26.000Z"
    assert page.parts == [UploadedPart(1, "AB", 102400, 2**64 - 1, when), UploadedPart(5, "CD", 1, 7, when)]
    assert page.next_marker == 5
    assert xml.parse_parts(SAMPLES["ListPartsResult"].replace(b">true<", b">false<"), "k", "ID", 0).next_marker == 0


def test_answers_to_writes() -> None:
    assert xml.parse_upload_id(SAMPLES["InitiateMultipartUploadResult"], "k") == "0004B9894A22E5B1888A1E29F8236E2D"
    assert xml.parse_complete(SAMPLES["CompleteMultipartUploadResult"], "k") == "AB-2"
    assert xml.parse_copy(SAMPLES["CopyObjectResult"]) == "AB"
    assert xml.parse_deleted(SAMPLES["DeleteResult"], ["a\nb", "c", "d"]) == ["a\nb", "c"]
    assert xml.parse_deleted(b"", ["a"]) == []


def test_buckets() -> None:
    page = xml.parse_buckets(SAMPLES["ListAllMyBucketsResult"], "")
    assert page.buckets == [ListedBucket("b", "2025-03-14T15:09:26.000Z", "cn-test"), ListedBucket("c", "", "")]
    assert page.next_marker == "c"
    assert xml.parse_buckets(SAMPLES["ListAllMyBucketsResult"].replace(b">true<", b">false<"), "").next_marker == ""


def test_a_key_that_could_not_be_deleted_is_an_error_that_names_it() -> None:
    body = (
        b"<DeleteResult><EncodingType>url</EncodingType><Deleted><Key>a</Key></Deleted>"
        b"<Error><Key>b%20c</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    )
    with pytest.raises(OssProtocolError, match=r"not deleted: 'b c': 'AccessDenied'"):
        xml.parse_deleted(body, ["a", "b c"])


@pytest.mark.parametrize(
    ("kind", "sound", "foreign"),
    [
        ("ListMultipartUploadsResult", "<KeyMarker/>", "<KeyMarker/><Prefix>other</Prefix>"),
        ("ListMultipartUploadsResult", "k%201", "other"),
        ("ListPartsResult", "<Key>k<", "<Key>other<"),
        ("ListPartsResult", "<UploadId>ID<", "<UploadId>OTHER<"),
        ("ListPartsResult", "<PartNumber>5<", "<PartNumber>1<"),
        ("ListPartsResult", "<PartNumber>1<", "<PartNumber>0<"),
        ("InitiateMultipartUploadResult", "<Key>k<", "<Key>other<"),
        ("CompleteMultipartUploadResult", "<o:Key>k<", "<o:Key>other<"),
        ("CompleteMultipartUploadResult", '<o:ETag>"AB-2"</o:ETag>', ""),
        ("CopyObjectResult", '<ETag>"AB"</ETag>', ""),
        ("DeleteResult", "<Key>c<", "<Key>d<"),
        ("ListAllMyBucketsResult", "<Name>b<", "<Name>a<"),
        ("ListAllMyBucketsResult", "<Name>c<", "<Name>b<"),
    ],
)
def test_an_answer_to_another_request_is_refused(kind: str, sound: str, foreign: str) -> None:
    document = SAMPLES[kind].replace(sound.encode(), foreign.encode())
    assert document != SAMPLES[kind]
    with pytest.raises(OssProtocolError):
        PARSERS[kind](document)


KEY = "a b/数+%41.bin"


@pytest.mark.parametrize("spelled", [quote(KEY), quote(KEY, safe=""), KEY])
@pytest.mark.parametrize("encoding", ["", "<EncodingType>url</EncodingType>"])
@pytest.mark.parametrize("kind", ["InitiateMultipartUploadResult", "CompleteMultipartUploadResult", "ListPartsResult"])
def test_a_server_may_repeat_the_key_encoded_or_as_it_is(kind: str, encoding: str, spelled: str) -> None:
    rest = {"ListPartsResult": "<UploadId>ID</UploadId><IsTruncated>false</IsTruncated>"}.get(
        kind, '<UploadId>ID</UploadId><ETag>"A-1"</ETag>'
    )
    document = f"<{kind}>{encoding}<Key>{spelled}</Key>{rest}</{kind}>".encode()
    assert {
        "InitiateMultipartUploadResult": lambda: xml.parse_upload_id(document, KEY),
        "CompleteMultipartUploadResult": lambda: xml.parse_complete(document, KEY),
        "ListPartsResult": lambda: xml.parse_parts(document, KEY, "ID", 0).parts,
    }[kind]() in ("ID", "A-1", [])


@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("b/", ""), ("a", ""), ("a/", "/")])
def test_a_page_that_says_it_is_of_another_prefix_is_refused(prefix: str, delimiter: str) -> None:
    page = SAMPLES["ListBucketResult"].replace(b"<Prefix>", b"<Delimiter>-</Delimiter><Prefix>")
    assert xml.parse_list_page(page, "a/", "-").keys == ["a/b"]
    with pytest.raises(OssProtocolError, match="another request"):
        xml.parse_list_page(page, prefix, delimiter)


# --- what is refused, of whatever kind


@EVERY_KIND
@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_documents_are_read_from_any_buffer(kind: str, buffer: Callable[[bytes], bytes]) -> None:
    assert PARSERS[kind](buffer(SAMPLES[kind])) == PARSERS[kind](SAMPLES[kind])


@EVERY_KIND
def test_elements_that_are_not_known_are_passed_over(kind: str) -> None:
    end = SAMPLES[kind].rindex(b"</")
    more = b'<NewThing since="2030"><Key>x</Key><Size>-1</Size></NewThing><!-- aside --><?pi x?>'
    assert PARSERS[kind](SAMPLES[kind][:end] + more + SAMPLES[kind][end:]) == PARSERS[kind](SAMPLES[kind])


@EVERY_KIND
@pytest.mark.parametrize(
    "body",
    [
        b"not xml",
        b"<html><body>502 Bad Gateway</body></html>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<a></b>",
        b"<?xml version='1.0'?>",
        b"\xef\xbb\xbf",
        b"\0",
        b"<a>\0</a>",
    ],
)
def test_another_document_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(OssProtocolError, match="document"):
        PARSERS[kind](body)


@EVERY_KIND
def test_nothing_at_all_is_refused_but_for_quiet_deletes(kind: str) -> None:
    if kind != "DeleteResult":
        with pytest.raises(OssProtocolError, match="malformed XML"):
            PARSERS[kind](b"")


def test_an_error_that_comes_as_a_success_is_named() -> None:
    with pytest.raises(OssProtocolError, match=r"document expected, not 'Error' \('InternalError'\)"):
        xml.parse_complete(b"<Error><Code>InternalError</Code><Message>m</Message></Error>", "k")


@EVERY_KIND
@given(cut=st.integers(1, 100))
def test_a_document_that_breaks_off_is_refused(kind: str, cut: int) -> None:
    with pytest.raises(OssProtocolError):
        PARSERS[kind](SAMPLES[kind].rstrip()[:-cut])


def with_prolog(kind: str, prolog: bytes, text: bytes = b"") -> bytes:
    body = SAMPLES[kind].partition(b"?>")[2].lstrip()
    return prolog + (body.replace(b"<Key>", b"<Key>" + text, 1) if text else body)


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))


@EVERY_KIND
@pytest.mark.parametrize(
    "prolog",
    [
        b"<!DOCTYPE a>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE a [<!ENTITY l0 "lol">' + LAUGHS + b"]>",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://localhost:1/"> %p;]>',
    ],
)
def test_document_types_and_entities_are_refused(kind: str, prolog: bytes) -> None:
    with pytest.raises(OssProtocolError, match="document type declaration"):
        PARSERS[kind](with_prolog(kind, prolog))


def test_an_entity_that_is_not_declared_is_refused() -> None:
    with pytest.raises(OssProtocolError, match="undefined entity"):
        xml.parse_copy(b"<CopyObjectResult><ETag>&passwd;</ETag></CopyObjectResult>")


@EVERY_KIND
def test_the_encoding_is_utf_8_whatever_the_document_claims(kind: str) -> None:
    for claim in (b"ISO-8859-1", b"UTF-16", b"us-ascii", b"nonsense"):
        claimed = with_prolog(kind, b'<?xml version="1.0" encoding="' + claim + b'"?>')
        assert PARSERS[kind](claimed) == PARSERS[kind](SAMPLES[kind])
    with pytest.raises(OssProtocolError):
        PARSERS[kind](SAMPLES[kind].decode().encode("utf-16"))
    latin = SAMPLES[kind].replace(b"</", b"\xe9</", 1)
    with pytest.raises(OssProtocolError):
        PARSERS[kind](latin)


def test_deep_nesting_is_refused() -> None:
    nested = b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH
    assert parse_document(nested).name == "a"
    with pytest.raises(OssProtocolError, match="nested deeper"):
        parse_document(b"<a>" + nested + b"</a>")
    with pytest.raises(OssProtocolError, match="nested deeper"):
        parse_document(b"<a>" * 1_000_000)


@EVERY_KIND
def test_a_document_without_end_is_refused_before_it_is_read(kind: str) -> None:
    with pytest.raises(OssProtocolError, match=f"document of {MAX_DOCUMENT_BYTES + 1} bytes"):
        PARSERS[kind](bytes(MAX_DOCUMENT_BYTES + 1))


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("ListMultipartUploadsResult", b"<Key>k%201</Key>", b""),
        ("ListMultipartUploadsResult", b"<UploadId>ID1</UploadId>", b"<UploadId></UploadId>"),
        ("ListMultipartUploadsResult", b"<IsTruncated>true</IsTruncated>", b""),
        ("ListMultipartUploadsResult", b">true<", b">TRUE<"),
        ("ListMultipartUploadsResult", b">true<", b">1<"),
        ("ListMultipartUploadsResult", b"<NextKeyMarker>k%2B2</NextKeyMarker>", b""),
        ("ListMultipartUploadsResult", b"k%201", b"k%2"),
        ("ListMultipartUploadsResult", b"k%201", b"k%zz"),
        ("ListMultipartUploadsResult", b"k%201", b"k%FF"),
        ("ListMultipartUploadsResult", b"k%201", b"k%C3%28"),
        ("ListMultipartUploadsResult", b"<EncodingType>url<", b"<EncodingType>base64<"),
        ("ListMultipartUploadsResult", b"<UploadId>ID1<", b"<UploadId>ID0</UploadId><UploadId>ID1<"),
        ("ListPartsResult", b"<Size>1<", b"<Size>-1<"),
        ("ListPartsResult", b"<Size>1<", b"<Size><"),
        ("ListPartsResult", b"<Size>1<", b"<Size>1.5<"),
        ("ListPartsResult", b"<Size>1<", b"<Size>1e9<"),
        ("ListPartsResult", b"<Size>1<", "<Size>\u0661<".encode()),
        ("ListPartsResult", b"<Size>1<", b"<Size>" + b"9" * 30 + b"<"),
        ("ListPartsResult", b"<PartNumber>5<", b"<PartNumber>five<"),
        ("ListPartsResult", b">7<", b">18446744073709551616<"),
        ("ListPartsResult", b"<HashCrc64ecma>7</HashCrc64ecma>", b""),
        ("ListPartsResult", b"<NextPartNumberMarker>5<", b"<NextPartNumberMarker><"),
        ("InitiateMultipartUploadResult", b"0004B9894A22E5B1888A1E29F8236E2D", b""),
        ("CompleteMultipartUploadResult", b'"AB-2"', b'"AB&#13;&#10;Injected: yes"'),
        ("CopyObjectResult", b'"AB"', '"é"'.encode()),
        ("CopyObjectResult", b'"AB"', b'"A"B"'),
        ("DeleteResult", b"<Key>c</Key>", b""),
    ],
)
def test_a_lying_document_is_refused(kind: str, old: bytes, new: bytes) -> None:
    assert old in SAMPLES[kind]
    with pytest.raises(OssProtocolError):
        PARSERS[kind](SAMPLES[kind].replace(old, new))


damage = st.sampled_from([b"<", b">", b"&", b"<!--", b"-->", b"]]>", b"<a>", b'"', b"%", b"\xff", b"\0", b""])


@EVERY_KIND
@given(data=st.data())
@settings(max_examples=150)
def test_any_damage_is_read_or_refused_and_raises_nothing_else(kind: str, data: st.DataObject) -> None:
    body = SAMPLES[kind]
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(
        st.sampled_from([b"<", b">", b"&", b"<!--", b"-->", b"]]>", b"<a>", b'"', b"%", b"\xff", b"\0", b""])
    )
    drop = data.draw(st.integers(0, 20))
    with suppress(OssProtocolError):
        PARSERS[kind](body[:at] + put + body[at + drop :])


# --- errors

ERROR = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
  <Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match.</Message>
  <RequestId>67D446A6F5F1B53939000000</RequestId><HostId>b.oss-cn-test.aliyuncs.com</HostId>
  <EC>0002-00000201</EC><OSSAccessKeyId>LTAI</OSSAccessKeyId><SignatureProvided>c2lnbmF0dXJl</SignatureProvided>
  <StringToSign>GET x-oss-security-token:SECRETTOKEN</StringToSign><SecurityToken>SECRETTOKEN</SecurityToken>
  <StringToSignBytes>47 45</StringToSignBytes><CanonicalRequest>x-oss-security-token:SECRETTOKEN</CanonicalRequest>
  <RecommendDoc>https://api.aliyun.com/troubleshoot</RecommendDoc><Bucket/>
</Error>"""


def test_an_error_says_what_and_why_and_no_secret() -> None:
    fault = xml.parse_error(ERROR)
    assert fault == (
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match.",
        "67D446A6F5F1B53939000000",
        "0002-00000201",
        "",
    )
    assert "SECRETTOKEN" not in repr(fault)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>502</html>", b"upstream connect error", b"<Error>", b"<ListBucketResult/>", b"\xff\xfe"),
        *(b"<!DOCTYPE Error><Error><Code>X</Code></Error>", b"<Error><Code>A</Code><Code>B</Code></Error>"),
    ],
)
def test_what_is_no_error_document_says_nothing(body: bytes) -> None:
    assert xml.parse_error(body) == ServiceFault() == ("", "", "", "", "")


def test_an_answer_to_head_has_its_error_in_a_header() -> None:
    head = ResponseHead(404, {"x-oss-err": "PEVycm9yPjxDb2RlPk5vU3VjaEtleTwvQ29kZT48L0Vycm9yPg=="}, 0, False, True)
    assert xml.parse_error(b"", head).code == "NoSuchKey"
    assert xml.parse_error(b"<Error><Code>Other</Code></Error>", head).code == "Other"
    assert xml.parse_error(b"", head._replace(headers={})) == ServiceFault()


def test_an_error_can_forge_no_line_and_is_not_endless() -> None:
    body = "<Error><Code>A&#10;B</Code><Message> x&#13;\n\u2028y\u0085 {}</Message></Error>".format("m" * 5000)
    fault = xml.parse_error(body.encode())
    assert fault.code == "A B"
    assert fault.message.startswith("x y mmm")
    assert len(fault.message) <= 1024


# --- what is sent

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
spoken = keys.filter(xml.carries_key)


@given(st.lists(spoken, min_size=1, max_size=5), st.booleans())
def test_keys_to_delete_are_read_back(found: list[str], quiet: bool) -> None:
    root = ElementTree.fromstring(xml.render_delete(found, quiet))
    assert [node.text for node in root.findall("Object/Key")] == found
    assert root.findtext("Quiet") == str(quiet).lower()
    ours = parse_document(xml.render_delete(found, quiet), "Delete")
    assert [entry.get("Key") for entry in ours.find_all("Object")] == found


@given(keys)
def test_a_key_is_sent_in_xml_only_if_xml_can_carry_it(key: str) -> None:
    speakable = all(char in "\t\n\r" or (char >= " " and char not in "\ufffe\uffff") for char in key)
    assert xml.carries_key(key) is speakable
    if not speakable:
        with pytest.raises(ValueError, match="can't be written in XML"):
            xml.render_delete([key])


def test_parts_are_sent_in_ascending_order_with_quoted_etags() -> None:
    parts = [UploadedPart(2, "B<&>", 1, 0), UploadedPart(1, "A", 1, 0)]
    assert xml.render_complete(parts) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUpload>'
        b'<Part><PartNumber>1</PartNumber><ETag>"A"</ETag></Part>'
        b'<Part><PartNumber>2</PartNumber><ETag>"B&lt;&amp;&gt;"</ETag></Part></CompleteMultipartUpload>'
    )


@pytest.mark.parametrize(("etag", "quoted"), [("AB", '"AB"'), ("*", "*"), ('"AB"', '"AB"'), ('W/"AB"', 'W/"AB"')])
def test_etags_are_quoted_once(etag: str, quoted: str) -> None:
    assert xml.quoted_etag(etag) == quoted
