"""The credential file and the environment: read anew, awaited while half-written, named in every error."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.credentials import Credentials, credentials_source
from osstorchconnector.credentials.chain import DefaultCredentials
from osstorchconnector.credentials.sources import MAX_FILE_BYTES, FileCredentials
from osstorchconnector.errors import OssCredentialsError

GOOD = {"AccessKeyId": "LTAI", "AccessKeySecret": "CANARY-SECRET"}


class Pauses:
    """Stands in for `time.sleep`: counts, and lets something happen meanwhile."""

    def __init__(self, *happenings: Callable[[], object]) -> None:
        self.seconds: list[float] = []
        self._happenings = iter(happenings)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        next(self._happenings, lambda: None)()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def write(path: Path, content: object) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def test_all_four_fields_of_the_file_are_read(path: Path) -> None:
    write(path, {**GOOD, "SecurityToken": "CANARY-TOKEN", "Expiration": "2024-08-02T15:04:05Z"})
    assert FileCredentials(path).fetch() == Credentials(
        access_key_id="LTAI", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN", expires_at=1722611045
    )


def test_token_and_expiration_are_optional_and_other_keys_do_not_matter(path: Path) -> None:
    write(path, {**GOOD, "Code": "Success", "LastUpdated": "2024-08-02T15:04:05Z"})
    assert FileCredentials(path).fetch() == Credentials(access_key_id="LTAI", access_key_secret="CANARY-SECRET")


def test_a_byte_order_mark_is_no_obstacle(path: Path) -> None:
    write(path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert FileCredentials(path).fetch().access_key_id == "LTAI"


def test_a_file_caught_half_written_is_read_again(path: Path) -> None:
    whole = json.dumps(GOOD).encode()
    write(path, whole[:20])
    pauses = Pauses(lambda: write(path, b""), lambda: write(path, whole))
    assert FileCredentials(path, sleep=pauses).fetch().access_key_id == "LTAI"
    assert pauses.seconds == [0.05, 0.1]


def test_a_file_that_stays_half_written_is_an_error_that_names_file_and_place(path: Path) -> None:
    write(path, b'{"AccessKeyId": "LTAI",\n "AccessKeySecret": "CANARY')
    pauses = Pauses()
    with pytest.raises(OssCredentialsError) as caught:
        FileCredentials(path, sleep=pauses).fetch()
    assert str(caught.value) == f"the credential file {path}: not valid JSON (line 2, column 21)"
    assert 1 < sum(pauses.seconds) < 2


@pytest.mark.parametrize("begun_as", ["missing", "empty", "half", "a link to nothing"])
def test_who_begins_while_the_file_is_being_written_has_patience_for_a_second(path: Path, begun_as: str) -> None:
    whole = json.dumps(GOOD).encode()
    if begun_as == "a link to nothing":
        path.symlink_to(path.with_name("target"))
    elif begun_as != "missing":
        write(path, b"" if begun_as == "empty" else whole[:30])

    def finish() -> None:
        path.unlink(missing_ok=True)
        write(path, whole)

    nothing = [lambda: None] * 4
    pauses = Pauses(*nothing, finish)
    assert FileCredentials(path, sleep=pauses).fetch().access_key_id == "LTAI"
    assert sum(pauses.seconds) > 1


def test_who_has_read_the_file_before_does_not_wait_for_long(path: Path) -> None:
    write(path, GOOD)
    pauses = Pauses()
    source = FileCredentials(path, sleep=pauses)
    source.fetch()
    path.unlink()
    with pytest.raises(OssCredentialsError, match="No such file"):
        source.fetch()
    assert sum(pauses.seconds) < 0.5


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "must hold a JSON object"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        ({}, "AccessKeyId is missing or empty"),
        ({"AccessKeyId": "LTAI"}, "AccessKeySecret is missing or empty"),
        ({**GOOD, "AccessKeySecret": ["CANARY"]}, "AccessKeySecret must be a string, not list"),
        ({**GOOD, "SecurityToken": 7}, "SecurityToken must be a string, not int"),
        ({**GOOD, "Expiration": "CANARY"}, "Expiration must be a time like 2024-08-02T15:04:05Z"),
        (b" " * (MAX_FILE_BYTES + 1), "longer than"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_and_key_and_no_value(
    path: Path, content: object, complaint: str
) -> None:
    write(path, content)
    with pytest.raises(OssCredentialsError) as caught:
        FileCredentials(path, sleep=Pauses()).fetch()
    assert str(caught.value).startswith(f"the credential file {path}: {complaint}")
    assert "CANARY" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_errors_that_name_them(path: Path) -> None:
    with pytest.raises(OssCredentialsError, match=f"the credential file {path}: No such file"):
        FileCredentials(path, sleep=Pauses()).fetch()
    path.mkdir()
    with pytest.raises(OssCredentialsError, match=f"the credential file {path}: Is a directory"):
        FileCredentials(path).fetch()


@pytest.mark.parametrize("wrong", ["a\0b", b"/a", 7, "~nobody-of-this-name/credentials"])
def test_what_is_no_path_is_an_error(wrong: Any) -> None:
    with pytest.raises(OssCredentialsError, match="cred_path names no file"):
        credentials_source(wrong)


def test_the_file_is_found_from_any_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(path, GOOD)
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    relative, at_home = FileCredentials("credentials"), FileCredentials("~/credentials")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert relative.fetch() == at_home.fetch() == FileCredentials(path).fetch()


def test_the_mark_changes_with_the_file_and_only_then(path: Path) -> None:
    source = FileCredentials(path)
    missing = source.mark()
    write(path, GOOD)
    first = source.mark()
    assert first != missing
    assert source.mark() == first
    os.utime(path, ns=(1, 1))
    touched = source.mark()
    replacement = path.with_name("new")
    write(replacement, GOOD)
    os.utime(replacement, ns=(1, 1))
    replacement.replace(path)
    assert len({missing, first, touched, source.mark()}) == 4


def test_a_file_source_pickles_as_its_path(path: Path) -> None:
    write(path, GOOD)
    source = FileCredentials(path)
    source.fetch()
    text = pickle.dumps(source)
    assert b"CANARY" not in text
    assert pickle.loads(text).fetch() == source.fetch()


ENVIRONMENT = {"OSS_ACCESS_KEY_ID": "ENV", "OSS_ACCESS_KEY_SECRET": "CANARY-SECRET"}


def test_without_parameters_the_environment_counts_before_the_default_file(path: Path) -> None:
    write(path, GOOD)
    environment = {**ENVIRONMENT, "OSS_SESSION_TOKEN": "CANARY-TOKEN"}
    source = DefaultCredentials(environment, str(path))
    assert source.fetch() == Credentials(
        access_key_id="ENV", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN"
    )
    assert "environment variables" in str(source)
    environment.clear()
    assert source.fetch().access_key_id == "LTAI"
    assert str(source) == f"the credential file {path}"


@pytest.mark.parametrize("name", ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"])
def test_half_an_environment_is_an_error_that_names_the_other_half(path: Path, name: str) -> None:
    write(path, GOOD)
    (missing,) = set(ENVIRONMENT) - {name}
    with pytest.raises(OssCredentialsError, match=f"the environment variable {missing} is missing or empty"):
        DefaultCredentials({name: "CANARY"}, str(path)).fetch()


def test_no_credentials_anywhere_is_an_error_that_names_every_way_to_give_some(path: Path) -> None:
    source = DefaultCredentials({}, str(path))
    with pytest.raises(OssCredentialsError) as caught:
        source.fetch()
    for way in ("cred_path=", "cred_provider=", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", str(path)):
        assert way in str(caught.value)
    assert "environment" in str(source)


def test_the_mark_of_the_environment_tells_of_a_change_and_holds_no_secret(path: Path) -> None:
    environment = dict(ENVIRONMENT)
    source = DefaultCredentials(environment, str(path))
    marks = [source.mark(), source.mark()]
    environment["OSS_SESSION_TOKEN"] = "CANARY-TOKEN"
    marks.append(source.mark())
    environment.clear()
    marks.append(source.mark())
    write(path, GOOD)
    marks.append(source.mark())
    assert marks[0] == marks[1]
    assert len(set(marks)) == 4
    assert "CANARY" not in repr(marks)


def test_the_environment_pickles_as_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source = credentials_source()
    assert source.fetch().access_key_id == "ENV"
    text = pickle.dumps(source)
    assert b"CANARY" not in text
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "OTHER")
    assert pickle.loads(text).fetch().access_key_id == "OTHER"


def test_a_path_makes_a_file_source_and_a_source_is_taken_as_it_is(path: Path) -> None:
    assert isinstance(credentials_source(path), FileCredentials)
    source = credentials_source(str(path))
    assert credentials_source(cred_provider=source) is source


def test_path_and_provider_together_are_refused(path: Path) -> None:
    with pytest.raises(OssCredentialsError, match="cred_path= and cred_provider= are given"):
        credentials_source(path, lambda: None)


@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from([*GOOD, "SecurityToken", "Expiration"]), st.text()))
def test_any_file_gives_credentials_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn"
    write(path, content)
    try:
        found = str(FileCredentials(path, sleep=Pauses()).fetch())
    except OssCredentialsError as error:
        found = str(error)
    assert found.startswith(("Credentials(", f"the credential file {path}: "))
