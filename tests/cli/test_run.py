"""Options, ways to OSS, exit statuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
import typer
from cli.conftest import Run
from cli.test_objects import in_a_terminal
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.cli import app, common_first, main
from osstorchconnector.cli.show import size_text
from osstorchconnector.emulator import Emulator
from osstorchconnector.testing import OssBucket
from osstorchconnector.version import __version__


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (["ls", "-e", "E", "oss://b"], ["-e", "E", "ls", "oss://b"]),
        (["ls", "oss://b", "--region=R", "--anonymous"], ["--region=R", "--anonymous", "ls", "oss://b"]),
        (["cp", "--", "-e", "-k"], ["cp", "--", "-e", "-k"]),
        (["ls", "-e"], ["-e", "ls"]),
    ],
)
def test_options_of_all_commands_may_stand_behind_the_command(given: list[str], ordered: list[str]) -> None:
    assert common_first(given) == ordered


@given(st.lists(st.sampled_from(["ls", "oss://b", "-r", "-e", "--region", "x", "--anonymous"])))
def test_no_argument_is_lost(arguments: list[str]) -> None:
    assert sorted(common_first(arguments)) == sorted(arguments)


def test_the_version_and_the_help(run: Run) -> None:
    assert run("--version", access=False).out == f"osstorchconnector {__version__}\n"
    assert "sync" in run("--help", access=False).out
    assert "Example: osstorch du " in run("du", "--help", access=False).out


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands by the words that call them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_in_its_help_and_a_row_on_its_page(name: str) -> None:
    assert f"Example: osstorch {name}" in COMMANDS[name].help
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}`", page, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["nonsense"], ["ls", "--nonsense"], ["cp", "one"], ["ls", "--jobs", "0"]])
def test_wrong_arguments_are_told(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Try 'osstorch" in err


def test_an_error_is_one_line(run: Run, oss_bucket: OssBucket) -> None:
    status, out, err = run("stat", f"{oss_bucket.uri}nothing")
    assert (status, out) == (1, "")
    assert err.startswith("osstorch: HeadObject ")
    assert err.count("\n") == 1


def test_without_an_endpoint_the_user_is_told_what_to_give(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OSS_ENDPOINT", "OSS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no endpoint: give -e https://oss-<region>.aliyuncs.com" in run("ls", access=False).err


def test_ossutils_file_tells_endpoint_and_key(
    run: Run, oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = json.loads(Path(oss_bucket.cred_path).read_text())
    text = f"endpoint={oss_bucket.endpoint}\nregion={oss_bucket.region}\naccessKeyID={keys['AccessKeyId']}\n"
    text += f"accessKeySecret={keys['AccessKeySecret']}\n"
    oss_bucket.put("key", b"data")
    (tmp_path / ".ossutilconfig").write_text(f"[default]\n{text}")
    assert run("cat", f"{oss_bucket.uri}key", access=False).out == "data"
    other = tmp_path / "other"
    other.write_text(f"[profile b]\n{text}")
    assert run("cat", f"{oss_bucket.uri}key", "-c", f"{other}", "--profile", "b", access=False).out == "data"
    (tmp_path / ".ossutilconfig").unlink()
    by_hand = [
        "-i",
        keys["AccessKeyId"],
        "-k",
        keys["AccessKeySecret"],
        "-e",
        oss_bucket.endpoint,
        "--region",
        oss_bucket.region,
    ]
    assert run("cat", f"{oss_bucket.uri}key", *by_hand, access=False).out == "data"
    anonymous = ["--anonymous", "-e", oss_bucket.endpoint, "--region", oss_bucket.region]
    assert "AccessDenied" in run("cat", f"{oss_bucket.uri}key", *anonymous, access=False).err


def test_a_region_alone_tells_the_endpoint(run: Run) -> None:
    assert (
        "is no single file"
        not in run("ls", "oss://bucket", "--region", "nowhere-1", "--cred-path", "/nowhere", access=False).err
    )


def test_ctrl_c_publishes_nothing(
    oss_bucket: OssBucket, tmp_path: Path, oss_server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "large").write_bytes(bytes(64 << 20))
    oss_server.fail("UploadPart", "stall_upload", bucket=oss_bucket.name)
    child = in_a_terminal(oss_bucket, "cp", f"{tmp_path}/large", f"{oss_bucket.uri}large")
    child.expect_exact("copying")
    while not oss_server.uploads(oss_bucket.name):
        child.expect([pexpect.TIMEOUT, "."], timeout=0.05)
    child.sendintr()
    child.expect_exact("nothing half-done was published")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert oss_bucket.keys() == []


def test_without_its_packages_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['typer'] = None; from osstorchconnector.__main__ import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "osstorch needs typer and rich: pip install 'osstorchconnector[cli]'\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), (5 << 60, "5120.0 PiB")],
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["osstorch", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out
