"""The matrix of faults, operations and users: which cells there are, and what each must come to.

A user's request takes the way of the operation that sends it. So every fault is tried on every operation by itself,
and through the library's users only the first fault of those that take the same path.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from client.ports import black_hole, nobody
from exposure import assert_nothing_exposed
from faults.faults import FAULTS, HARMLESS, UNDETECTABLE, Ending, Fault
from faults.killing import stop_when
from faults.relay import Death, Relay
from faults.users import CLIENT, CROWD, DATA, LARGE, LIBRARY, SECRETS, TENSORS_FILE, USERS, Site, User

from osstorchconnector.client.transport.addresses import shared_book
from osstorchconnector.emulator.handle import write_credentials
from osstorchconnector.errors import OssConnectionError, OssCredentialsError, OssError, OssIntegrityError

ANSWERED = {"passing refusal", "throttled", "expired token", "malformed XML", "wrong CRC", "broken body"}


@dataclass(frozen=True)
class Cell:
    fault: Fault
    user: User
    operation: str
    stays: bool

    @property
    def ending(self) -> Ending:
        ending = self.fault.ending(self.operation, self.user.name)
        if self.stays or self.fault.is_final or ending == UNDETECTABLE:
            return ending
        return self.fault.once.get(self.user.name, HARMLESS)

    def __str__(self) -> str:
        return f"{self.fault.name}, {'always' if self.stays else 'once'}, {self.operation} of {self.user.name}"


def cells() -> list[Cell]:
    """Return every cell but those that are the same path as another."""
    return [cell for user in USERS for cell in _cells_of(user)]


def one_cell_per_fault() -> list[Cell]:
    """Return a slice that shows each fault once, the users in turn."""
    chosen: list[Cell] = []
    for number, fault in enumerate(FAULTS):
        fitting = [cell for cell in cells() if cell.fault is fault and not cell.user.in_workers]
        chosen.append(fitting[number * 7 % len(fitting)])
    return chosen


def _cells_of(user: User) -> Iterator[Cell]:
    paths: set[tuple[str, str]] = set()
    for operation in user.operations:
        for fault in FAULTS:
            if operation not in fault.operations or not _applies(fault, user):
                continue
            if user in LIBRARY and (operation, fault.path) in paths:
                continue
            paths.add((operation, fault.path))
            if not fault.is_final and fault.path not in ("replaced midway", "deleted midway"):  # once is as always
                yield Cell(fault, user, operation, stays=False)
            yield Cell(fault, user, operation, stays=True)


def _applies(fault: Fault, user: User) -> bool:
    if fault.path == "listing out of order":  # needs a second page
        return user.name == "list"
    if fault.path in ("replaced midway", "deleted midway"):  # needs a second request for one object
        return user.name in ("reader", "safetensors load")
    if fault.path == "range ignored":  # the whole object is what they ask for, in one range
        return user in CLIENT or user.name in ("reader", "DCP load", "safetensors load")
    return True


def run(cell: Cell, site: Site) -> str:
    """Let the fault strike while the user works; return how it ended, or fail."""
    server = site.bucket.server
    options = {"after": 0, **cell.fault.options}
    server.reset_counters()
    server.fail(
        cell.operation,
        cell.fault.effect or cell.fault.name,
        bucket=site.bucket.name,
        times=None if cell.stays else 1,
        **options,  # type: ignore[arg-type]
    )
    ending = end(cell.user, site, cell.ending, cell.operation, named=cell.fault.path in ANSWERED)
    assert server.counters(with_log=False).faults, "the fault did not strike"
    server.clear_faults()
    # a writer can't tell its own upload, of which it was never told, from that of another writer of the same key
    is_lost = cell.operation == "InitiateMultipartUpload" and (cell.stays or not cell.user.through_dcp)
    check_bucket(cell.user, site, may_leak=is_lost)
    return ending


def end(user: User, site: Site, expected: Ending, operation: str, *, named: bool) -> str:
    """Let the user work, and return how it ended, which must be as expected."""
    try:
        is_right = user.work(site)
    except BaseException as error:  # DCP's is no Exception
        if expected in (HARMLESS, UNDETECTABLE):
            raise
        assert isinstance(expected, type)
        assert_nothing_exposed(error, SECRETS)
        # an object put together of ranges has no one request that brought it
        of_ranges = user in LIBRARY and expected is OssIntegrityError
        facts = [] if of_ranges else ["attempt", *(["request id"] * named)]
        check_error(error, expected, user, [operation, site.bucket.name, *facts])
        return expected.__name__
    if expected == UNDETECTABLE:
        assert not is_right, "it has become detectable"
        return UNDETECTABLE
    assert is_right, "wrong bytes, or a sample lost or doubled"
    assert expected == HARMLESS, f"ended well, instead of in {expected}"
    return "right"


def check_error(error: BaseException, expected: type[OssError], user: User, words: list[str]) -> None:
    """Check the type of an error, and that its text says what a user needs; what is not of ours is raised again."""
    text = str(error)
    if user.through_dcp:  # wraps the text, sometimes without the type's name
        if words[0] not in text:
            raise error
    elif not isinstance(error, expected):
        raise error
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"


def check_bucket(user: User, site: Site, *, may_leak: bool) -> None:
    """Nothing is half there: an object is the old one or the new one, and no part is left."""
    bucket = site.bucket
    keys = bucket.keys()
    if "old" in keys:
        assert bucket.get("old") in (b"old", DATA, LARGE, TENSORS_FILE)
    else:
        assert user.name in ("delete", "delete many")
    assert len([key for key in keys if key.startswith("crowd/")]) >= len(CROWD) - 1
    if user in LIBRARY and not may_leak:
        assert bucket.server.uploads(bucket.name) == []


# --- what happens to whole servers


def with_server_down(user: User, site: Site) -> str:
    site.bucket.server.kill()
    try:
        return end(user, site, OssConnectionError, "oss://", named=False)
    finally:
        site.bucket.server.start()


def with_server_gone_and_back(user: User, site: Site) -> str:
    site.configure(maxAttempts=1000, operationTimeout=40, retryMaxDelay=0.05)
    # one that starts anew knows no keys but its own
    write_credentials(Path(site.bucket.cred_path), site.bucket.server.credentials)
    site.bucket.server.kill()
    # not while workers are forked: they would hold the pipes on which the server tells that it has started
    back = threading.Timer(1.0 if user.in_workers else 0.0, site.bucket.server.start)
    back.start()
    try:
        return end(user, replace(site), HARMLESS, "oss://", named=False)
    finally:
        back.join()


def with_unknown_host(user: User, site: Site) -> str:
    elsewhere = replace(site, endpoint="http://oss-cn-nowhere.invalid")
    return end(user, elsewhere, OssConnectionError, "oss://", named=False)


def with_wrong_clock(user: User, site: Site) -> str:
    site.bucket.server.set_clock(3600)
    return end(user, site, HARMLESS, "oss://", named=False)


def with_hanging_credentials(user: User, site: Site) -> str:
    """The file is a pipe to which nobody writes, as good as one on a server that is gone."""
    pipe = Path(site.bucket.cred_path).with_name("pipe")
    os.mkfifo(pipe)
    try:
        user.work(replace(site, bucket=replace(site.bucket, cred_path=str(pipe))))
    except BaseException as error:
        assert_nothing_exposed(error, SECRETS)
        is_told = f"{pipe}: no answer within" in str(error)
        if not is_told or not (user.through_dcp or isinstance(error, OssCredentialsError)):
            raise
        return OssCredentialsError.__name__
    raise AssertionError("it read what was never written")


def with_dead_connections(death: Death) -> Callable[[User, Site], str]:
    """All connections that were idle are dead, and a request may be sent only once."""

    def calamity(user: User, site: Site) -> str:
        site.configure(maxAttempts=1, retryBudget=0, readTimeout=1, operationTimeout=40)
        with Relay(site.bucket.server.port) as relay:
            client = replace(site, endpoint=relay.endpoint).client()
            shared = replace(site, shared=client)
            try:
                assert user.work(shared)
                forgotten = relay.forget(death)
                ending = end(user, shared, HARMLESS, "oss://", named=False)
                # workers, which end with their loader, leave none
                assert user.in_workers or 0 < relay.died <= forgotten
                return ending
            finally:
                client.close()

    return calamity


def with_first_addresses_dead(user: User, site: Site) -> str:
    """Of the host's addresses the first refuses connections, and the second leads nowhere."""
    site.configure(addressing="path", maxAttempts=1)
    with nobody() as refusing, black_hole() as silent:
        ports = (refusing, silent, site.bucket.server.port)
        tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        shared_book.learn("oss.invalid", 80, [(*tcp, ("127.0.0.1", port)) for port in ports], math.inf)
        try:
            return end(user, replace(site, endpoint="http://oss.invalid"), HARMLESS, "oss://", named=False)
        finally:
            shared_book.forget("oss.invalid", 80)


def with_process_stopped(user: User, site: Site) -> str:
    """The process, and its workers, are stopped in the middle of a request for longer than an operation may take."""
    site.configure(maxAttempts=1, retryBudget=0, readTimeout=3, operationTimeout=4)
    server = site.bucket.server
    server.fail(user.operations[0], "stall_head", bucket=site.bucket.name, times=1)
    ended = stop_when(lambda: user.work(site), lambda: server.counters(with_log=False).faults.total() > 0, seconds=5.5)
    assert ended, "the process ended wrong"
    check_bucket(user, site, may_leak=user.operations[0] == "InitiateMultipartUpload")
    return "right"


CALAMITIES: dict[str, Callable[[User, Site], str]] = {
    "connection refused": with_server_down,
    "server gone and back": with_server_gone_and_back,
    "unknown host": with_unknown_host,
    "clock skew": with_wrong_clock,
    "credentials that hang": with_hanging_credentials,
    "idle connections silent": with_dead_connections("silent"),
    "idle connections reset": with_dead_connections("reset"),
    "first addresses dead": with_first_addresses_dead,
    "process stopped": with_process_stopped,
}
