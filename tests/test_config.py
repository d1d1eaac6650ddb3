"""Every key of the config file works; what is unknown is named, and what is wrong is an error that says where."""

from __future__ import annotations

import json
import logging
import os
import pickle
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.config import KEYS, MAX_CONFIG_BYTES, Config, TransferConfig, load_config, parse_config
from osstorchconnector.errors import OssConfigError

MIB = 1 << 20

# Key, a value that is not the default, the attribute of Config, and what it then is (None: the value itself).
EVERY_KEY: list[tuple[str, Any, str, Any]] = [
    ("logLevel", 3, "log_level", None),
    ("logPath", "/tmp/a.log", "log_path", None),
    ("auditPath", "", "audit_path", None),
    ("datasetConfig.prefetchConcurrency", 7, "dataset.prefetch_concurrency", None),
    ("datasetConfig.prefetchWorker", 3, "dataset.prefetch_worker", None),
    ("datasetConfig.enableFastList", True, "fast_list", None),
    ("datasetConfig.listConcurrency", 5, "list_concurrency", None),
    ("datasetConfig.listWorker", 4, "list_worker", None),
    ("checkpointConfig.prefetchConcurrency", 9, "checkpoint.prefetch_concurrency", None),
    ("checkpointConfig.prefetchWorker", 1, "checkpoint.prefetch_worker", None),
    ("checkpointConfig.uploadConcurrency", 2, "checkpoint.upload_concurrency", None),
    ("transport", "aiohttp", "transport", None),
    ("caFile", __file__, "ca_file", None),
    ("signatureVersion", "v1", "signature_version", None),
    ("addressing", "cname", "addressing", None),
    ("uploadMemory", 64 * MIB, "upload_memory_bytes", None),
    ("partSize", 5 * MIB, "part_bytes", None),
    ("indexDir", "~/index", "index_dir", str(Path("~/index").expanduser())),
    ("connectTimeout", 1.5, "connect_timeout_seconds", None),
    ("readTimeout", 2, "read_timeout_seconds", 2.0),
    ("operationTimeout", 600, "operation_timeout_seconds", 600.0),
    ("maxAttempts", 1, "max_attempts", None),
    ("retryBaseDelay", 0, "retry_base_delay_seconds", 0.0),
    ("retryMaxDelay", 0.5, "retry_max_delay_seconds", None),
    ("retryBudget", 0, "retry_budget", None),
    ("hedgeReads", True, "hedge_reads", None),
    ("cred", "profile:research", "cred", None),
]


def document(name: str, value: object) -> dict[str, object]:
    section, dot, inner = name.rpartition(".")
    return {section: {inner: value}} if dot else {name: value}


def parsed(name: str, value: object) -> Config:
    return parse_config(json.dumps(document(name, value)).encode(), "a.json")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_config(content: object) -> Path:
        path = tmp_path / "config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_config


@pytest.mark.parametrize(("name", "value", "attribute", "expected"), EVERY_KEY, ids=[row[0] for row in EVERY_KEY])
def test_every_key_reaches_its_field_and_no_other(name: str, value: object, attribute: str, expected: object) -> None:
    config = parsed(name, value)
    assert attrgetter(attribute)(config) == (value if expected is None else expected)
    assert attrgetter(attribute)(config) != attrgetter(attribute)(Config())
    others = [row[2] for row in EVERY_KEY if row[2] != attribute]
    assert [attrgetter(other)(config) for other in others] == [attrgetter(other)(Config()) for other in others]
    assert config.configured == {name}


def test_the_table_above_is_complete() -> None:
    assert {row[0] for row in EVERY_KEY} == set(KEYS)
    reached = {row[2].partition(".")[0] for row in EVERY_KEY}
    assert reached == {each.name for each in fields(Config)} - {"configured"}


def test_the_defaults_are_those_of_the_cpp_connector_except_that_what_is_in_flight_adapts() -> None:
    config = Config()
    assert (config.log_level, config.log_path) == (1, "/var/log/oss-connector/connector.log")
    assert config.audit_path == "/var/log/oss-connector/audit.log"
    adapting = TransferConfig(prefetch_concurrency="auto", prefetch_worker=2, upload_concurrency="auto")
    assert (config.dataset, config.checkpoint) == (adapting, replace(adapting, prefetch_worker=4))
    assert (config.list_concurrency, config.list_worker) == ("auto", 1)


