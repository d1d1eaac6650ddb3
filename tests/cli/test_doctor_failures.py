"""What commonly goes wrong, provoked one by one: doctor names the cause of each, and the way out."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from cli.conftest import Run

from osstorchconnector.cli.machine import about_this_machine
from osstorchconnector.emulator import Network, serve
from osstorchconnector.testing import OssBucket


class Patient:
    """A bucket, a folder and an environment, to be made ill; `report` is what doctor finds."""

    def __init__(self, bucket: OssBucket, folder: Path, patch: pytest.MonkeyPatch, run: Run) -> None:
        self.bucket, self.folder, self.patch = bucket, folder, patch
        self._run = run
        self.site = [str(folder / "site"), *sys.path]

    def report(self, *options: str, **changes: str) -> list[dict[str, str]]:
        """Return all findings for the bucket; `changes` replace options by which it is reached."""
        known = {
            "endpoint": self.bucket.endpoint,
            "region": self.bucket.region,
            "cred_path": self.bucket.cred_path,
            "uri": self.bucket.uri,
        } | changes
        reached = [f"--{name.replace('_', '-')}={value}" for name, value in known.items() if value and name != "uri"]
        ended = self._run("doctor", "--json", known["uri"], *reached, *options, access=False)
        found: list[dict[str, str]] = json.loads(ended.out)["findings"]
        assert ended.status == int(any(each["level"] == "fail" for each in found))
        return found

    def machine(self, **files: str) -> list[dict[str, str]]:
        """Return the findings about a machine whose control group has these files."""
        (self.folder / "cgroup").mkdir()
        for name, content in files.items():
            (self.folder / "cgroup" / name.replace("_", ".")).write_text(content)
        found = about_this_machine(self.folder / "cgroup", self.folder / "no-shm", self.site)
        return [{**each._asdict(), "level": each.level.value} for each in found]

    def file(self, name: str, content: object) -> str:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def keys(self, **changes: str) -> str:
        """Return the path of a credential file like the bucket's, with changes."""
        return self.file("keys", json.loads(Path(self.bucket.cred_path).read_text()) | changes)

    def installed(self, name: str, version: str) -> None:
        """Put another version of a package before the one that is installed."""
        folder = self.folder / "site" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def denied(self, operation: str) -> list[dict[str, str]]:
        self.bucket.put("1", b"one")
        self.bucket.server.fail(operation, "AccessDenied", bucket=self.bucket.name)
        return self.report()


Report = list[dict[str, str]]
FAILURES: dict[str, Failure] = {}


class Failure(NamedTuple):
    """How it is provoked, and what doctor must say: level, topic, the cause, the way out."""

    provoke: Callable[[Patient], Report]
    level: str
    topic: str
    cause: str
    way_out: str


def failure(level: str, topic: str, cause: str, way_out: str) -> Callable[[Callable[[Patient], Report]], None]:
    def add(provoke: Callable[[Patient], Report]) -> None:
        FAILURES[provoke.__name__.replace("_", "-")] = Failure(provoke, level, topic, cause, way_out)

    return add


# Settings


@failure(
    "fail",
    "settings",
    "can't read the config file /nowhere/config.json.*No such file",
    "docs/configuration.md has all keys",
)
def config_missing(ill: Patient) -> Report:
    return ill.report(connector_config="/nowhere/config.json")


@failure("fail", "settings", "can't read the config file .*Is a directory", "docs/configuration.md has all keys")
def config_unreadable(ill: Patient) -> Report:
    return ill.report(connector_config=str(ill.folder))


@failure("fail", "settings", "config.json: not valid JSON: .*line 1 column 2", "docs/configuration.md has all keys")
def config_not_json(ill: Patient) -> Report:
    return ill.report(connector_config=ill.file("config.json", "{logLevel: 1}"))


@failure(
    "fail", "settings", "readTimeout must be a number of seconds .*not '30 s'", "docs/configuration.md has all keys"
)
def config_wrong_value(ill: Patient) -> Report:
    return ill.report(connector_config=ill.file("config.json", {"readTimeout": "30 s"}))


@failure("fail", "settings", "no endpoint", "give -e https://oss-<region>.aliyuncs.com or --region")
def no_endpoint(ill: Patient) -> Report:
    for name in ("OSS_ENDPOINT", "OSS_REGION"):
        ill.patch.delenv(name, raising=False)
    ill.patch.setenv("HOME", str(ill.folder))
    return ill.report(endpoint="", region="")


# Credentials


@failure("fail", "credentials", "no credentials", "give cred_path= .*set OSS_ACCESS_KEY_ID")
def no_credentials(ill: Patient) -> Report:
    for name in list(os.environ):
        if name.startswith(("OSS_ACCESS", "ALIBABA_CLOUD_")):
            ill.patch.delenv(name)
    ill.patch.setenv("HOME", str(ill.folder))
    ill.patch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    return ill.report(cred_path="")


