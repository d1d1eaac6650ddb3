"""The command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oss2
import pytest
from scripts import run_python

from osstorchconnector import OssClient, emulator
from osstorchconnector.emulator import Network
from osstorchconnector.emulator.__main__ import main


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[str]:
    """Run the command until the end of the block; give the text it greets with."""
    command = [sys.executable, "-m", "osstorchconnector.emulator", "--port", "0", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OSS_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**inherited, **environment}) as process:
        assert process.stdout is not None
        count = (
            5 + ("--control" in arguments) + ("--network" in arguments) + (not environment.get("OSS_ACCESS_KEY_SECRET"))
        )
        lines = [process.stdout.readline() for _ in range(count)]
        try:
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(100) == 0


def told(greeting: str, what: str) -> str:
    match = re.search(rf"^  {what} +(.*)$", greeting, re.MULTILINE)
    assert match is not None
    return match[1]


def test_the_command_serves_a_folder_and_says_how_to_get_there(tmp_path: Path) -> None:
    with started("--root", str(tmp_path), "--bucket", "photos", "--region", "cn-here") as greeting:
        assert greeting.startswith(f"Serving {tmp_path}\n")
        auth = oss2.AuthV4(told(greeting, "key id"), told(greeting, "key secret"))
        bucket = oss2.Bucket(auth, told(greeting, "endpoint"), "photos", region=told(greeting, "region"))
        bucket.put_object("k", b"hello")
        bucket.session.session.close()
    with emulator.serve(tmp_path) as oss:
        assert oss.get("photos", "k") == b"hello"


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_the_endpoint_that_it_says_is_one_for_clients(tmp_path: Path, host: str, shown: str) -> None:
    with started("--root", str(tmp_path), "--host", host) as greeting:
        endpoint = told(greeting, "endpoint")
        assert re.fullmatch(rf"http://{re.escape(shown)}:[0-9]+", endpoint)
        assert OssClient(endpoint).endpoint == endpoint


def test_a_made_up_secret_is_printed_ready_for_a_shell(tmp_path: Path) -> None:
    with started("--root", str(tmp_path), "--bucket", "photos", OSS_ACCESS_KEY_SECRET="") as greeting:
        given = dict(pair.split("=") for pair in told(greeting, "for clients").removeprefix("export ").split())
        assert given == {
            "OSS_ACCESS_KEY_ID": told(greeting, "key id"),
            "OSS_ACCESS_KEY_SECRET": told(greeting, "key secret"),
        }
        program = (
            "import sys\n"
            "from osstorchconnector import OssClient\n"
            "client = OssClient(sys.argv[1], region=sys.argv[2])\n"
            "client.put('oss://photos/cat', b'meow')\n"
            "print(client.get('oss://photos/cat').body)\n"
        )
        arguments = ["-c", program, told(greeting, "endpoint"), told(greeting, "region")]
        assert run_python(*arguments, environment=given) == ("b'meow'\n", "")


def test_a_secret_that_was_given_is_not_printed(tmp_path: Path) -> None:
    given = {"OSS_ACCESS_KEY_ID": "mine", "OSS_ACCESS_KEY_SECRET": "canary", "OSS_SESSION_TOKEN": "canary-too"}
    with started("--root", str(tmp_path), "--cname", "cdn.test=photos", "--domain", "oss.test", **given) as greeting:
        assert told(greeting, "key id") == "mine"
        assert "canary" not in greeting
        auth = oss2.StsAuth("mine", "canary", "canary-too")
        service = oss2.Service(auth, told(greeting, "endpoint"))
        assert service.list_buckets().buckets == []
        service.session.session.close()


def test_control_is_off_unless_asked_for(tmp_path: Path) -> None:
    with started("--root", str(tmp_path), "--control") as greeting:
        assert len(told(greeting, "control")) == 32
    with started("--root", str(tmp_path)) as greeting:
        assert "\n  control" not in greeting


def test_it_answers_as_from_a_distance_if_asked(tmp_path: Path) -> None:
    own = ("--latency-ms", "1", "--latency-p99-ms", "2", "--connection-mb", "3", "--total-mb", "4")
    more = ("--round-trip-ms", "5", "--requests-per-second", "6")
    with started("--root", str(tmp_path), "--network", "oss", *own, *more) as greeting:
        expected = Network(
            latency_seconds=0.001,
            latency_p99_seconds=0.002,
            connection_bytes_per_second=3e6,
            total_bytes_per_second=4e6,
            round_trip_seconds=0.005,
            requests_per_second=6.0,
        )
        assert told(greeting, "network") == str(expected)
    with started("--root", str(tmp_path), "--network", "oss-far") as greeting:
        assert told(greeting, "network") == str(Network.oss_far())
    with started("--root", str(tmp_path)) as greeting:
        assert "\n  network" not in greeting


def test_what_keeps_it_from_serving_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with emulator.serve(tmp_path):
        assert main(["--root", str(tmp_path), "--port", "0"]) == 1
    assert "in use by another emulator" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "--port", "0", "--bucket", "Bad_Name"]) == 1
    assert "The specified bucket is not valid" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "--certfile", "/nowhere.pem", "--keyfile", "/key.pem"]) == 1
    assert "no certificate and key in /nowhere.pem and /key.pem: " in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "--latency-ms", "2", "--latency-p99-ms", "1"]) == 1
    assert "latency_p99_seconds is 0.001; it must be at least" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--port", "65536"], "'65536' is no port"),
        (["--port", "-1"], "'-1' is no port"),
        (["--port", "http"], "'http' is no port"),
        (["--cname", "cdn.test"], "'cdn.test' is not HOST=BUCKET"),
        (["--cname", "=photos"], "'=photos' is not HOST=BUCKET"),
    ],
)
def test_a_wrong_option_is_said(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert problem in capsys.readouterr().err
