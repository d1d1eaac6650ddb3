"""docs/configuration.md names every key of the config file with its default, and the fields of the audit log."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from scripts import ROOT

from osstorchconnector.config import KEYS, Config, parse_config
from osstorchconnector.logs import AuditEntry

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_table_of_settings_names_every_key_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \| \S", PAGE, re.MULTILINE)
    config: Any = Config()
    expected = {}
    for name, key in KEYS.items():
        value = config
        for attribute in key.target.split("."):
            value = getattr(value, attribute)
        expected[name] = value
    assert {name: json.loads(default) for name, default in rows} == expected
    assert len(rows) == len(expected)


def test_the_row_of_the_audit_log_names_the_fields_of_its_lines() -> None:
    (row,) = re.findall(r"^\| `auditPath` \| `[^`]*` \| (.*) \|$", PAGE, re.MULTILINE)
    about = (1.5, "PutObject", "bucket", "key", 1, 0.25, 1000)
    answered = json.loads(AuditEntry(*about, 200, "id", 0).line(7))
    broken = json.loads(AuditEntry(*about, error="reset").line(7))
    assert re.findall(r"`(\w+)`", row) == list(answered | broken)


def test_the_file_that_it_shows_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    config = parse_config(text.encode(), "the page")
    assert config.operation_timeout_seconds == 300
    assert config.fast_list is True
    assert caplog.records == []
