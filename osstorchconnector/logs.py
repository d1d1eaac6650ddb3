"""The connector's log and audit log. A log that can't be written never stops a job.

The log goes through Python's `logging`, under the name `osstorchconnector`; `logPath` adds a file to it. The audit log
has one JSON line per request. Both contain keys, labels and texts from servers, so line breaks and escape sequences in
these are escaped. Each write opens the file: so a fork inherits no open file, and after logrotate has moved the file
away the next write creates a new one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json.encoder
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from .config import Config
from .patience import Asking, NoAnswerError, NoThreadError
from .redaction import MAX_NAME_LETTERS

MAX_AUDIT_BYTES = 256 << 20

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(process)d %(threadName)s %(name)s: %(message)s"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROLS |= {0x0A: "\\n", 0x0D: "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# A batch costs the opening of a file and the start of a thread: 2 us per line with 512 lines (measured).
_BATCH_LINES = 4096
_BATCH_SECONDS = 1.0
# How long to wait for a file that hangs: a disk may be busy for a while.
_PATIENCE_SECONDS = 5.0
# After multiprocessing's own clean-up, which joins workers and feeder threads that may still send requests.
_EXIT_PRIORITY = -100

_logger = logging.getLogger("osstorchconnector")
_quoted = json.encoder.encode_basestring_ascii


def configure_logging(config: Config, logger: logging.Logger = _logger) -> None:
    """Let `logger` write to `logPath` at `logLevel`. Repeated calls in one process add nothing.

    Sets the logger's level only if the program has not set one, and only if `logLevel` is configured or a file is
    written. Each log file gets the lines of all clients. One warning names a configured path that can't be written; a
    default path is silently not used then.
    """
    level = _LEVELS[config.log_level]
    with _process.lock:
        file = next((each for each in logger.handlers if _writes_to(each, config.log_path)), None)
        if file is None and _is_writable("logPath", config.log_path, config):
            file = _LogFile(config.log_path)
            logger.addHandler(file)
            file.setLevel(level)
        if file is not None or "logLevel" in config.configured:
            _process.set_level(logger, level)


def audit_log(config: Config) -> AuditLog | None:
    """Return this process's audit log at `auditPath`, or `None` if the path is empty or can't be written."""
    with _process.lock:
        log = _process.audit_logs.get(config.audit_path)
        if log is None and _is_writable("auditPath", config.audit_path, config):
            log = _process.audit_logs[config.audit_path] = AuditLog(config.audit_path)
        return log


class AuditEntry(NamedTuple):
    """One request: an answer with its status, or an `error`."""

    time: float  # of its start, in seconds since the epoch
    operation: str
    bucket: str
    key: str
    attempt: int
    seconds: float
    sent_bytes: int = 0
    status: int = 0
    request_id: str = ""
    received_bytes: int | None = None  # as the answer announced
    error: str = ""

    def line(self, pid: int) -> str:
        """Return a line of ASCII JSON."""
        return _lines([self], pid)


AuditFields = tuple[float, str, str, str, int, float, int, int, str, int | None, str]
"""The values of an `AuditEntry`."""


def _lines(entries: Iterable[AuditFields], pid: int) -> str:
    """Return the entries' lines of ASCII JSON. (Formatted here, because `json` takes twice the time.)"""
    lines = ""
    names: dict[str, str] = {}  # of operations and buckets, which are few, in quotes
    for time_, operation, bucket, key, attempt, seconds, sent_bytes, status, request_id, received, error in entries:
        for name in (operation, bucket):
            if name not in names:
                names[name] = _quoted(name)
        sent = f',"sent":{sent_bytes}' if sent_bytes else ""
        if error:
            outcome = f'"error":{_quoted(error)}'
        else:
            size = "null" if received is None else received
            outcome = f'"status":{status},"request_id":{_quoted(request_id[:MAX_NAME_LETTERS])},"bytes":{size}'
        lines += (
            f'{{"pid":{pid},"time":{time_:.6f},"operation":{names[operation]},"bucket":{names[bucket]},'
            f'"key":{_quoted(key)},"attempt":{attempt},"seconds":{seconds:.6f}{sent},{outcome}}}\n'
        )
    return lines


