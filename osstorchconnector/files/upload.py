"""A multipart upload from its first part to its end: completed, or aborted however the program leaves it."""

from __future__ import annotations

import asyncio
import atexit
import enum
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import NamedTuple

from ..client.client import OssClient
from ..client.clocks import wait_running
from ..client.flight import RunningTasks
from ..client.limits import MOST_TRANSFERS
from ..client.memory import fresh_memory
from ..client.operations import Operations
from ..config import Concurrency
from ..errors import OssError
from ..protocol.attributes import PLAIN, Attributes
from ..protocol.values import BegunUpload, Buffer, StoredObject, UploadedPart
from ..uri import OssUri
from .part_sizes import LEAST_PARTS, PartTimes

# How long to wait until OSS knows that an upload was given up: after an error, and at the end of the interpreter.
ABORT_SECONDS, EXIT_SECONDS = 10.0, 5.0

_logger = logging.getLogger(__name__)


class UploadState(enum.Enum):
    """Where an upload stands. It ends once; what comes later has no effect.

    OPEN -- `complete` --> COMPLETED   the object is there
    OPEN -- `abort` -----> ABORTING    parts are being stopped, then OSS is told to forget them
    ABORTING ------------> ABORTED     OSS was told, or could not be told, which was logged
    """

    OPEN = "open"
    COMPLETED = "completed"
    ABORTING = "aborting"
    ABORTED = "aborted"


class _Sent(NamedTuple):
    """A part under way: its buffer, if it has one of ours, how many bytes of the caller's it uses, when it began."""

    memory: memoryview | None
    constant_bytes: int
    begun: float


class _Stored(NamedTuple):
    """A part that OSS has acknowledged, and when."""

    part: UploadedPart
    ended: float


