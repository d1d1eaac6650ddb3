"""Log and audit log: whole lines, nobody's forgery, each once, and never a reason to stop."""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scripts import run_python

from osstorchconnector import logs
from osstorchconnector.config import Config
from osstorchconnector.logs import AuditEntry, AuditLog, _File, audit_log, configure_logging

HOSTILE = 'a\nb\r\nc\x1b[31m\x00\x7f\x9b\u2028\u202e "\\ \ud800 \u6570\u636e'


def config(*, is_configured: bool = True, **settings: Any) -> Config:
    names = {"log_level": "logLevel", "log_path": "logPath", "audit_path": "auditPath"}
    configured = frozenset(names[name] for name in settings) if is_configured else frozenset()
    return Config(**{"log_path": "", "audit_path": "", **settings}, configured=configured)


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A logger of this test's own, in place of the connector's."""
    logger = logging.getLogger(f"test.{request.node.nodeid}")
    yield logger
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)


@pytest.fixture
def unwritable(tmp_path: Path) -> str:
    """A path that not even root can write: a file stands where its folder should be."""
    (tmp_path / "file").touch()
    return str(tmp_path / "file" / "a.log")


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "expected"), [(0, ["d", "i", "w", "e"]), (1, ["i", "w", "e"]), (2, ["w", "e"]), (3, ["e"])]
)
def test_the_file_gets_what_its_level_lets_through(
    tmp_path: Path, logger: logging.Logger, level: int, expected: list[str]
) -> None:
    path = tmp_path / "new" / "folders" / "a.log"
    configure_logging(config(log_path=str(path), log_level=level), logger)
    for log in (logger.debug, logger.info, logger.warning, logger.error):
        log(log.__name__[0])
    assert [line.split()[-1] for line in path.read_text().splitlines()] == expected


def test_lines_of_submodules_reach_the_file_with_time_level_process_and_name(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "a.log"
    configure_logging(config(log_path=str(path)), logger)
    logger.getChild("client.sender").warning("%s of %d", "one", 2)
    moment, level, process, thread, name, *text = path.read_text().split(" ")
    assert len(moment) == len("2025-03-14T15:09:26.123Z")
    assert moment.endswith("Z")
    assert (level, process, thread) == ("WARNING", str(os.getpid()), "MainThread")
    assert name == f"{logger.name}.client.sender:"
    assert text == ["one", "of", "2\n"]


def test_configuring_twice_writes_each_line_once(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "a.log"
    for _ in range(3):
        configure_logging(config(log_path=str(path)), logger)
    logger.warning("once")
    assert len(path.read_text().splitlines()) == 1


def test_two_configurations_write_two_files_at_their_own_levels(tmp_path: Path, logger: logging.Logger) -> None:
    configure_logging(config(log_path=str(tmp_path / "a.log"), log_level=3), logger)
    configure_logging(config(log_path=str(tmp_path / "b.log"), log_level=0), logger)
    configure_logging(config(log_path=str(tmp_path / "c.log"), log_level=2), logger)
    logger.debug("fine")
    logger.warning("grave")
    counts = [len((tmp_path / name).read_text().splitlines()) for name in ("a.log", "b.log", "c.log")]
    assert counts == [0, 2, 1]


def test_a_level_that_the_program_has_set_stands(tmp_path: Path, logger: logging.Logger) -> None:
    logger.setLevel(logging.ERROR)
    configure_logging(config(log_path=str(tmp_path / "a.log"), log_level=0), logger)
    logger.warning("not wanted")
    assert (tmp_path / "a.log").read_text() == ""
    assert logger.level == logging.ERROR


def test_a_configured_level_acts_without_a_file(logger: logging.Logger) -> None:
    configure_logging(config(log_level=0), logger)
    assert logger.level == logging.DEBUG
    assert logger.handlers == []


def test_without_configuration_and_file_the_logger_is_left_alone(logger: logging.Logger, unwritable: str) -> None:
    configure_logging(config(is_configured=False, log_path=unwritable), logger)
    assert logger.level == logging.NOTSET
    assert logger.handlers == []


@pytest.mark.parametrize("key", ["log_path", "audit_path"])
def test_a_configured_path_that_cannot_be_written_is_named_in_one_warning(
    logger: logging.Logger, unwritable: str, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    path = f"{unwritable}.{key}"
    for _ in range(3):
        configure_logging(config(**{key: path}), logger)
        assert audit_log(config(**{key: path})) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    name = {"log_path": "logPath", "audit_path": "auditPath"}[key]
    assert record.getMessage().startswith(f"{name} can't be written and is not used: {path}: ")


def test_a_default_path_that_cannot_be_written_is_not_missed(
    logger: logging.Logger, unwritable: str, caplog: pytest.LogCaptureFixture
) -> None:
    default = config(is_configured=False, log_path=unwritable, audit_path=unwritable)
    configure_logging(default, logger)
    assert audit_log(default) is None
    assert not caplog.records


def test_of_a_default_path_only_the_last_folder_is_made(tmp_path: Path, logger: logging.Logger) -> None:
    near, far = tmp_path / "oss-connector" / "a.log", tmp_path / "var" / "log" / "a.log"
    for path in (near, far):
        configure_logging(config(is_configured=False, log_path=str(path)), logger)
    assert near.exists()
    assert not (tmp_path / "var").exists()


def test_a_line_that_looks_like_two_stays_one(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "a.log"
    configure_logging(config(log_path=str(path)), logger)
    logger.propagate = False  # what pytest catches must be text that processes can send each other
    logger.warning("key %s", HOSTILE)
    (line,) = path.read_bytes().decode().splitlines()
    assert line.endswith('key a\\nb\\r\\nc\\x1b[31m\\x00\\x7f\\x9b\\u2028\u202e "\\ \\ud800 \u6570\u636e')


def test_a_traceback_can_not_look_like_lines_of_the_log(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "a.log"
    configure_logging(config(log_path=str(path)), logger)
    try:
        raise ValueError("no\n2025-03-14T15:09:26.000Z ERROR forged\x1b[2J")
    except ValueError:
        logger.exception("it failed", stack_info=True)
    first, *rest = path.read_text().splitlines()
    assert first.endswith("it failed")
    assert all(line.startswith("    ") for line in rest)
    assert any("ValueError: no" in line for line in rest)
    assert any("Stack (most recent call last)" in line for line in rest)
    assert "\x1b" not in path.read_text()


def test_a_log_that_was_moved_away_is_begun_anew(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "a.log"
    configure_logging(config(log_path=str(path)), logger)
    logger.warning("first")
    path.rename(tmp_path / "a.log.1")
    logger.warning("second")
    assert path.read_text().endswith("second\n")


def test_a_log_that_can_no_longer_be_written_stops_nothing(
    tmp_path: Path, logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    configure_logging(config(log_path=str(folder / "a.log")), logger)
    (folder / "a.log").unlink()
    folder.rmdir()
    logger.warning("lost")
    assert capfd.readouterr().err == ""


def test_a_mistake_in_a_logging_call_stops_nothing(
    tmp_path: Path, logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(config(log_path=str(tmp_path / "a.log")), logger)
    logger.propagate = False
    logger.warning("%d", "not a number")
    assert (tmp_path / "a.log").read_text() == ""
    assert "Logging error" in capfd.readouterr().err


WARN_IN_WORKER = """
import multiprocessing, sys
from osstorchconnector import logs
from osstorchconnector.config import Config
from osstorchconnector.logs import audit_log
def work():
    audit_log(Config(audit_path=sys.argv[1], configured=frozenset(["auditPath"])))
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start()
    worker.join()