class AuditLog:
    """One JSON line per request, written in batches by the thread that records the last entry of a batch.

    A batch is written when it has 4096 lines, when an entry comes a second after the first of the batch, at `flush`,
    and at the end of the process. A file longer than `max_bytes` is renamed to `<path>.1`, which replaces the previous
    one. Lines that can't be written are counted, and the count is written when writing works again.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_AUDIT_BYTES,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._path = str(Path(path).absolute())
        self._clock = clock
        self._max_bytes, self._patience_seconds = max_bytes, patience_seconds
        self._lost_lines = 0
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget the entries not yet written: after a fork, the parent writes them."""
        self._waiting: list[AuditFields] = []
        self._waiting_lines = 0
        self._lock = threading.Lock()
        self._file = _File(self._path, self._patience_seconds)
        self._due_at = 0.0
        self._exit_flush: object = None

    def record(self, entry: AuditFields) -> None:
        """Add an entry, or its values. Never raises; writes a batch if one is due."""
        # No lock: to append to a list, to copy it and to cut it are atomic, so each entry is in exactly one batch.
        if not self._waiting:
            self._due_at = self._clock() + _BATCH_SECONDS
            if self._exit_flush is None:
                from multiprocessing.util import Finalize  # unlike atexit, it also runs in forked workers

                self._exit_flush = Finalize(None, self.flush, exitpriority=_EXIT_PRIORITY)
        self._waiting.append(entry)
        self._waiting_lines += 1  # only an estimate: threads that add at once may lose an addition
        if self._waiting_lines >= _BATCH_LINES or self._clock() >= self._due_at:
            self.flush()

    def flush(self) -> None:
        """Write all entries that are not yet written."""
        with self._lock:
            problem = self._write_batch()
        if problem:  # outside the lock, because a user's log handler may send requests itself
            _logger.warning("the audit log %s can't be written and loses lines: %s", self._path, problem)

    def _write_batch(self) -> str:
        """Write all entries; return the problem if there is one that has not been reported yet."""
        batch = self._waiting[:]
        del self._waiting[: len(batch)]  # other threads may have added entries behind
        self._waiting_lines = len(self._waiting)
        if not batch:
            return ""
        pid = os.getpid()
        lost = f'{{"pid":{pid},"lost_lines":{self._lost_lines}}}\n' if self._lost_lines else ""
        text = (lost + _lines(batch, pid)).encode()
        try:
            size = self._file.append(text)
        except OSError as error:
            self._lost_lines += len(batch)
            return "" if lost else error.strerror or type(error).__name__
        self._lost_lines = 0
        if size > self._max_bytes:
            self._move_away()
        return ""

    def _move_away(self) -> None:
        with contextlib.suppress(OSError):
            if Path(self._path).stat().st_size > self._max_bytes:  # unless another process has just renamed it
                Path(self._path).replace(f"{self._path}.1")


class _LogFile(logging.Handler):
    """Appends one line per record, and drops lines that can't be written.

    Python writes warnings to stderr if a program has no handler. This handler would stop that, so it writes them to
    stderr itself if it is the only handler.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = str(Path(path).absolute())
        self._file = _File(self.path)
        self.setFormatter(_OneLineFormatter(_LINE, "%Y-%m-%dT%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # a mistake in a logging call, reported in the way of `logging`
            self.handleError(record)
            return
        with contextlib.suppress(OSError):
            self._file.append(line.encode(errors="backslashreplace"))
        last_resort = logging.lastResort
        if last_resort is not None and record.levelno >= last_resort.level and self._is_all_there_is(record.name):
            last_resort.handle(record)

    def _is_all_there_is(self, name: str) -> bool:
        """Whether this is the first of our files, and the logger `name` has no other handlers than these."""
        logger: logging.Logger | None = logging.getLogger(name)
        handlers: list[logging.Handler] = []
        while logger is not None:
            handlers += logger.handlers
            logger = logger.parent if logger.propagate else None
        files = [handler for handler in handlers if isinstance(handler, _LogFile)]
        return len(files) == len(handlers) and files[0] is self


class _OneLineFormatter(logging.Formatter):
    """One line per record, in UTC. The lines of a traceback follow, indented, unlike the first line of a record."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        details = [self.formatException(record.exc_info)] if record.exc_info else []
        details += [record.stack_info] if record.stack_info else []
        lines = [self.formatMessage(record), *(line for detail in details for line in detail.split("\n"))]
        return "\n    ".join(line.translate(_CONTROLS) for line in lines)


