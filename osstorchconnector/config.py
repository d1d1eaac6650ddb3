"""Settings: one JSON file, read once into a frozen value. Every key is checked before any request."""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import logging
import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .errors import OssConfigError
from .leftovers import refuse_leftovers
from .patience import Asking, NoAnswerError

refuse_leftovers()

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

DEFAULT_CONFIG_PATH = "/etc/oss-connector/config.json"
CONFIG_VARIABLE = "OSS_CONNECTOR_CONFIG"
MAX_CONFIG_BYTES = MIB
_PIPE_SECONDS = 10.0

_logger = logging.getLogger(__name__)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


Concurrency = int | Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """How much is done at the same time: requests in flight, their event-loop threads, parts in flight.

    "auto" adapts to the network (`client/concurrency.py`).
    """

    prefetch_concurrency: Concurrency = "auto"
    prefetch_worker: int = 2
    upload_concurrency: Concurrency = "auto"


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings. `Config()` has the defaults. It checks nothing; `load_config` does.

    `configured` holds the names of the keys in the file. So a default that can't be used (a log under `/var/log`) is
    told apart from a configured value that can't be used.
    """

    log_level: int = 1
    log_path: str = "/var/log/oss-connector/connector.log"
    audit_path: str = "/var/log/oss-connector/audit.log"
    dataset: TransferConfig = TransferConfig()
    checkpoint: TransferConfig = TransferConfig(prefetch_worker=4)
    fast_list: bool | Literal["auto"] = "auto"
    list_concurrency: Concurrency = "auto"
    list_worker: int = 1
    transport: Literal["direct", "aiohttp"] = "direct"
    ca_file: str = ""
    signature_version: Literal["auto", "v1", "v4"] = "auto"
    addressing: Literal["auto", "virtual", "path", "cname"] = "auto"
    upload_memory_bytes: int = 512 * MIB
    part_bytes: int = 16 * MIB
    index_dir: str = ""
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 30
    operation_timeout_seconds: float = 120
    max_attempts: int = 20
    retry_base_delay_seconds: float = 0.2
    retry_max_delay_seconds: float = 10
    retry_budget: int = 1000
    hedge_reads: bool | Literal["auto"] = False
    cred: str = ""
    configured: frozenset[str] = field(default=frozenset(), compare=False, repr=False)


class _WrongValueError(Exception):
    """The text says what the value must be."""


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise _WrongValueError(f"a whole number from {least} to {most}")

    return read


def _concurrency(value: object) -> Concurrency:
    if value == "auto":
        return "auto"
    try:
        return _whole(1, 4096)(value)
    except _WrongValueError as error:
        raise _WrongValueError(f'{error}, or "auto"') from None


def _seconds(least: float, most: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        raise _WrongValueError(f"a number of seconds from {least:g} to {most:g}")

    return read


def _one_of(*names: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise _WrongValueError("one of " + ", ".join(json.dumps(name) for name in names))

    return read


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _WrongValueError("true or false")


def _flag_or_auto(value: object) -> bool | str:
    if value == "auto" or isinstance(value, bool):
        return value
    raise _WrongValueError('true, false or "auto"')


def _path(value: object) -> str:
    if isinstance(value, str) and "\0" not in value:
        # A lone surrogate is no path, and `~` of a user without a home is none.
        with contextlib.suppress(UnicodeError, RuntimeError):
            os.fsencode(value)
            return str(Path(value).expanduser()) if value else ""
    raise _WrongValueError('a path in quotes ("" for none)')


def _readable_file(value: object) -> str:
    path = _path(value)
    if not path or _is_file(path):
        return path
    raise _WrongValueError('the path of an existing file ("" for none)')


def _name_of_place(value: object) -> str:
    # Which names there are is known to `credentials`, which says so.
    if isinstance(value, str) and value.isprintable():
        return value
    raise _WrongValueError('the name of a place, such as "ecs" or "profile:NAME" ("" for the first that there is)')


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # no permission for a folder on the way
        return False


class Key(NamedTuple):
    """The field that a key of the file sets, and the function that reads its value."""

    target: str
    read: Callable[[object], Any]


KEYS: Mapping[str, Key] = {
    "logLevel": Key("log_level", _whole(0, 3)),
    "logPath": Key("log_path", _path),
    "auditPath": Key("audit_path", _path),
    "datasetConfig.prefetchConcurrency": Key("dataset.prefetch_concurrency", _concurrency),
    "datasetConfig.prefetchWorker": Key("dataset.prefetch_worker", _whole(1, 256)),
    "datasetConfig.enableFastList": Key("fast_list", _flag_or_auto),
    "datasetConfig.listConcurrency": Key("list_concurrency", _concurrency),
    "datasetConfig.listWorker": Key("list_worker", _whole(1, 256)),
    "checkpointConfig.prefetchConcurrency": Key("checkpoint.prefetch_concurrency", _concurrency),
    "checkpointConfig.prefetchWorker": Key("checkpoint.prefetch_worker", _whole(1, 256)),
    "checkpointConfig.uploadConcurrency": Key("checkpoint.upload_concurrency", _concurrency),
    "transport": Key("transport", _one_of("direct", "aiohttp")),
    "caFile": Key("ca_file", _readable_file),
    "signatureVersion": Key("signature_version", _one_of("auto", "v1", "v4")),
    "addressing": Key("addressing", _one_of("auto", "virtual", "path", "cname")),
    "uploadMemory": Key("upload_memory_bytes", _whole(MIB, 1 << 50)),
    "partSize": Key("part_bytes", _whole(100 * KIB, 5 * GIB)),
    "indexDir": Key("index_dir", _path),
    "connectTimeout": Key("connect_timeout_seconds", _seconds(0.001, 86400)),
    "readTimeout": Key("read_timeout_seconds", _seconds(0.001, 86400)),
    "operationTimeout": Key("operation_timeout_seconds", _seconds(0.001, 86400)),
    "maxAttempts": Key("max_attempts", _whole(1, 1000)),
    "retryBaseDelay": Key("retry_base_delay_seconds", _seconds(0, 3600)),
    "retryMaxDelay": Key("retry_max_delay_seconds", _seconds(0, 3600)),
    "retryBudget": Key("retry_budget", _whole(0, 1_000_000)),
    "hedgeReads": Key("hedge_reads", _flag_or_auto),
    "cred": Key("cred", _name_of_place),
}
_SECTIONS = frozenset(name.partition(".")[0] for name in KEYS if "." in name)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    default_path: str = DEFAULT_CONFIG_PATH,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the settings of the JSON file at `path`.

    Without a path: the settings of the file that the environment variable OSS_CONNECTOR_CONFIG names; without that,
    those of `default_path` if it exists, else the defaults. One logged warning names unknown keys. Anything else that
    is wrong raises `OssConfigError`, which names file, key and value.
    """
    path, named_by = config_file(path, default_path=default_path, environ=environ)
    return parse_config(_read(path, named_by), os.fspath(path)) if path else Config()


