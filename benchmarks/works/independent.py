"""Works whose objects nginx serves: a server that is not ours, and not the limit. No signatures, no CRC-64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import nginx
from benchmarks.site import BUCKET, HOST, Site
from benchmarks.values import CXX, ON_NGINX, Contender, Goal, Work

from .large import WORKS as LARGE
from .objects import WORKS as SMALL

# All that only send GETs, with their goals.
_READS: Mapping[str, Sequence[Goal]] = {
    "small": [Goal(against=CXX, reach=1.3, aim=1.8)],
    "tiny": [Goal(against=CXX, reach=1.3, aim=1.8)],
    "loader": (),
    "map": (),
    "readinto": (),
    "read64k": (),
    "load": (),
}


def from_nginx(work: Work, goals: Sequence[Goal]) -> Work:
    """Return a work like this one, whose objects come from nginx. Of the peers only the C++ connector takes part."""

    def prepare(site: Site, **sizes: Any) -> Sequence[Contender]:
        contenders = [each for each in work.prepare(site, **sizes) if each.name == CXX or not each.is_extra]
        missing = nginx.missing() or site.name_missing
        port = 0 if missing else nginx.serve(site)
        return [_moved(each, port, missing) for each in contenders]

    return replace(
        work,
        name=f"{work.name}{ON_NGINX}",
        title=f"{work.title}, from nginx",
        label=f"{work.label}, from nginx",
        prepare=prepare,
        goals=goals,
        counts_calls=False,
    )


def _moved(contender: Contender, port: int, missing: str) -> Contender:
    """Return a contender that uses the server at this port."""
    options = dict(contender.options)
    if "access" in options:
        options["access"] = {**options["access"], "endpoint": f"http://{HOST}:{port}"}
    if "keys" in options:
        options["keys"] = {**options["keys"], "endpoint": f"http://{BUCKET}.{HOST}:{port}", "path": ""}
    return replace(contender, options=options, missing=contender.missing or missing)


def _works() -> list[Work]:
    works = {work.name: work for work in (*SMALL, *LARGE)}
    twins = [from_nginx(works[name], goals) for name, goals in _READS.items()]
    small = from_nginx(works["small"], ())
    title = f"{small.title}, one core taken by another process"
    return [*twins, replace(small, name="nginx-busy", title=title, label="", options={"busy_cores": 1})]


WORKS: Sequence[Work] = _works()