@pytest.mark.parametrize("value", [True, False, "auto"])
def test_what_finds_itself_may_be_switched_on_and_off(value: object) -> None:
    assert parsed("datasetConfig.enableFastList", value).fast_list == value
    assert parsed("hedgeReads", value).hedge_reads == value
    assert (Config().fast_list, Config().hedge_reads) == ("auto", False)


def test_the_file_of_the_cpp_connectors_readme_is_read_without_a_warning(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        {
            "logLevel": 1,
            "logPath": "/var/log/oss-connector/connector.log",
            "auditPath": "/var/log/oss-connector/audit.log",
            "datasetConfig": {"prefetchConcurrency": 24, "prefetchWorker": 2},
            "checkpointConfig": {"prefetchConcurrency": 24, "prefetchWorker": 4, "uploadConcurrency": 64},
        }
    )
    expected = Config(
        dataset=TransferConfig(prefetch_concurrency=24),
        checkpoint=TransferConfig(prefetch_concurrency=24, prefetch_worker=4, upload_concurrency=64),
    )
    assert load_config(str(path)) == expected
    assert not caplog.records


CONCURRENCY = (
    "datasetConfig.prefetchConcurrency",
    "datasetConfig.listConcurrency",
    "checkpointConfig.prefetchConcurrency",
    "checkpointConfig.uploadConcurrency",
)


@pytest.mark.parametrize("name", CONCURRENCY)
def test_what_is_in_flight_may_be_said_to_adapt(name: str) -> None:
    assert parsed(name, "auto") == Config()


def test_an_empty_object_gives_the_defaults(write: Any) -> None:
    assert load_config(write({})) == Config()


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path_the_default_file_counts_if_it_is_there(write: Any, tmp_path: Path, path: str | None) -> None:
    assert load_config(path, default_path=str(tmp_path / "none" / "config.json"), environ={}) == Config()
    assert load_config(path, default_path=str(write({"maxAttempts": 3})), environ={}).max_attempts == 3


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path_the_file_that_the_environment_names_comes_first(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    default = str(write({"maxAttempts": 3}))
    named = tmp_path / "named.json"
    named.write_text('{"maxAttempts": 4}')
    environ = {"OSS_CONNECTOR_CONFIG": str(named)}
    assert load_config(path, default_path=default, environ=environ).max_attempts == 4
    assert load_config(default, environ=environ).max_attempts == 3
    assert load_config(path, default_path=default, environ={"OSS_CONNECTOR_CONFIG": ""}).max_attempts == 3
    monkeypatch.setenv("OSS_CONNECTOR_CONFIG", str(named))
    assert load_config(path).max_attempts == 4


def test_a_file_that_the_environment_names_and_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match=r"nowhere\.json .*OSS_CONNECTOR_CONFIG names it.*: No such file"):
        load_config(environ={"OSS_CONNECTOR_CONFIG": str(tmp_path / "nowhere.json")})


def test_the_path_may_be_any_path_like_and_begin_at_home(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({"maxAttempts": 3})
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert load_config(path) == load_config(os.fspath(path)) == load_config("~/config.json")


def test_a_file_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.json"
    with pytest.raises(OssConfigError, match=r"nowhere\.json .*config_path.*: No such file") as caught:
        load_config(path)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("path", [b"config.json", 7, "a\0b", "~nobody-of-this-name/config.json"])
def test_what_is_no_path_is_an_error(path: Any) -> None:
    with pytest.raises(OssConfigError, match="config_path names no file"):
        load_config(path)


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match="can't read the config file"):
        load_config(tmp_path)


