"""All faults by name (`CATALOGUE`), and rules that say which requests they strike: by operation, object and query, with
counts, probabilities or a script.

Rules are added and cleared at run time. Each rule has its own random numbers from its own seed, so runs are repeatable.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import answer_effects, effects
from .effects import Effect, Options
from .exchange import Call
from .interface import OPERATIONS
from .refusals import CODES

_SHORT_CODES = {
    "400": "RequestTimeout",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "429": "QpsLimitExceeded",
    "500": "InternalError",
    "503": "ServiceUnavailable",
    "expired_token": "SecurityTokenExpired",
    "skewed": "RequestTimeTooSkewed",
    "slow_down": "ServiceUnavailable",
}
_REFUSE_OPTIONS = frozenset({"code", "message", "status", "headers", "after_work", "early"})
_NO_OPTIONS: frozenset[str] = frozenset()

CATALOGUE: dict[str, tuple[Callable[[Options], Effect], frozenset[str]]] = {
    "error": (effects.refuse, _REFUSE_OPTIONS),
    "answer": (effects.answer, frozenset({"status", "headers", "data", "after_work"})),
    "html": (effects.html, frozenset({"status", "after_work"})),
    "redirect": (effects.redirect, frozenset({"location", "status"})),
    "reset": (effects.reset, frozenset({"after_work"})),
    "close": (effects.close, frozenset({"after_work"})),
    "lost_answer": (effects.lost_answer, _NO_OPTIONS),
    "ignore_range": (effects.ignore_range, _NO_OPTIONS),
    "replace": (effects.replace, frozenset({"data"})),
    "delete": (effects.delete, _NO_OPTIONS),
    "wrong_crc": (answer_effects.wrong_crc, _NO_OPTIONS),
    "headers": (answer_effects.headers, frozenset({"headers"})),
    "status": (answer_effects.status, frozenset({"status"})),
    "malformed_xml": (answer_effects.malformed_xml, frozenset({"data"})),
    "repeat_token": (answer_effects.repeat_token, _NO_OPTIONS),
    "duplicate_page": (effects.duplicate_page, _NO_OPTIONS),
    "foreign_keys": (answer_effects.foreign_keys, _NO_OPTIONS),
    "latency": (answer_effects.latency, frozenset({"seconds"})),
    "stall_head": (answer_effects.stall_head, frozenset({"seconds"})),
    "reset_body": (answer_effects.reset_body, frozenset({"at"})),
    "truncate": (answer_effects.truncate, frozenset({"at"})),
    "stall": (answer_effects.stall, frozenset({"at", "seconds"})),
    "drip": (answer_effects.drip, frozenset({"piece_bytes", "seconds"})),
    "flip": (answer_effects.flip, frozenset({"at"})),
    "chunked": (answer_effects.chunked, frozenset({"chunk_bytes"})),
    "lying_length": (answer_effects.lying_length, frozenset({"delta"})),
    "garbage": (answer_effects.garbage, frozenset({"data"})),
    "endless_head": (answer_effects.endless_head, _NO_OPTIONS),
    "close_after": (answer_effects.close_after, frozenset({"announced"})),
    "reset_upload": (effects.reset_upload, frozenset({"at"})),
    "drip_upload": (effects.drip_upload, frozenset({"seconds"})),
    "flip_upload": (effects.flip_upload, frozenset({"at"})),
    "stall_upload": (effects.stall_upload, frozenset({"at", "seconds"})),
}


def make_effect(name: str, options: Options) -> Effect:
    """Return the effect of a fault; raise `ValueError` for an unknown name or option."""
    build: Callable[[Options], Effect]
    if name in CODES or name in _SHORT_CODES:
        build, allowed = effects.refuse, _REFUSE_OPTIONS
        options = {"code": _SHORT_CODES.get(name, name), **options}
    elif name in CATALOGUE:
        build, allowed = CATALOGUE[name]
    else:
        raise ValueError(f"no fault {name!r}; there are {', '.join(sorted({*CATALOGUE, *_SHORT_CODES}))} and OSS codes")
    unknown = set(options) - allowed
    if unknown:
        raise ValueError(f"fault {name!r} has no option {sorted(unknown)}; it has {sorted(allowed)}")
    try:
        effect = build(options)
    except KeyError as error:
        raise ValueError(f"fault {name!r} needs the option {error}") from None
    return Effect(**{**effect.__dict__, "name": name})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which requests get a fault; an empty field matches every request.

    Of the matching requests the first `after` are spared and the next `times` are struck (None: all of them), each
    with `probability`. With `per_key` each object has its own two counts. `above_rate` spares that many requests per
    second. `script` names the faults of the matching requests one by one instead (None: no fault); after its end there
    are none.
    """

    fault: str = ""
    operation: str = ""
    bucket: str = ""
    key: str = ""
    prefix: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    per_key: bool = False
    above_rate: float | None = None
    script: Sequence[str | Mapping[str, Any] | None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, call: Call) -> bool:
        return (
            self.operation in ("", call.operation)
            and self.bucket in ("", call.bucket)
            and self.key in ("", call.key)
            and call.key.startswith(self.prefix)
            and all(call.parameter(name) == value for name, value in self.query.items())
        )