@failure("fail", "credentials", "the credential file /nowhere/keys: No such file", "docs/credentials.md")
def credential_file_missing(ill: Patient) -> Report:
    return ill.report(cred_path="/nowhere/keys")


@failure("fail", "credentials", "keys: .*AccessKeySecret", "docs/credentials.md")
def credential_file_without_secret(ill: Patient) -> Report:
    return ill.report(cred_path=ill.file("keys", {"AccessKeyId": "K"}))


@failure("fail", "credentials", "expired", "renew them, or let a role or profile do it")
def credentials_expired(ill: Patient) -> Report:
    return ill.report(cred_path=ill.keys(Expiration="2020-01-01T00:00:00Z"))


@failure("fail", "list", "SecurityTokenExpired", "renew the temporary credentials")
def token_expired(ill: Patient) -> Report:
    ill.bucket.server.fail("ListObjectsV2", "SecurityTokenExpired", bucket=ill.bucket.name)
    return ill.report()


@failure("fail", "list", "403 InvalidAccessKeyId", "check the access key id")
def wrong_key_id(ill: Patient) -> Report:
    return ill.report(cred_path=ill.keys(AccessKeyId="nobody"))


@failure("fail", "list", "403 SignatureDoesNotMatch", "check the access key secret")
def wrong_secret(ill: Patient) -> Report:
    return ill.report(cred_path=ill.keys(AccessKeySecret="wrong"))


# The way


@failure("fail", "list", "signed for cn-elsewhere, which is not the endpoint's", "check region=")
def wrong_region(ill: Patient) -> Report:
    return ill.report(region="cn-elsewhere")


@failure("fail", "name", "oss.invalid does not resolve", "check the endpoint's spelling, the region, and the DNS")
def unknown_host(ill: Patient) -> Report:
    return ill.report(endpoint="https://oss.invalid")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@failure("fail", "connection", "can't be reached: Connection refused", "check the firewall and the network")
def connection_refused(ill: Patient) -> Report:
    return ill.report(endpoint=f"http://127.0.0.1:{free_port()}")


@failure("fail", "connection", "the TLS certificate of 127.0.0.1 is not trusted: .*certificate", "caFile")
def certificate_not_trusted(ill: Patient) -> Report:
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(ill.folder / "server.pem")
    with serve(certfile=str(ill.folder / "server.pem")) as secure:
        return ill.report(endpoint=secure.endpoint)


@failure("fail", "connection", "TLS with 127.0.0.1 fails", "for plain http write http://")
def no_tls(ill: Patient) -> Report:
    return ill.report(endpoint=ill.bucket.endpoint.replace("http:", "https:"))


@failure("warn", "TLS", "plain http", "use https")
def plain_http(ill: Patient) -> Report:
    return ill.report(endpoint="http://oss.invalid")


@failure("warn", "proxy", "requests go through 127.0.0.1", "set no_proxy=.aliyuncs.com")
def proxy_set(ill: Patient) -> Report:
    ill.patch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    return ill.report(endpoint="https://oss.invalid")


@failure("fail", "list", "no connection to the proxy 127.0.0.1", "check the network, the proxy and the firewall")
def proxy_dead(ill: Patient) -> Report:
    ill.patch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    return ill.report(endpoint="https://oss.invalid")


@failure("fail", "clock", "3(598|599|600) s behind OSS's", r"set the clock \(NTP\)")
def clock_off(ill: Patient) -> Report:
    ill.bucket.server.set_clock(3600.0)
    return ill.report()


# The bucket


@failure("fail", "list", "404 NoSuchBucket", "check the bucket's name")
def bucket_missing(ill: Patient) -> Report:
    return ill.report(uri="oss://no-such-bucket-at-all/")


@failure("fail", "list", "403 AccessDenied", "allow oss:ListObjects in the RAM policy")
def no_list(ill: Patient) -> Report:
    return ill.denied("ListObjectsV2")


@failure("fail", "get", "403 AccessDenied", "allow oss:GetObject in the RAM policy")
def no_get(ill: Patient) -> Report:
    return ill.denied("GetObject")


@failure("fail", "put", "403 AccessDenied", "allow oss:PutObject in the RAM policy")
def no_put(ill: Patient) -> Report:
    return ill.denied("PutObject")


@failure("fail", "multipart", "403 AccessDenied", "allow oss:PutObject and oss:AbortMultipartUpload in the RAM policy")
def no_multipart(ill: Patient) -> Report:
    return ill.denied("InitiateMultipartUpload")