"""


def test_workers_do_not_repeat_the_warning_of_their_parent(tmp_path: Path, unwritable: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(WARN_IN_WORKER)
    assert run_python(program, unwritable) == ("", "")


AS_ON_WINDOWS = """
import os, sys
import logging, multiprocessing.util, random, tempfile, threading  # Python's own have their Windows ways
for name in ("fcntl", "pwd", "grp", "resource", "uvloop"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "geteuid", "getuid", "O_NOFOLLOW", "posix_fallocate"):
    delattr(os, name)
import osstorchconnector.config, osstorchconnector.credentials, osstorchconnector.logs
source = osstorchconnector.credentials.credentials_source(cred_provider=lambda: None)
"""


def test_settings_can_be_imported_where_nothing_forks() -> None:
    run_python("-c", AS_ON_WINDOWS)


# --- the audit log ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(number: int = 0, **facts: Any) -> AuditEntry:
    """An entry that is known by its attempt's number."""
    return AuditEntry(1.5, "GetObject", "bucket", "a/b", number, 0.25, **facts)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").split("\n")[:-1]] if path.exists() else []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"status": 206, "request_id": "5C3D", "received_bytes": 9}, {"status": 206, "request_id": "5C3D", "bytes": 9}),
        ({"status": 204, "request_id": ""}, {"status": 204, "request_id": "", "bytes": None}),
        (
            {"sent_bytes": 7, "status": 200, "received_bytes": 0},
            {"sent": 7, "status": 200, "request_id": "", "bytes": 0},
        ),
        ({"sent_bytes": 7, "error": "ExchangeFailed"}, {"sent": 7, "error": "ExchangeFailed"}),
    ],
)
def test_an_entry_is_one_json_line_with_the_process_id(
    path: Path, outcome: dict[str, Any], expected: dict[str, Any]
) -> None:
    log = AuditLog(str(path))
    log.record(AuditEntry(1.5, "GetObject", "bucket", "a/b", 2, 0.25, **outcome))
    log.flush()
    log.flush()
    asked = {"time": 1.5, "operation": "GetObject", "bucket": "bucket", "key": "a/b", "attempt": 2, "seconds": 0.25}
    assert lines(path) == [{"pid": os.getpid(), **asked, **expected}]
    assert path.stat().st_mode & 0o007 == 0


