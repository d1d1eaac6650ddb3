"""The matrix as `docs/reliability.md` shows it: `python -m faults.table` in `tests` prints it."""

from __future__ import annotations

from faults.faults import ALL, FAULTS, HARMLESS, UNDETECTABLE, Ending, Fault

_WORDS = {HARMLESS: "ends right", UNDETECTABLE: "can't be told: OSS gives no checksum of a part"}
_WHERE = {
    "CompleteMultipartUpload": "complete: recognised as done",
    "PutObject of DCP save": "metadata of a DCP save: recognised as done",
}


def table() -> str:
    """Return the rows of the matrix in Markdown."""
    return "\n".join(_row(fault) for fault in FAULTS)


def _row(fault: Fault) -> str:
    is_told_at_once = fault.is_final or fault.path in ("replaced midway", "deleted midway")
    once = "not tried again" if is_told_at_once else "ends right"
    late = [f"{user}: {_said(ending)}" for user, ending in fault.once.items()]
    others = [
        _WHERE.get(where, f"{where}: {_said(ending)}")
        for where, ending in fault.exceptions.items()
        if where in ("get", "range", "reader", "DCP load", "PutObject of DCP save", *fault.operations)
    ]
    struck = "every request" if fault.operations == ALL else ", ".join(fault.operations)
    cells = (fault.name, struck, "; ".join([once, *late]), "; ".join([_said(fault.always), *filter(None, others)]))
    return "| " + " | ".join(cells) + " |"


def _said(ending: Ending) -> str:
    return _WORDS[ending] if isinstance(ending, str) else f"`{ending.__name__}`"


if __name__ == "__main__":
    print(table())
