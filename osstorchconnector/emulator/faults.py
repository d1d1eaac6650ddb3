"""Which requests a fault strikes: rules by operation, bucket, key and query, with counts, probabilities or a script.

Rules are added and cleared at run time. Each rule has its own random numbers from its own seed, so runs are repeatable.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .effect import Effect
from .effects import make_effect
from .exchange import Call
from .interface import OPERATIONS


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


def names_of(effects: Iterable[Effect]) -> str:
    """Return the faults' names in the format of the log."""
    return "+".join(effect.name for effect in effects)