def test_a_batch_is_written_when_it_is_full(path: Path) -> None:
    log = AuditLog(str(path), clock=Clock())
    written = []
    for number in range(8200):
        log.record(entry(number))
        written.append(len(lines(path)) if number in (0, 4094, 4095, 8190, 8191, 8199) else -1)
    assert [number for number in written if number >= 0] == [0, 0, 4096, 4096, 8192, 8192]
    assert [line["attempt"] for line in lines(path)] == list(range(8192))


def test_a_batch_a_second_old_is_written_when_another_entry_comes(path: Path) -> None:
    clock = Clock()
    log = AuditLog(str(path), clock=clock)
    found = []
    for moment in (0, 0.5, 0.9, 1.0, 1.9, 2.1, 2.9):
        clock.now = moment
        log.record(entry())
        found.append(len(lines(path)))
    assert found == [0, 0, 0, 4, 4, 4, 7]


def test_one_process_has_one_audit_log_per_path(path: Path) -> None:
    first = audit_log(config(audit_path=str(path)))
    assert first is not None
    assert audit_log(config(audit_path=str(path))) is first
    assert audit_log(config(audit_path=f"{path}.other")) is not first


def test_an_empty_path_means_no_audit_log() -> None:
    assert audit_log(config(audit_path="")) is None


@given(key=st.text(), bucket=st.text(), request_id=st.text(), error=st.text())
@example(key=HOSTILE, bucket=HOSTILE, request_id=HOSTILE, error="")
@example(key=HOSTILE, bucket=HOSTILE, request_id=HOSTILE, error=HOSTILE)
def test_whatever_an_entry_holds_it_is_one_line_and_comes_back(
    key: str, bucket: str, request_id: str, error: str
) -> None:
    text = AuditEntry(1.5, "Get", bucket, key, 1, 0.25, request_id=request_id, error=error).line(7)
    assert text.index("\n") == len(text) - 1
    assert all(0x20 <= ord(letter) < 0x7F for letter in text[:-1])
    found = json.loads(text)
    assert (found["bucket"], found["key"]) == (bucket, key)
    assert (found["error"] == error) if error else (found["request_id"] == request_id)