class MultipartUpload:
    """Sends parts in parallel, at most `concurrency` parts and `memory_bytes` of memory at a time.

    With "auto" the memory decides, and what `PartTimes` finds enough. `attributes` are those of the object. With
    `forbid_overwrite`, `complete` raises `OssExistsError` if there is an object by then. With `begun`, parts are added
    to those of an earlier run, and `abort` leaves them.

    End it with `complete` or `abort`; abort it before dropping it. Everything is for one thread, except that finalisers
    and the end of the interpreter call `abort` and `wait_until_gone` in any thread.
    """

    def __init__(
        self,
        client: OssClient,
        uri: OssUri,
        *,
        concurrency: Concurrency,
        memory_bytes: int,
        workers: int,
        forbid_overwrite: bool = False,
        begun: BegunUpload | None = None,
        attributes: Attributes = PLAIN,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._client, self._uri, self._clock = client, uri, clock
        self._concurrency = MOST_TRANSFERS if concurrency == "auto" else concurrency
        self._memory_bytes, self._forbid_overwrite, self._attributes = memory_bytes, forbid_overwrite, attributes
        self._tasks = RunningTasks[_Sent, _Stored](client, workers)
        self._completion = RunningTasks[None, StoredObject](client, workers)  # the last request
        self._created: Future[str] | None = None
        self._parts: list[UploadedPart] = []
        self._free: list[memoryview] = []  # buffers of parts that were sent
        self._used_bytes = 0  # of buffers (lent, under way, free) and of the caller's bytes under way
        self._times = PartTimes()
        self._state = UploadState.OPEN
        self._is_gone = threading.Event()  # set by a loop thread when ABORTED; others wait for it
        self._pid = os.getpid()
        self._is_kept = begun is not None
        if begun is not None:
            self._parts += begun.parts
            self._created = Future()
            self._created.set_result(begun.upload_id)
            _remember(self)

    def memory(self, size_bytes: int) -> memoryview:
        """Lend a buffer for a part: that of a part which was sent, or a new one. Waits for a part to end if needed."""
        self._collect()
        while True:
            while self._free:
                memory = self._free.pop()
                if len(memory) == size_bytes:
                    return memory
                self._used_bytes -= len(memory)
            if not self._tasks or (self._used_bytes + size_bytes <= self._memory_bytes and not self._has_enough()):
                break
            self._wait_for_one()
        self._used_bytes += size_bytes
        return fresh_memory(size_bytes).getbuffer()

    def next_part_bytes(self, first_bytes: int, sent_bytes: int) -> int:
        """Return the size of the part after `sent_bytes`, when the first had `first_bytes`, as of the parts so far."""
        return self._times.next_part_bytes(first_bytes, sent_bytes)

    def adopt(self, memory: memoryview) -> None:
        """Count a buffer that the caller made as one lent by `memory`."""
        self._used_bytes += len(memory)

    def wait_for_room(self, size_bytes: int) -> None:
        """Wait until one more part is of use, and there is room for it: as `memory` does, for bytes of others."""
        self._collect()
        while self._tasks and (self._used_bytes + size_bytes > self._memory_bytes or self._has_enough()):
            self._wait_for_one()

    def send(self, memory: memoryview | None, body: Sequence[Buffer], crc64: int | None, held_bytes: int = 0) -> None:
        """Begin to send a part: views of a lent buffer, which this gives back, and `held_bytes` that nobody changes.

        `crc64` is that of the part, if it is known. Waits while too many parts, or too many bytes, are under way.
        Raises the error of an earlier part.
        """
        self._begin_part(tuple(body), memory, held_bytes, crc64)

    def send_constant(self, views: Sequence[Buffer], crc64: int | None = None) -> None:
        """Begin to send a part made of several blocks, which nobody changes; waits and raises as `send`.

        `crc64` is that of the part, if it is known already.
        """
        self._begin_part(tuple(views), None, sum(memoryview(view).nbytes for view in views), crc64)

    def begin(self, parts: int) -> None:
        """Prepare for `parts` parts or more, while the first one is still being filled; `send` does it at the latest.

        Asks OSS for the upload's id, and opens connections.
        """
        self._create()
        self._tasks.open_ahead(self._uri.bucket, min(parts, self._concurrency))

    def begin_completion(self) -> None:
        """Wait for all parts, then ask OSS to publish the object, without waiting for that. Raises a part's error."""
        while self._tasks:
            self._wait_for_one()
        self._free.clear()
        parts = sorted(self._parts, key=lambda part: part.number)
        upload_id = self._create().result()
        complete = functools.partial(_complete, self._uri, upload_id, parts, self._forbid_overwrite)
        self._completion.begin(None, complete)

    def complete(self) -> StoredObject:
        """Publish the object. Raises the error of a part, or of the last request."""
        if not self._completion:
            self.begin_completion()
        try:
            _, stored = self._completion.wait_for_one()
        except CancelledError:
            raise self._given_up() from None
        self._state = UploadState.COMPLETED
        return stored

    def abort(self) -> None:
        """Begin to give the upload up, unless it has ended: stop its parts, then tell OSS to forget them.

        This does not wait, so a finaliser may call it. Errors are logged: parts that OSS could not be told to forget
        stay until a lifecycle rule, or a clean-up, removes them.
        """
        if self._state is UploadState.OPEN and self._pid == os.getpid():  # in a forked child it is the parent's
            # Without a lock: of two threads at once both may come here. OSS is then told twice, which changes nothing.
            self._state = UploadState.ABORTING
            _aborting.add(self)
            self._tasks.stop(then=self._stop_completion)

    def wait_until_gone(self, seconds: float) -> bool:
        """After `abort`: wait until OSS has been told; False if that takes longer."""
        if self._state in (UploadState.ABORTING, UploadState.ABORTED):
            if not wait_running(self._is_gone.wait, seconds):
                return False
            self._let_go()
        return True

    def _let_go(self) -> None:
        """Drop the parts' memory now, and not when the garbage collector finds the reference cycles."""
        self._created = None  # drop the reference cycle: future -> its callback, a method of this upload
        self._free.clear()
        self._tasks.forget()
        self._completion.forget()

    @property
    def stored_bytes(self) -> int:
        """How many bytes OSS has acknowledged, as of the last part that was waited for."""
        return sum(part.size for part in self._parts)

    # parts

    def _begin_part(
        self, body: tuple[Buffer, ...], memory: memoryview | None, constant_bytes: int, crc64: int | None = None
    ) -> None:
        self._collect()
        while self._tasks and not self._has_room_for(constant_bytes):
            self._wait_for_one()
        number = len(self._parts) + len(self._tasks) + 1
        send = functools.partial(_send_part, self._uri, self._create(), number, body, crc64, self._clock)
        self._used_bytes += constant_bytes
        self._tasks.begin(_Sent(memory, constant_bytes, self._clock()), send)

    def _create(self) -> Future[str]:
        """Begin the upload, if that was not done; return the future of its id."""
        if self._created is None:
            _remember(self)
            # Set before the request begins: an `abort` from now on waits for the id of the upload.
            created = self._created = Future()
            try:
                create = functools.partial(_create, self._uri, self._attributes, created, self._times, self._clock)
                self._client.submit(create)
            except Exception as error:
                created.set_exception(error)  # `abort` waits for it
                raise
        return self._created

    def _has_room_for(self, more_bytes: int) -> bool:
        return len(self._tasks) < self._concurrency and self._used_bytes + more_bytes <= self._memory_bytes

    def _has_enough(self) -> bool:
        """Say whether the parts under way are enough for the network, so that more would only take memory."""
        is_begun = self._created is None or self._created.done()
        return len(self._tasks) >= (self._times.enough if is_begun else LEAST_PARTS)

    def _collect(self) -> None:
        while self._tasks.has_ended_task:
            self._wait_for_one()

    def _wait_for_one(self) -> None:
        try:
            sent, (part, ended) = self._tasks.wait_for_one()
        except CancelledError:
            raise self._given_up() from None
        self._parts.append(part)
        self._times.note(ended - sent.begun, part.size)
        self._used_bytes -= sent.constant_bytes
        if sent.memory is not None:
            self._free.append(sent.memory)

    def _given_up(self) -> OssError:
        return OssError(f"the upload of {self._uri.shown} was given up while it was being written")

    # giving up: called by the thread that ends last, which is the caller's of `abort` or a loop thread

    def _stop_completion(self) -> None:
        self._completion.stop(then=self._abort_when_created)

    def _abort_when_created(self) -> None:
        if self._created is None or self._is_kept:
            self._gone(None)
        else:
            self._created.add_done_callback(self._abort_now)

    def _abort_now(self, created: Future[str]) -> None:
        if _error_of(created) is not None:
            self._gone(None)
            return
        try:
            aborted = self._client.submit(functools.partial(_abort, self._uri, created.result()))
        except RuntimeError as error:  # the loops have ended: the interpreter is going down
            self._gone(error)
        else:
            aborted.add_done_callback(lambda future: self._gone(_error_of(future)))

    def _gone(self, error: BaseException | None) -> None:
        if error is not None:
            shown = self._uri.shown
            _logger.warning("the upload of %s was given up, but its parts may still be stored: %s", shown, error)
        _aborting.discard(self)
        self._state = UploadState.ABORTED
        self._is_gone.set()


async def _create(
    uri: OssUri,
    attributes: Attributes,
    created: Future[str],
    times: PartTimes,
    clock: Callable[[], float],
    operations: Operations,
) -> None:
    begun = clock()
    try:
        upload_id = await operations.create_upload(uri, attributes=attributes)
        times.note_creation(clock() - begun)
        created.set_result(upload_id)
    except BaseException as error:
        created.set_exception(error)
        del created  # drop the reference cycle: exception -> traceback -> frame -> future
        raise


async def _send_part(
    uri: OssUri,
    created: Future[str],
    number: int,
    body: tuple[Buffer, ...],
    crc64: int | None,
    clock: Callable[[], float],
    operations: Operations,
) -> _Stored:
    # Shielded: cancelling this part must not cancel the future of the id, which the abort needs.
    try:
        upload_id = await asyncio.shield(asyncio.wrap_future(created))
    finally:
        del created  # drop the reference cycle: exception -> traceback -> frame -> future
    part = await operations.upload_part(uri, upload_id, number, body, crc64=crc64)
    return _Stored(part, clock())


async def _complete(
    uri: OssUri, upload_id: str, parts: list[UploadedPart], forbid_overwrite: bool, operations: Operations
) -> StoredObject:
    return await operations.complete_upload(uri, upload_id, parts, forbid_overwrite=forbid_overwrite)


async def _abort(uri: OssUri, upload_id: str, operations: Operations) -> None:
    await operations.abort_upload(uri, upload_id)


def _error_of(future: Future[str] | Future[None]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


# For the interpreter's exit: uploads that were begun, and strong references to those that are being aborted, which
# keep them alive until OSS was told. Loop threads discard from the set without a lock: the GIL makes one call atomic.
_begun: weakref.WeakSet[MultipartUpload] = weakref.WeakSet()
_aborting: set[MultipartUpload] = set()
_is_exit_watched = False


def _remember(upload: MultipartUpload) -> None:
    global _is_exit_watched
    _begun.add(upload)
    if not _is_exit_watched:
        _is_exit_watched = True
        atexit.register(_abort_all)  # registered after the engine's handler, so called before it stops the loops


def _abort_all() -> None:
    for upload in list(_begun):
        upload.abort()
    uploads = list(_aborting)
    wait_running(lambda seconds: all(upload.wait_until_gone(seconds) for upload in uploads), EXIT_SECONDS)
