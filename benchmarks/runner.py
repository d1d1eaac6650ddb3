"""Runs a work: all contenders measured in interleaved rounds, on a server of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from osstorchconnector.emulator import Counters, Emulator

from .budget import Budget
from .crew import Crew
from .gauge import cpu_seconds_of
from .site import open_site
from .values import Contender, Outcome, Result, Sample, Work

T = TypeVar("T")
Say = Callable[[str], None]


def run(
    work: Work, crew: Crew, *, is_quick: bool, rounds: int, only: frozenset[str], budget: Budget, say: Say
) -> Result:
    """Measure a work. `only` names the contenders that take part besides this library; empty means all."""
    with open_site(**work.options) as site:
        contenders = chosen(work.prepare(site, **work.sizes(is_quick=is_quick)), only, is_quick=is_quick)
        outcomes = _measure(work, contenders, crew, site.servers, rounds=rounds, budget=budget, say=say)
    return Result(
        name=work.name,
        title=work.title.format(**work.sizes(is_quick=is_quick)),
        unit=work.unit,
        scale=work.scale,
        figure=work.figure,
        goals=work.goals,
        outcomes=outcomes,
        curve=work.curve,
        x=work.x,
        label=work.label,
        bytes_each=work.bytes_each(is_quick=is_quick),
        processes=work.processes(is_quick=is_quick),
        milliseconds=work.sizes(is_quick=is_quick).get("milliseconds", 0.0),
        date=time.strftime("%Y-%m-%d"),
    )


def chosen(contenders: Sequence[Contender], only: frozenset[str], *, is_quick: bool) -> list[Contender]:
    """Return the contenders that take part: this library, and those in `only`, or all others where it is empty."""
    ours, *others = contenders
    if only:
        return [ours, *(each for each in others if each.name in only)]
    return [ours, *(each for each in others if not (is_quick and each.is_extra))]


def turns(contenders: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield (round, contender), each contender once per round. The one that begins changes from round to round.

    A machine's speed changes by the minute. So contenders that are compared are measured close together, and none
    always has the same position in the round.
    """
    for number in range(rounds):
        shift = number % len(contenders) if contenders else 0
        for contender in (*contenders[shift:], *contenders[:shift]):
            yield number, contender


def with_counts(sample: Sample, counts: Sequence[Counters]) -> Sample:
    """Add what the servers counted of reads.

    `gets` is the number of requests, `refused` the share of them that was refused. `sent_of_needed` is for a sample
    that says how many bytes it needed: 1 where the server sent no byte in vain.
    """
    requests, errors, sent = (
        sum(getattr(each, name)["GetObject"] for each in counts) for name in ("requests", "errors", "sent")
    )
    extra = {**sample.extra, "gets": requests, "refused": errors / requests if requests else 0.0}
    if needed := sample.extra.get("needed_bytes"):
        extra["sent_of_needed"] = sent / needed
    return replace(sample, extra=extra)


def _measure(
    work: Work,
    contenders: list[Contender],
    crew: Crew,
    servers: Sequence[Emulator],
    *,
    rounds: int,
    budget: Budget,
    say: Say,
) -> list[Outcome]:
    samples: dict[str, list[Sample]] = {each.name: [] for each in contenders}
    missing: dict[str, str] = {}
    for number, contender in turns(contenders, rounds):
        name = contender.name
        if name in missing:
            continue
        say(f"{work.name}: round {number + 1} of {rounds}, {name}")
        for server in servers:
            server.set_network(contender.network)
            server.reset_counters()
        server_seconds = sum(cpu_seconds_of(server.pid) for server in servers)
        outcome = crew.measure(contender, limit_seconds=min(work.limit_seconds, budget.left()))
        server_seconds = sum(cpu_seconds_of(server.pid) for server in servers) - server_seconds
        counts = [server.counters(with_log=False) for server in servers]
        samples[name] += [replace(with_counts(each, counts), server_seconds=server_seconds) for each in outcome.samples]
        if outcome.missing:
            missing[name] = outcome.missing
    calls = None
    if work.counts_calls and samples[contenders[0].name]:
        say(f"{work.name}: calls of {contenders[0].name}")
        calls = crew.count_calls(contenders[0], limit_seconds=min(work.limit_seconds, budget.left()))
    return [
        Outcome(
            name=each.name,
            samples=samples[each.name],
            missing=missing.get(each.name, ""),
            is_limit=each.is_limit,
            calls=calls if each is contenders[0] else None,
        )
        for each in contenders
    ]
