"""doctor, against the emulator: each failure that can be provoked is named, with the way out."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from cli.conftest import Ended, Run

from osstorchconnector.cli.machine import about_this_machine
from osstorchconnector.emulator import Emulator, serve
from osstorchconnector.testing import OssBucket


def topics(ended: Ended, level: str) -> list[str]:
    return [line[6:].partition(":")[0] for line in ended.out.splitlines() if line.startswith(level.ljust(6))]


def test_a_healthy_bucket_is_said_to_be_healthy(run: Run, oss_bucket: OssBucket) -> None:
    oss_bucket.put("data/1", b"one")
    ended = run("doctor", f"{oss_bucket.uri}data/")
    assert (ended.status, topics(ended, "fail")) == (0, [])
    assert {"credentials", "connection", "list", "get", "clock", "put", "multipart", "delete", "rate"} <= set(
        topics(ended, "ok")
    )
    assert oss_bucket.keys() == ["data/1"]


def test_the_report_for_a_ticket_shows_no_secret(run: Run, oss_bucket: OssBucket) -> None:
    report = run("doctor", "--json", oss_bucket.uri).out
    findings = json.loads(report)["findings"]
    assert {"level": "ok", "topic": "list", "seen": f"{oss_bucket.uri} is empty", "todo": ""} in findings
    secret = json.loads(Path(oss_bucket.cred_path).read_text())["AccessKeySecret"]
    assert secret not in report


def test_a_bucket_that_may_only_be_read_is_not_written(run: Run, oss_bucket: OssBucket, oss_server: Emulator) -> None:
    oss_server.reset_counters()
    assert run("doctor", "--read-only", oss_bucket.uri).status == 0
    assert not [
        entry for entry in oss_server.counters().log if entry.operation.startswith(("Put", "Delete", "Initiate"))
    ]


@pytest.mark.parametrize(
    ("operation", "topic"),
    [
        ("ListObjectsV2", "list"),
        ("GetObject", "get"),
        ("PutObject", "put"),
        ("InitiateMultipartUpload", "multipart"),
        ("DeleteMultipleObjects", "delete"),
    ],
)
def test_a_missing_permission_is_named(
    run: Run, oss_bucket: OssBucket, oss_server: Emulator, operation: str, topic: str
) -> None:
    oss_bucket.put("1", b"one")
    oss_server.fail(operation, "AccessDenied", bucket=oss_bucket.name)
    ended = run("doctor", oss_bucket.uri)
    assert ended.status == 1
    assert topic in topics(ended, "fail")
    assert "docs/errors.md#accessdenied" in ended.out


def access(bucket: OssBucket, **changes: str) -> list[str]:
    options = {"-e": bucket.endpoint, "--region": bucket.region, "--cred-path": bucket.cred_path, **changes}
    return [text for option in options.items() for text in option]


def test_wrong_keys_are_named(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    for keys, code in (
        ({"AccessKeyId": "nobody", "AccessKeySecret": "s"}, "invalidaccesskeyid"),
        ({**json.loads(Path(oss_bucket.cred_path).read_text()), "AccessKeySecret": "s"}, "signaturedoesnotmatch"),
    ):
        path.write_text(json.dumps(keys))
        ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"--cred-path": str(path)}), access=False)
        assert (ended.status, topics(ended, "fail")) == (1, ["list"])
        assert f"docs/errors.md#{code}" in ended.out
    path.unlink()
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"--cred-path": str(path)}), access=False)
    assert topics(ended, "fail") == ["credentials"]
    assert str(path) in ended.out


def test_expired_keys_are_named(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    keys = json.loads(Path(oss_bucket.cred_path).read_text())
    path.write_text(json.dumps({**keys, "Expiration": "2020-01-01T00:00:00Z"}))
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"--cred-path": str(path)}), access=False)
    assert topics(ended, "fail") == ["credentials"]
    assert "expired" in ended.out


def test_a_wrong_region_and_a_missing_bucket_are_named(run: Run, oss_bucket: OssBucket) -> None:
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"--region": "cn-elsewhere"}), access=False)
    assert topics(ended, "fail") == ["list"]
    assert "check region=" in ended.out
    ended = run("doctor", "oss://no-such-bucket-at-all/")
    assert topics(ended, "fail") == ["list"]
    assert "docs/errors.md#nosuchbucket" in ended.out


def test_a_name_that_does_not_resolve_and_an_address_where_nobody_is(run: Run, oss_bucket: OssBucket) -> None:
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"-e": "https://oss.invalid"}), access=False)
    assert topics(ended, "fail") == ["name"]
    assert "does not resolve" in ended.out
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"-e": f"http://127.0.0.1:{port}"}), access=False)
    assert topics(ended, "fail") == ["connection"]
    assert "Connection refused" in ended.out


def test_a_server_without_tls_is_named(run: Run, oss_bucket: OssBucket) -> None:
    encrypted = oss_bucket.endpoint.replace("http:", "https:")
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"-e": encrypted}), access=False)
    assert topics(ended, "fail") == ["connection"]
    assert "TLS with 127.0.0.1 fails" in ended.out


def test_a_wrong_clock_is_named(run: Run, tmp_path: Path) -> None:
    with serve(buckets=["b-1"]) as oss:
        oss.set_clock(300.0)
        options = ["-e", oss.endpoint, "--region", oss.region, "--cred-path", oss.credentials_file(tmp_path)]
        ended = run("doctor", "oss://b-1/", *options, access=False)
        assert (ended.status, "clock" in topics(ended, "warn")) == (0, True)
        oss.set_clock(3600.0)
        ended = run("doctor", "oss://b-1/", *options, access=False)
        assert topics(ended, "fail") == ["clock"]


def test_settings_that_can_not_be_used_are_named(run: Run, oss_bucket: OssBucket) -> None:
    ended = run("doctor", oss_bucket.uri, *access(oss_bucket, **{"-e": "ftp://host"}), access=False)
    assert topics(ended, "fail") == ["settings"]


def test_anonymous_access_is_said(run: Run, oss_bucket: OssBucket) -> None:
    options = ["-e", oss_bucket.endpoint, "--region", oss_bucket.region, "--anonymous"]
    ended = run("doctor", oss_bucket.uri, *options, access=False)
    assert topics(ended, "fail") == ["list"]
    assert "credentials: none: only what is public can be read" in ended.out


def test_limits_of_a_container_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    seen = {finding.topic: finding for finding in about_this_machine(tmp_path, tmp_path / "no-shm")}
    assert "0.5 of them usable" in seen["processors"].seen
    assert seen["memory"].seen == "64.0 MiB (a container's limit)"
    assert seen["/dev/shm"].seen == "there is none"
    unlimited = {finding.topic: finding.seen for finding in about_this_machine(tmp_path / "nothing")}
    assert "usable" not in unlimited["processors"]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_bytes(b"\xff")
    assert "usable" not in {f.topic: f.seen for f in about_this_machine(tmp_path)}["processors"]


def test_limits_of_a_container_are_read_in_the_older_version_of_cgroups_too(tmp_path: Path) -> None:
    def seen() -> dict[str, str]:
        return {finding.topic: finding.seen for finding in about_this_machine(tmp_path, tmp_path / "no-shm")}

    (tmp_path / "memory").mkdir()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{64 << 20}\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert "0.5 of them usable" in seen()["processors"]
    assert seen()["memory"] == "64.0 MiB (a container's limit)"
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert "usable" not in seen()["processors"]
    assert "a container's limit" not in seen()["memory"]