def test_unknown_keys_are_named_in_one_warning_and_the_rest_is_read(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write({"logLevels": 1, "datasetConfig": {"prefetchWorkers": 2, "other\n": 1}, "maxAttempts": 4})
    assert load_config(path).max_attempts == 4
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("osstorchconnector.config", logging.WARNING)
    text = record.getMessage()
    assert str(path) in text
    assert "'logLevels' (is logLevel meant?)" in text
    assert "'datasetConfig.prefetchWorkers' (is datasetConfig.prefetchWorker meant?)" in text
    assert "\n" not in text


def test_a_section_is_not_taken_for_a_key_of_its_own(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert load_config(write({"datasetConfig.prefetchWorker": 7, "prefetchWorker": 7})) == Config()
    (record,) = caplog.records
    assert "'prefetchWorker' (is datasetConfig.prefetchWorker meant?)" in record.getMessage()
    assert "'datasetConfig.prefetchWorker (as one word)'" in record.getMessage()


WRONG = [
    *[(key, value) for key in ("logLevel", "maxAttempts", "partSize") for value in ("1", 1.0, True, None, [1], {})],
    *[("logLevel", value) for value in (-1, 4, 10**30)],
    *[("datasetConfig.prefetchConcurrency", value) for value in (0, -1, 4097, "automatic", "24")],
    *[("datasetConfig.prefetchWorker", value) for value in (0, 257)],
    *[("datasetConfig.enableFastList", value) for value in (0, 1, "true", None, ["auto"])],
    *[("checkpointConfig.uploadConcurrency", value) for value in (0, 4097)],
    *[("logPath", value) for value in (1, None, True, "a\0b", "\ud800", "~nobody-of-this-name/log")],
    *[("caFile", value) for value in (1, "/nowhere/ca.pem", "/", "a" * 5000)],
    *[("transport", value) for value in ("Direct", "", None, ["direct"])],
    *[("signatureVersion", value) for value in ("v2", "4", 4)],
    *[("cred", value) for value in (1, None, "a\nb")],
    *[("addressing", value) for value in ("virtual-hosted", False)],
    *[("uploadMemory", value) for value in (0, "512MiB", MIB - 1)],
    *[("partSize", value) for value in (102399, (5 << 30) + 1)],
    *[("connectTimeout", value) for value in (0, -1, "10", True, None, 86401)],
    *[("maxAttempts", value) for value in (0, 1001)],
    *[("retryBaseDelay", value) for value in (-0.1, 3601)],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_wrong_value_is_an_error_that_names_file_key_and_value(name: str, value: object) -> None:
    with pytest.raises(OssConfigError) as caught:
        parsed(name, value)
    text = str(caught.value)
    assert text.startswith(f"a.json: {name} must be ")
    assert text.endswith(f", not {value!r}") or len(repr(value)) > 20


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(literal: str) -> None:
    with pytest.raises(OssConfigError, match="readTimeout must be a number of seconds"):
        parse_config(f'{{"readTimeout": {literal}}}'.encode(), "a.json")


@pytest.mark.parametrize("section", ["datasetConfig", "checkpointConfig"])
@pytest.mark.parametrize("value", [1, [], None, "x"])
def test_a_section_must_be_an_object(section: str, value: object) -> None:
    with pytest.raises(OssConfigError, match=f"a.json: {section} must be a JSON object"):
        parse_config(json.dumps({section: value}).encode(), "a.json")


def test_delays_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(OssConfigError, match=r"retryMaxDelay is 1, less than retryBaseDelay, which is 2"):
        parse_config(b'{"retryBaseDelay": 2, "retryMaxDelay": 1}', "a.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "not valid JSON"),
        (b'{"logLevel": 1', "not valid JSON.*line 1"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"logLevel": ' + b"9" * 5000 + b"}", "not valid JSON|must be"),
        (b'{"logLevel": 1, "logLevel": 2}', "'logLevel' stands there twice"),
        (b'{"datasetConfig": {"listWorker": 1, "listWorker": 1}}', "'listWorker' stands there twice"),
    ],
)
def test_what_is_not_a_json_object_is_an_error_that_names_the_file(text: bytes, complaint: str) -> None:
    with pytest.raises(OssConfigError, match=f"^a.json: (?s:.)*({complaint})"):
        parse_config(text, "a.json")


def test_a_file_too_long_to_be_a_config_is_not_read_through(write: Any) -> None:
    with pytest.raises(OssConfigError, match="longer than"):
        load_config(write(b" " * (MAX_CONFIG_BYTES + 1)))


def test_a_byte_order_mark_is_no_obstacle(write: Any) -> None:
    assert load_config(write(b'\xef\xbb\xbf{"maxAttempts": 3}')).max_attempts == 3


def test_a_config_pickles_whole() -> None:
    config = parsed("auditPath", "/tmp/audit")
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.configured == {"auditPath"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
NAMES = st.sampled_from([*KEYS, "datasetConfig", "checkpointConfig"]) | st.text(max_size=5)


def outcome(text: bytes) -> Config | str:
    try:
        return parse_config(text, "a.json")
    except OssConfigError as error:
        return str(error)


@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_json_object_is_a_config_or_a_config_error(content: dict[str, object]) -> None:
    found = outcome(json.dumps(content).encode())
    assert isinstance(found, Config) or found.startswith("a.json: ")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_config_or_a_config_error(text: bytes) -> None:
    found = outcome(text)
    assert isinstance(found, Config) or found.startswith("a.json: ")