def test_a_long_file_is_moved_away_and_replaces_the_one_before(path: Path) -> None:
    log = AuditLog(str(path), max_bytes=200)
    for number in range(6):
        log.record(entry(number))
        log.flush()
    assert [line["attempt"] for line in lines(Path(f"{path}.1"))] == [4, 5]
    assert lines(path) == []


def test_lines_that_cannot_be_written_are_counted_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    log = AuditLog(str(folder / "audit.log"))
    for number in range(3):
        log.record(entry(number))
        log.flush()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the audit log {folder}/audit.log can't be written and loses lines: No such")
    folder.mkdir()
    log.record(entry(3))
    log.flush()
    log.record(entry(4))
    log.flush()
    lost, *kept = lines(folder / "audit.log")
    assert lost == {"pid": os.getpid(), "lost_lines": 3}
    assert [line["attempt"] for line in kept] == [3, 4]


def test_a_full_disk_costs_lines_only(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog("/dev/full")
    log.record(entry())
    log.flush()
    assert "No space left on device" in caplog.text


SEVERAL_PROCESSES = """
import multiprocessing, os, sys
from osstorchconnector import logs
from osstorchconnector.config import Config
from osstorchconnector.logs import AuditEntry, audit_log
log = audit_log(Config(audit_path=sys.argv[1]))
def record(name, number):
    log.record(AuditEntry(0, "GetObject", "bucket", name, number, 0))
def work(name):
    for number in range(700):
        record(name, number)
record("parent", 0)
if os.fork() == 0:
    record("child", 0)
    sys.exit()
os.wait()
workers = [multiprocessing.get_context("fork").Process(target=work, args=(name,)) for name in ("a", "b")]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
record("parent", 1)
"""


def test_every_process_writes_its_own_lines_once_and_all_of_them_at_its_end(path: Path) -> None:
    run_python("-c", SEVERAL_PROCESSES, path)
    found = sorted((line["key"], line["attempt"]) for line in lines(path))
    of_workers = [(name, number) for name in ("a", "b") for number in range(700)]
    assert found == [*of_workers, ("child", 0), ("parent", 0), ("parent", 1)]
    assert len({line["pid"] for line in lines(path)}) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_audit_log_that_hangs_is_waited_for_once_and_its_lines_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = tmp_path / "audit.log"
    os.mkfifo(pipe)  # who opens it to write waits until somebody reads
    log = AuditLog(str(pipe), patience_seconds=0.05)
    for _ in range(3):
        log.record(AuditEntry(0.0, "GetObject", "b", "k", 1, 0.1, status=200))
        log.flush()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["no answer within 0.05 s"]
    with pipe.open("rb") as read:
        found = b""
        while b"lost_lines" not in found:
            log.record(AuditEntry(0.0, "GetObject", "b", "k", 1, 0.1, status=200))
            log.flush()
            found += os.read(read.fileno(), 1 << 16)
    assert int(found.partition(b'"lost_lines":')[2].partition(b"}")[0]) >= 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_however_many_clients_begin_one_thread_hangs_with_a_log_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_File", functools.partial(_File, patience_seconds=0.05))
    os.mkfifo(tmp_path / "log")
    config = Config(log_path=str(tmp_path / "log"), audit_path=str(tmp_path / "log"), configured=frozenset({"logPath"}))
    before = set(threading.enumerate())
    for number in range(5):
        configure_logging(config, logging.getLogger(f"test-{number}"))
        assert audit_log(config) is None
    assert len(set(threading.enumerate()) - before) == 1
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["no answer within 0.05 s"]
    (tmp_path / "log").open("rb").close()  # lets the thread go


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_log_file_that_hangs_does_not_stop_who_logs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    file = _File(str(tmp_path / "log"), patience_seconds=0.05)
    for _ in range(3):
        with pytest.raises(OSError, match="no answer"):
            file.append(b"line")
    (tmp_path / "log").open("rb").close()  # lets the thread go
