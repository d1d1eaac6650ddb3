"""docs/errors.md says something about every error that a user can meet."""

from __future__ import annotations

import inspect

import pytest
from scripts import ROOT, run_python

from osstorchconnector import errors
from osstorchconnector.client.error_texts import ADVICE, advice
from osstorchconnector.client.retry import _REMEDIES
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


def test_an_unknown_code_has_no_advice() -> None:
    assert advice("SomethingNew", "", "", "", "") == ""
