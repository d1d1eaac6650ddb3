"""Writes docs/errors.md from the table of advice and the docstrings of the errors. `--check` only compares."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from osstorchconnector import errors
from osstorchconnector.client.error_texts import ADVICE, ON_THE_WAY, Advice
from osstorchconnector.safetensors import failures

PAGE = Path(__file__).with_name("errors.md")

HEAD = """\
# Errors

Every error of this library is an `OssError`. Its text says what was tried and on which object, what OSS answered
(status, code, message, request id, EC, number of attempts), and what to do. An error of a request has at most 400
letters: OSS's words are cut first, then the middle of a long key. The audit log has the whole key.

The first part of this page is about OSS's codes, the second about what fails on the way, the third about the classes of
errors. OSS's own pages about a code are found by its EC. `osstorch doctor oss://bucket/prefix/` looks for the cause by
itself.

This page is made by `python docs/make_errors.py`.

"""

# What the classes have in common with each other is in the tree at the top of `osstorchconnector/errors.py`.
TODO = {
    "OssConfigError": "Nothing was sent. The text names the file, the key and the value, or the argument.",
    "OssUriError": "Write `oss://bucket/key`. Keys are taken as they are: don't percent-encode them.",
    "OssCredentialsError": (
        "The text names the place that was looked at. [Credentials](credentials.md) lists all places in their order."
    ),
    "OssManifestError": "The text names the manifest and the line. [README](../README.md) shows the formats.",
    "OssTarError": (
        "The text says whether the tar or its index is wrong, and how. A compressed tar must be decompressed first, "
        "and a damaged one made again. If the tar was replaced since its index was made, make the index again "
        "([Tar shards](tar.md#packing))."
    ),
    "OssUsageError": "The text says what to do instead.",
    "OssTransformError": (
        "Your `transform` raised. Look at `__cause__`; the text names the object, so you can fetch it with "
        "`OssClient.get`. `on_error=` leaves such objects out."
    ),
    "OssConnectionError": (
        "Check the endpoint's name, the network, the proxy and the firewall: [UnknownHost](#unknownhost), "
        "[NoConnection](#noconnection), [BrokenConnection](#brokenconnection), [NoTls](#notls) and "
        "[UntrustedCertificate](#untrustedcertificate)."
    ),
    "OssProtocolError": (
        "Something on the way is not OSS: a proxy's login page, another server behind the name, a load balancer. "
        "The text shows what came."
    ),
    "OssTimeoutError": "The network or OSS is slow, or `operationTimeout` is too short for the size of the objects.",
    "OssIntegrityError": (
        "The bytes that arrived are not the object's. It was fetched again before this was raised. If it stays, "
        "the object itself is damaged, or memory or a proxy on this machine's way is broken."
    ),
    "OssServiceError": "OSS answered with an error. `status`, `code` and `request_id` are attributes.",
    "OssNotFoundError": "See [NoSuchKey](#nosuchkey), [NoSuchBucket](#nosuchbucket) and [NoSuchUpload](#nosuchupload).",
    "OssPermissionError": (
        "See [AccessDenied](#accessdenied), [SignatureDoesNotMatch](#signaturedoesnotmatch), "
        "[InvalidAccessKeyId](#invalidaccesskeyid) and [SecurityTokenExpired](#securitytokenexpired)."
    ),
    "OssObjectChangedError": (
        "Somebody wrote the object while it was read. Read it from the beginning, or write new objects under new names."
    ),
    "OssConflictError": "See [PositionNotEqualToLength](#positionnotequaltolength) and "
    "[ObjectNotAppendable](#objectnotappendable).",
    "OssExistsError": "See [FileAlreadyExists](#filealreadyexists).",
    "OssThrottledError": "See [ServiceUnavailable](#serviceunavailable) and [QpsLimitExceeded](#qpslimitexceeded).",
    "OssSafetensorError": (
        "The text says what is wrong with the file, or which tensor has a dtype that the installed torch lacks. "
        "[What a file must be](safetensors.md#what-a-file-must-be) has the rules. If the object is another kind of "
        "file, correct the URI; if the file was cut off before it was uploaded, save it again. The other tensors of a "
        "file with an unknown dtype can be read with `safe_open`."
    ),
    "OssTensorNotFoundError": "The text names the tensor and the file. `keys()` of the open file lists all names.",
}


def page() -> str:
    """Return the text of the page."""
    codes, on_the_way = map(_sections, (ADVICE, ON_THE_WAY))
    classes = [f"### {name}\n\n{_wrapped(_about(name))}\n\n{_wrapped(text)}\n" for name, text in TODO.items()]
    parts = {"What OSS answers": codes, "What fails on the way": on_the_way, "Classes of errors": classes}
    return HEAD + "\n".join(f"## {title}\n\n{chr(10).join(sections)}" for title, sections in parts.items())


def _sections(table: Mapping[str, Advice]) -> list[str]:
    return [f"### {name}\n\nTo do: {todo}.\n\n{_wrapped(causes)}\n" for name, (todo, causes) in sorted(table.items())]


def _about(name: str) -> str:
    kind = getattr(errors if hasattr(errors, name) else failures, name)
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 132, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/errors.md is not up to date: run python docs/make_errors.py")