@failure("fail", "delete", "403 AccessDenied", "allow oss:DeleteObject in the RAM policy.*; remove oss://.*-small")
def no_delete(ill: Patient) -> Report:
    return ill.denied("DeleteMultipleObjects")


# The network


@failure("warn", "latency", r"a small object takes 1[2-9]\d", "use the bucket's own region")
def slow_network(ill: Patient) -> Report:
    ill.bucket.server.set_network(Network(latency_seconds=0.12))
    return ill.report()


@failure("warn", "datasetConfig.prefetchConcurrency", "24 requests in flight bring [34]..? small", "out of the config")
def few_requests_in_flight(ill: Patient) -> Report:
    ill.bucket.server.set_network(Network(latency_seconds=0.06))
    return ill.report(connector_config=ill.file("config.json", {"datasetConfig": {"prefetchConcurrency": 24}}))


@failure("fail", "list", r"503 ServiceUnavailable.*3 attempts", "lower the number of workers, or ask OSS for a higher")
def throttled(ill: Patient) -> Report:
    ill.bucket.server.fail("ListObjectsV2", "ServiceUnavailable", bucket=ill.bucket.name)
    return ill.report()


@failure("warn", "retries", "1 requests were sent again", "see the warnings above")
def unsteady_network(ill: Patient) -> Report:
    ill.bucket.server.fail("PutObject", "500", bucket=ill.bucket.name, times=1)
    return ill.report()


# The machine


@failure("warn", "/dev/shm", "there is none", "--shm-size=8g, or set indexDir")
def no_shared_memory(ill: Patient) -> Report:
    return ill.machine()


@contextmanager
def few_files(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@failure("warn", "open files", "1,024 at a time", "ulimit -n")
def few_open_files(ill: Patient) -> Report:
    with few_files(1024):
        return ill.report("--read-only")


@failure("warn", "processors", "1 core", "give the job more cores")
def one_core(ill: Patient) -> Report:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        return ill.report("--read-only")
    finally:
        os.sched_setaffinity(0, before)


@failure("warn", "processors", "0.5 of them usable", "a container limits .* num_workers")
def container_with_little_processor_time(ill: Patient) -> Report:
    return ill.machine(cpu_max="50000 100000\n")


@failure("warn", "memory", r"64.0 MiB \(a container's limit\)", "raise the container's limit")
def container_with_little_memory(ill: Patient) -> Report:
    return ill.machine(memory_max=f"{64 << 20}\n")


@failure("fail", "packages", "torch 1.13.1 is older than 2.1", "pip install 'torch>=2.1'")
def old_torch(ill: Patient) -> Report:
    ill.installed("torch", "1.13.1")
    return ill.machine()


@failure("fail", "packages", "fastcrc is missing", "pip install 'fastcrc>=0.4'")
def library_missing(ill: Patient) -> Report:
    ill.site = [str(ill.folder / "site")]
    return ill.machine()


@failure("warn", "packages", "torchdata can't be imported: ImportError: cannot import name", "docs/install.md")
def torchdata_broken(ill: Patient) -> Report:
    (ill.folder / "site" / "torchdata").mkdir(parents=True)
    broken = "raise ImportError('cannot import name of a torch that is no more')"
    (ill.folder / "site" / "torchdata" / "__init__.py").write_text(broken)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchdata"]:
        ill.patch.delitem(sys.modules, name)
    ill.patch.syspath_prepend(str(ill.folder / "site"))
    return ill.machine()


NAMES = """
config-missing config-unreadable config-not-json config-wrong-value no-endpoint
no-credentials credential-file-missing credential-file-without-secret credentials-expired token-expired
wrong-key-id wrong-secret wrong-region unknown-host connection-refused
certificate-not-trusted no-tls plain-http proxy-set proxy-dead clock-off
bucket-missing no-list no-get no-put no-multipart no-delete
slow-network few-requests-in-flight throttled unsteady-network
no-shared-memory few-open-files one-core container-with-little-processor-time container-with-little-memory
old-torch library-missing torchdata-broken
"""


def test_these_failures_are_provoked() -> None:
    assert list(FAILURES) == NAMES.split()
    assert len(FAILURES) >= 30


@pytest.mark.parametrize("name", NAMES.split())
def test_the_doctor_names_the_cause_and_the_way_out(
    oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, name: str
) -> None:
    case = FAILURES[name]
    report = case.provoke(Patient(oss_bucket, tmp_path, monkeypatch, run))
    found = [each for each in report if (each["level"], each["topic"]) == (case.level, case.topic)]
    said = [f"{each['seen']} {each['todo']}" for each in found]
    assert any(re.search(case.cause, text) and re.search(case.way_out, text) for text in said), report
    secret: Any = json.loads(Path(oss_bucket.cred_path).read_text())["AccessKeySecret"]
    assert secret not in json.dumps(report)