class ActiveRule:
    """A rule in use, with its counts so far."""

    def __init__(self, rule: Rule, clock: Callable[[], float], *, number: int) -> None:
        self.rule = rule
        self._clock = clock
        self._effects = _effects_of(rule)
        self._seen: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()
        # Rules with the same seed must not strike the same requests.
        self._random = random.Random(f"{rule.seed} {number}")
        self._allowance, self._last = rule.above_rate or 0.0, clock()

    def strike(self, call: Call) -> Effect | None:
        """Return the effect on this request, or None if it is spared."""
        rule = self.rule
        if not rule.matches(call):
            return None
        counted = f"{call.bucket}/{call.key}" if rule.per_key else ""
        number = self._seen[counted] - rule.after
        self._seen[counted] += 1
        if number < 0:
            return None
        if rule.script is not None:
            return self._effects[number] if number < len(self._effects) else None
        if rule.times is not None and self._struck[counted] >= rule.times:
            return None
        if not self._is_over_rate() or (rule.probability < 1 and self._random.random() >= rule.probability):
            return None
        self._struck[counted] += 1
        return self._effects[0]

    def _is_over_rate(self) -> bool:
        """Whether a request now exceeds the rate; the requests of one second may come at once."""
        rate = self.rule.above_rate
        if rate is None:
            return True
        now = self._clock()
        self._allowance = min(self._allowance + (now - self._last) * rate, rate)
        self._last = now
        if self._allowance < 1:
            return True
        self._allowance -= 1
        return False


class FaultBook:
    """The rules in use, in the order in which they were added."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rules: list[ActiveRule] = []

    def add(self, rule: Rule) -> None:
        """Add a rule; raise `ValueError` if it names an unknown operation or fault, which would never strike."""
        if rule.operation and rule.operation not in OPERATIONS:
            raise ValueError(f"no operation {rule.operation!r}; there are {', '.join(sorted(OPERATIONS))}")
        self._rules.append(ActiveRule(rule, self._clock, number=len(self._rules)))

    def clear(self) -> None:
        self._rules.clear()

    def draw(self, call: Call) -> Sequence[Effect]:
        """Return the effects of all rules that strike this request; each matching rule counts it."""
        if not self._rules:
            return ()
        return [effect for rule in self._rules if (effect := rule.strike(call)) is not None]


def _effects_of(rule: Rule) -> list[Effect | None]:
    if rule.script is None:
        return [make_effect(rule.fault, rule.options)]
    return [_scripted(entry) for entry in rule.script]


def _scripted(entry: str | Mapping[str, Any] | None) -> Effect | None:
    if entry is None:
        return None
    if isinstance(entry, str):
        return make_effect(entry, {})
    options = dict(entry)
    return make_effect(options.pop("fault"), options)


def names_of(struck: Iterable[Effect]) -> str:
    """Return the faults' names in the format of the log."""
    return "+".join(effect.name for effect in struck)