def config_file(
    path: str | os.PathLike[str] | None = None,
    *,
    default_path: str = DEFAULT_CONFIG_PATH,
    environ: Mapping[str, str] | None = None,
) -> tuple[str | os.PathLike[str], str]:
    """Return the file that `load_config` would read, "" for none, and what names it."""
    if path is not None and path != "":
        return path, "config_path"
    path = (os.environ if environ is None else environ).get(CONFIG_VARIABLE, "")
    if path:
        return path, CONFIG_VARIABLE
    return default_path if _is_file(default_path) else "", "the default"


def parse_config(text: bytes, where: str) -> Config:
    """Return the settings in `text`; warnings and errors call it `where`."""
    found = _flattened(_parsed(text, where), where)
    _warn_of_unknown([name for name in found if name not in KEYS], where)
    values = {name: _checked(name, value, where) for name, value in found.items() if name in KEYS}
    config = _assembled(values)
    if config.retry_max_delay_seconds < config.retry_base_delay_seconds:
        raise OssConfigError(
            f"{where}: retryMaxDelay is {config.retry_max_delay_seconds:g}, "
            f"less than retryBaseDelay, which is {config.retry_base_delay_seconds:g}"
        )
    return config


def _read(path: str | os.PathLike[str], named_by: str) -> bytes:
    try:
        read = functools.partial(_bytes_of, file := Path(path).expanduser())
        # Opening a pipe without a writer would block forever.
        text = read() if file.is_file() else Asking[bytes]().ask(read, _PIPE_SECONDS)
    except NoAnswerError as error:
        raise OssConfigError(f"can't read the config file {path} ({named_by} names it): {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OssConfigError(f"can't read the config file {path} ({named_by} names it): {reason}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise OssConfigError(f"{named_by} names no file: {path!r} ({error})") from None
    if len(text) > MAX_CONFIG_BYTES:
        raise OssConfigError(f"the config file {path} is longer than {MAX_CONFIG_BYTES} bytes")
    return text


def _bytes_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_CONFIG_BYTES + 1)


def _parsed(text: bytes, where: str) -> dict[str, object]:
    try:
        document = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
    except RecursionError:
        raise OssConfigError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise OssConfigError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise OssConfigError(f"{where}: must hold a JSON object, not {_short.repr(document)}")
    return document


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_short.repr(twice)} stands there twice")
    return found


def _flattened(document: dict[str, object], where: str) -> dict[str, object]:
    """Return the document with the keys of its sections renamed to `section.key`."""
    flat: dict[str, object] = {}
    for name, value in document.items():
        if name not in _SECTIONS:
            flat[name if "." not in name else f"{name} (as one word)"] = value
        elif isinstance(value, dict):
            flat.update({f"{name}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            raise OssConfigError(f"{where}: {name} must be a JSON object, not {_short.repr(value)}")
    return flat


def _checked(name: str, value: object, where: str) -> Any:
    try:
        return KEYS[name].read(value)
    except _WrongValueError as error:
        raise OssConfigError(f"{where}: {name} must be {error}, not {_short.repr(value)}") from None


def _assembled(values: Mapping[str, Any]) -> Config:
    fields: dict[str, dict[str, Any]] = {"": {}, "dataset": {}, "checkpoint": {}}
    for name, value in values.items():
        section, _, attribute = KEYS[name].target.rpartition(".")
        fields[section][attribute] = value
    plain = Config()
    return replace(
        plain,
        dataset=replace(plain.dataset, **fields["dataset"]),
        checkpoint=replace(plain.checkpoint, **fields["checkpoint"]),
        configured=frozenset(values),
        **fields[""],
    )


def _warn_of_unknown(names: list[str], where: str) -> None:
    if names:
        _logger.warning("%s: these keys are unknown and ignored: %s", where, ", ".join(map(_with_guess, names)))


def _with_guess(name: str) -> str:
    near = [key for key in KEYS if key.endswith(f".{name}")]
    near = near or difflib.get_close_matches(name[:100], KEYS, n=1, cutoff=0.7)
    return f"{_short.repr(name)} (is {near[0]} meant?)" if near else _short.repr(name)