class _Process:
    """The state of one process. After a fork the child gets a new lock and empty audit logs."""

    def __init__(self) -> None:
        self._renew_lock()
        self.audit_logs: dict[str, AuditLog] = {}
        self.named_paths: set[str] = set()
        self.files: dict[
            str, _File
        ] = {}  # all that were tried: a file that hangs is not opened again in another thread
        self.levels: dict[str, int] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_afresh)

    def _renew_lock(self) -> None:
        self.lock = threading.RLock()  # reentrant: a warning may reach a user's handler that opens a client

    def _start_afresh(self) -> None:
        self._renew_lock()
        for log in self.audit_logs.values():
            log.start_afresh()

    def set_level(self, logger: logging.Logger, level: int) -> None:
        """Set the lowest level that a configuration asks for, unless the program has set one."""
        ours = self.levels.get(logger.name, logging.NOTSET)
        if logger.level == ours:
            self.levels[logger.name] = level if ours == logging.NOTSET else min(level, ours)
            logger.setLevel(self.levels[logger.name])


_process = _Process()


def _writes_to(handler: logging.Handler, path: str) -> bool:
    return bool(path) and isinstance(handler, _LogFile) and handler.path == str(Path(path).absolute())


def _is_writable(key: str, path: str, config: Config) -> bool:
    """Whether the file can be appended to, found out by a try that creates file and folder."""
    if not path:
        return False
    is_configured = key in config.configured
    try:
        _process.files.setdefault(path, _File(path)).begin(parents=is_configured)
    except OSError as error:
        if is_configured and path not in _process.named_paths and not _is_worker():
            _process.named_paths.add(path)
            _logger.warning("%s can't be written and is not used: %s: %s", key, path, error.strerror)
        return False
    return True


def _is_worker() -> bool:
    """Whether this is a child of multiprocessing, whose parent has given the warnings already."""
    from multiprocessing.process import parent_process

    return parent_process() is not None


class _File:
    """Appends to a file for callers that must not block for long, such as event loops and threads with locks.

    A file server that is gone does not answer and raises no error. The first write waits `patience_seconds` for it.
    Until it is back, further writes fail at once.
    """

    def __init__(self, path: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._path, self._patience_seconds = path, patience_seconds
        self._pid = -1

    def begin(self, *, parents: bool) -> None:
        """Create the file and its folder if missing, with `parents` the folders above too. Raises `OSError`."""

        def begin() -> int:
            # For a default path only the last folder is created: no /var/log on a system without one.
            Path(self._path).parent.mkdir(parents=parents, exist_ok=True)
            return _append(self._path, b"")

        self._do(begin)

    def append(self, text: bytes) -> int:
        """Append `data` and return the size of the file. Raises `OSError`, also if the file hangs."""
        return self._do(functools.partial(_append, self._path, text))

    def _do(self, call: Callable[[], int]) -> int:
        if self._pid != os.getpid():  # after a fork, a call that hangs belongs to the parent
            self._pid, self._asking = os.getpid(), Asking[int]()
        try:
            return self._asking.do(call, self._patience_seconds)
        except NoThreadError:
            return call()
        except NoAnswerError as error:
            raise OSError(errno.ETIMEDOUT, str(error)) from None


def _append(path: str, text: bytes) -> int:
    """Append with one write, so that processes that share the file do not mix lines; return the file's size."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o640)
    try:
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
