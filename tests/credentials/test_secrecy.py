"""Canary secrets go in; nothing that comes out, tracebacks with all their variables included, may show them."""

from __future__ import annotations

import io
import logging
import pickle
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import oss2.credentials
import pytest
from exposure import assert_nothing_exposed

import osstorchconnector
from osstorchconnector.credentials import (
    Credentials,
    CredentialsCache,
    DefaultCredentials,
    FileCredentials,
    credentials_source,
)
from osstorchconnector.errors import OssCredentialsError

PACKAGE = str(Path(osstorchconnector.__file__).parent)
KEYS = b'"AccessKeyId": "LTAI", "AccessKeySecret": "CANARY-SECRET", "SecurityToken": "CANARY-TOKEN"'
WRONG_FILES = {
    "torn": b"{" + KEYS,
    "doubled": b"{" + KEYS + b"}}",
    "no object": b"[{" + KEYS + b"}]",
    "blank": b'{"AccessKeyId": "LTAI", "AccessKeySecret": "CANARY SECRET"}',
    "number": b'{"AccessKeyId": ["CANARY"], "AccessKeySecret": "CANARY-SECRET"}',
    "id missing": b'{"AccessKeySecret": "CANARY-SECRET"}',
    "expiration": b"{" + KEYS + b', "Expiration": "CANARY"}',
    "no utf-8": b"{" + KEYS + b', "\xff": 1}',
    "deep": b"{" + KEYS + b', "x": ' + b"[" * 100_000,
}


def everything_shown(error: BaseException) -> str:
    """Return the traceback of an error and of what led to it, with the variables of each of our own frames."""
    shown = []
    found: BaseException | None = error
    while found is not None:
        report = traceback.TracebackException.from_exception(found, capture_locals=True)
        shown += report.format_exception_only()
        shown += [f"{frame.name}: {frame.locals}" for frame in report.stack if frame.filename.startswith(PACKAGE)]
        found = found.__cause__ or found.__context__
    assert any(": {" in line for line in shown)
    return "\n".join(shown)


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(OssCredentialsError) as caught:
        call()
    assert_nothing_exposed(caught.value, ["CANARY"])
    return everything_shown(caught.value)


@pytest.mark.parametrize("content", WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_wrong_file_shows_none_of_its_contents(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(content)
    source = FileCredentials(path, sleep=lambda _: None)
    shown = failure(source.fetch) + failure(CredentialsCache(source).refresh)
    assert "CANARY" not in shown
    assert str(path) in shown


def test_half_an_environment_shows_nothing_of_that_half() -> None:
    for environment in ({"OSS_ACCESS_KEY_SECRET": "CANARY"}, {"OSS_ACCESS_KEY_ID": "a", "OSS_SESSION_TOKEN": "CANARY"}):
        assert "CANARY" not in failure(DefaultCredentials(environment, "/nowhere").fetch)


@pytest.mark.parametrize(
    "provider",
    [
        oss2.credentials.StaticCredentialsProvider("", "CANARY-SECRET", "CANARY-TOKEN"),
        oss2.credentials.StaticCredentialsProvider("a", "CANARY SECRET", "CANARY-TOKEN"),
        lambda: oss2.credentials.Credentials("a", "CANARY-SECRET", ["CANARY"]),
    ],
    ids=["no id", "blank", "no text"],
)
def test_a_wrong_provider_shows_nothing_of_its_answer(provider: object) -> None:
    source = credentials_source(cred_provider=provider)
    assert "CANARY" not in failure(source.fetch) + failure(CredentialsCache(source).refresh) + repr(source)


def test_a_failure_after_success_shows_nothing_of_what_is_held(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(b"{" + KEYS + b', "Expiration": "1970-01-01T00:10:00Z"}')
    now = 0.0
    cache = CredentialsCache(FileCredentials(path, sleep=lambda _: None), clock=lambda: now)
    held = cache.refresh()
    now = 1000.0
    assert "CANARY" not in failure(cache.refresh) + failure(lambda: cache.refresh(rejected=held))
    path.write_bytes(b"{" + KEYS)
    assert "CANARY" not in failure(cache.refresh) + failure(lambda: pickle.dumps(held))


def test_no_log_line_and_no_printed_object_shows_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(b"{" + KEYS + b"}")
    now = 0.0
    source = FileCredentials(path, sleep=lambda _: None)
    cache = CredentialsCache(source, clock=lambda: now)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger("osstorchconnector").addHandler(handler)
    try:
        shown = [repr(each) for each in (source, cache, cache.refresh(), cache.current(), vars(source), vars(cache))]
        path.write_bytes(b"{" + KEYS)
        now = 5.0
        shown.append(repr(cache.refresh()))
    finally:
        logging.getLogger("osstorchconnector").removeHandler(handler)
    assert "stay in use" in written.getvalue()
    assert "CANARY" not in "".join([written.getvalue(), *shown])


def test_a_source_that_was_used_pickles_without_what_it_gave(handovers: Path) -> None:
    provider = oss2.credentials.StaticCredentialsProvider("LTAI", "CANARY-SECRET", "CANARY-TOKEN")
    source = credentials_source(cred_provider=provider)
    source.fetch()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert b"CANARY" not in pickle.dumps(source, protocol)
    assert "CANARY" not in "".join(path.name for path in handovers.iterdir())


@dataclass
class Talkative:
    """A provider, and its own answer, that tell all they have when they are printed."""

    access_key_id: str = "LTAI"
    access_key_secret: str = "CANARY-SECRET"
    security_token: str = "CANARY-TOKEN"
    fails_at: str = ""

    def get_credentials(self) -> Talkative:
        if self.fails_at == "asking":
            raise RuntimeError("no answer")
        return self

    def get_security_token(self) -> str:
        if self.fails_at == "reading":
            raise RuntimeError("no token")
        return self.security_token


@pytest.mark.parametrize("fails_at", ["asking", "reading"])
def test_a_provider_that_shows_all_it_has_is_not_shown(fails_at: str) -> None:
    provider = Talkative(fails_at=fails_at)
    source = credentials_source(cred_provider=provider)
    with pytest.raises(OssCredentialsError, match="Talkative failed: RuntimeError") as caught:
        CredentialsCache(source).refresh()
    # its own frame shows it, which is its own affair
    assert_nothing_exposed(caught.value, ["CANARY"])


def test_a_provider_that_can_not_be_handed_over_is_not_shown(handovers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = credentials_source(cred_provider=Talkative())
    monkeypatch.setattr(tempfile, "tempdir", str(handovers / "missing"))
    assert "CANARY" not in failure(lambda: pickle.dumps(source))


def test_a_provider_that_is_not_known_where_it_arrives_is_not_shown(handovers: Path) -> None:
    source = credentials_source(cred_provider=Talkative())
    pickled = pickle.dumps(source)
    file = next(handovers.iterdir())
    file.write_bytes(file.read_bytes().replace(b"Talkative", b"Forgotten"))
    with pytest.raises(AttributeError) as caught:
        pickle.loads(pickled)
    assert_nothing_exposed(caught.value, ["CANARY"])


def test_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "CANARY with a blank")
    assert "CANARY" not in failure(credentials_source().fetch)


def test_credentials_show_no_secret_wherever_they_are_taken_apart() -> None:
    held = Credentials(access_key_id="LTAI", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN")
    assert "CANARY" not in repr([vars(held), held.access_key_secret, (held.security_token,)])
    assert f"{held.access_key_secret} {held.security_token}" == "CANARY-SECRET CANARY-TOKEN"
