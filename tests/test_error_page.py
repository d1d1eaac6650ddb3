"""docs/errors.md says something about every error that a user can meet."""

from __future__ import annotations

import inspect

import pytest
from scripts import ROOT, run_python

from osstorchconnector import errors
from osstorchconnector.client import sender
from osstorchconnector.client.error_texts import (
    ADVICE,
    MAX_LETTERS,
    ON_THE_WAY,
    Story,
    advice,
    circumstances,
    see,
)
from osstorchconnector.client.retry import _REMEDIES, _UNREACHED
from osstorchconnector.emulator.refusals import CODES
from osstorchconnector.safetensors import failures

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
# What only other clients of the emulator send: forms, tags, links, encryption; and an answer that is no error here.
NOT_SENT = frozenset(
    {
        "FieldItemTooLong",
        "IncorrectNumberOfFilesInPOSTRequest",
        "InvalidEncryptionAlgorithmError",
        "InvalidPartOrder",
        "InvalidPolicyDocument",
        "InvalidTag",
        "InvalidTargetType",
        "MalformedPOSTRequest",
        "MalformedXML",
        "MethodNotAllowed",
        "MissingArgument",
        "MissingContentLength",
        "NotModified",
        "NotSymlink",
        "RequestIsNotMultiPartContent",
    }
)


def test_the_page_is_up_to_date() -> None:
    assert run_python(ROOT / "docs" / "make_errors.py", "--check") == ("", "")


def test_every_code_that_this_library_can_meet_has_its_section() -> None:
    assert (CODES | set(_REMEDIES)) - NOT_SENT <= set(ADVICE)
    assert not NOT_SENT & set(ADVICE)


@pytest.mark.parametrize(
    "name",
    [
        name
        for module in (errors, failures)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and name != "OssError"
    ],
)
def test_every_class_has_its_section(name: str) -> None:
    assert f"\n### {name}\n" in PAGE


@pytest.mark.parametrize("code", ADVICE)
def test_an_error_leads_to_its_section(code: str) -> None:
    said = advice(code, "", "", "", "")
    assert said == f"{ADVICE[code].todo} (docs/errors.md#{code.lower()})"
    assert f"\n### {code}\n" in PAGE
    assert len(said) < 150


@pytest.mark.parametrize("heading", ON_THE_WAY)
def test_what_fails_on_the_way_has_its_section(heading: str) -> None:
    assert see(heading) == f"{ON_THE_WAY[heading].todo} (docs/errors.md#{heading.lower()})"
    assert f"\n### {heading}\n" in PAGE
    assert heading not in ADVICE


@pytest.mark.parametrize(
    "place", ["oss://" + "b" * 63 + "/" + "k" * 1023, "oss://bucket/\n\0" + "é" * 500, "oss://b-1/k"]
)
@pytest.mark.parametrize("heading", [*ADVICE, *ON_THE_WAY])
def test_no_error_of_a_request_is_longer_than_four_hundred_letters(heading: str, place: str) -> None:
    out_of_time = "the time allowed, 86400 s (operationTimeout), leaves none for another attempt"
    for reason in ("", out_of_time, sender._NO_BUDGET, _UNREACHED):
        for request_id in ("", "5C3D9175B6FC201293AD4890", "R" * 1000):
            for came in (f"something that is not OSS answered 503 {heading}", "the connection broke: " + "x" * 1000):
                facts = circumstances(1000, request_id, "0002-00000226")
                story = Story("InitiateMultipartUpload", place, came, facts, see(heading), message="m" * 500)
                text = story.text(reason)
                assert len(text) <= MAX_LETTERS
                assert text.startswith(f"InitiateMultipartUpload {place[:10]}")
                assert text.endswith(f"docs/errors.md#{heading.lower()}{'' if '; see docs' in text else ')'}")
                assert text.index(place[:10]) < text.index(came[:10]) < text.index(facts) < text.index("docs/errors.md")
                assert reason in text


def test_a_long_key_is_shown_with_both_ends_and_a_message_as_far_as_it_fits() -> None:
    key = f"images/{'x' * 900}/0001.jpg"
    facts = circumstances(1, "5C3D9175B6FC201293AD4890", "0026-00000001")
    text = Story(
        "GetObject", f"oss://bucket/{key}", "OSS answered 404 NoSuchKey", facts, see("NoSuchKey"), "gone"
    ).text()
    assert text.startswith("GetObject oss://bucket/images/xxx")
    assert "xxx/0001.jpg: OSS answered 404 NoSuchKey (gone) [request id 5C3D" in text
    assert "x[...]x" in text


def test_an_unknown_code_has_no_advice() -> None:
    assert advice("SomethingNew", "", "", "", "") == ""
