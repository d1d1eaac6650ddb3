from __future__ import annotations

import contextlib
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator import documents
from osstorchconnector.emulator.documents import PartName
from osstorchconnector.emulator.refusals import Refused

SPEAKABLE = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
XML_TEXT = st.text(SPEAKABLE)


@settings(max_examples=60, deadline=None)
@given(XML_TEXT)
def test_text_survives_a_document(text: str) -> None:
    document = documents.document("Root", documents.fields({"Key": text, "Absent": None}))
    assert [(child.tag, child.text or "") for child in ElementTree.fromstring(document)] == [("Key", text)]


def test_line_ends_and_tabs_survive_a_document() -> None:
    document = documents.document("Root", documents.fields({"Key": "a\tb\nc\rd\r\n"}))
    assert ElementTree.fromstring(document).findtext("Key") == "a\tb\nc\rd\r\n"


@pytest.mark.parametrize("character", ["\0", "\x01", "\x0b", "\x1f"])
def test_what_xml_cannot_carry_breaks_a_plain_document_and_not_an_encoded_one(character: str) -> None:
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(documents.document("Root", documents.fields({"Key": character})))
    encoded = documents.url_encoded(character)
    ElementTree.fromstring(documents.document("Root", documents.fields({"Key": encoded})))


def test_encoding_leaves_no_plus_that_could_be_a_space() -> None:
    assert documents.url_encoded("a b+c/d%é~") == "a%20b%2Bc/d%25%C3%A9~"


def test_an_error_shows_a_question_mark_for_what_xml_cannot_carry() -> None:
    refused = Refused("NoSuchKey", extras={"Key": "a\0b\ufffe<\r"})
    error = ElementTree.fromstring(documents.error_document(refused, request_id="ID", host="h"))
    assert [(child.tag, child.text) for child in error] == [
        ("Code", "NoSuchKey"),
        ("Message", "The specified key does not exist."),
        ("RequestId", "ID"),
        ("HostId", "h"),
        ("Key", "a?b?<\r"),
        ("EC", "0026-00000001"),
    ]


def completed(*parts: str) -> bytes:
    return documents.document("CompleteMultipartUpload", *parts)


def test_parts_are_read_with_quoted_and_bare_etags() -> None:
    body = completed(
        '<Part><PartNumber>1</PartNumber><ETag>"ab"</ETag></Part>',
        "\n  <Part><ETag>&quot;CD&quot;</ETag><PartNumber> 3 </PartNumber></Part>\n",
    )
    assert documents.parse_complete(body) == [PartName(1, "AB"), PartName(3, "CD")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no xml",
        b"<Other/>",
        completed(),
        completed("<Part><PartNumber>1</PartNumber></Part>"),
        completed("<Part><PartNumber>one</PartNumber><ETag>a</ETag></Part>"),
        b"<CompleteMultipartUpload><Part>",
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + completed("<Part><PartNumber>1</PartNumber><ETag>&b;</ETag></Part>"),
        b"<CompleteMultipartUpload>" + b"<a>" * 20 + b"</a>" * 20 + b"</CompleteMultipartUpload>",
        b'<?xml version="1.0" encoding="utf-7"?><CompleteMultipartUpload/>',
    ],
)
def test_what_does_not_list_parts_is_malformed(body: bytes) -> None:
    with pytest.raises(Refused, match="MalformedXML"):
        documents.parse_complete(body)


def deletion(*keys: str, quiet: str = "") -> bytes:
    rows = [documents.element("Object", documents.fields({"Key": key})) for key in keys]
    return documents.document("Delete", quiet, *rows)


def test_keys_to_delete_are_read_as_they_stand() -> None:
    keys = ["a%20b", "<&>", "é", " "]
    assert documents.parse_delete(deletion(*keys)) == (keys, False)
    assert documents.parse_delete(deletion("k", quiet="<Quiet> true </Quiet>")) == (["k"], True)


CONTROLS = st.sampled_from([chr(number) for number in range(1, 32)])
LETTERS = CONTROLS | SPEAKABLE | st.just("\U000f0001")  # the last stands where control characters are hidden


def in_references(text: str) -> str:
    """Return a text as alibabacloud-oss-v2 writes it."""
    return "".join(f"&#{ord(letter):02d};" if letter < " " else documents.escape(letter) for letter in text)


def in_raw_bytes(text: str) -> str:
    """Return a text as oss2 and ali-oss write it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(LETTERS, min_size=1), min_size=1, max_size=5))
def test_keys_with_control_characters_are_read_as_they_are(keys: list[str]) -> None:
    rows = [f"<Object><Key>{in_references(key)}</Key></Object>" for key in keys]
    assert documents.parse_delete(documents.document("Delete", *rows)).keys == keys
    keys = [key.replace("\r\n", "\n") for key in keys]  # XML makes one line end of it
    rows = [f"<Object><Key>{in_raw_bytes(key)}</Key></Object>" for key in keys]
    assert documents.parse_delete(documents.document("Delete", *rows)).keys == keys


def test_hexadecimal_references_are_read_too() -> None:
    body = documents.document("Delete", "<Object><Key>a&#x1;b&#x1F;&#x041;</Key></Object>")
    assert documents.parse_delete(body).keys == ["a\x01b\x1fA"]


def test_line_ends_between_elements_do_no_harm() -> None:
    body = (
        b'<?xml version="1.0"?>\r\n<Delete>\r\n<Quiet>true\r\n</Quiet><Object>\r\n<Key>\x01</Key>\r\n</Object></Delete>'
    )
    assert documents.parse_delete(body) == (["\x01"], True)


@pytest.mark.parametrize("version", ["CAEQMhiBgIDXiaaB0BYiIGQz", "1"])
def test_a_version_that_there_is_not_is_not_deleted(version: str) -> None:
    row = documents.element("Object", documents.fields({"Key": "k", "VersionId": version}))
    with pytest.raises(Refused, match="NotImplemented"):
        documents.parse_delete(documents.document("Delete", row))


@pytest.mark.parametrize("body", [deletion(), deletion(*["k"] * 1001), deletion(""), b"<Delete><Object/></Delete>"])
def test_what_does_not_list_keys_is_malformed(body: bytes) -> None:
    with pytest.raises(Refused, match="MalformedXML"):
        documents.parse_delete(body)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.text('<>/ CompleteMultipartUploadDeleteObjectKey&;![]"', max_size=200).map(str.encode)
)
def test_whatever_comes_is_understood_or_malformed(body: bytes) -> None:
    for parse in (documents.parse_complete, documents.parse_delete):
        with contextlib.suppress(Refused):
            parse(body)
