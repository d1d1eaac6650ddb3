"""One client's connection: reads requests, passes on their bodies, sends answers step by step.

It runs on the loop's thread, when the loop says that the socket is readable or writable. `begin` turns a head into
`Work`, which takes the body and returns the steps of the answer. Every request is answered after its body has arrived,
even a refused one: if the server closed earlier, the reset could destroy the answer before the client reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ..errors import OssProtocolError
from ..protocol.chunked import ChunkedDecoder
from ..protocol.heads import MAX_HEAD_BYTES, RequestHead, parse_request_head
from .blobs import BlobFolder, BlobSpan
from .refusals import Refused
from .sockets import Channel
from .wakeups import WakeUp, WakeUps
from .wire import FOREVER, Early, Hangup, Pause, Step, Until

RECEIVE_BYTES = 256 * 1024
_TURN_BYTES = 4 * 1024 * 1024
_LOOK_SECONDS = 0.2
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TLS_HANDSHAKE = 0x16
# OSS answers these without reading the body that they announce; many clients announce one and never send it.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})
# How long the server reads and drops what a client still sends after the answer.
_LINGER_SECONDS = 2.0
_INSTEAD_OF_BYTES = (Pause, Hangup, Until)  # a constant: `Pause | Hangup | Until` would be made anew for each step
_NOT_HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Work(Protocol):
    """One request, from its head to the last byte of its answer."""

    def receive(self, data: memoryview) -> Pause | Hangup | Early | Until | None:
        """Take a block of the body; return what a fault or the network does to the rest."""

    def refuse(self, refused: Refused) -> None:
        """Remember that the body can't be read, or that the request is one too many."""

    def answer(self) -> Iterable[Step]:
        """Return the steps of the answer; the body is complete."""

    def ended(self, sent: int) -> None:
        """Release all resources and count the request; `sent` bytes of its answer were sent."""


class ServerConnection:
    """An accepted connection; registers itself with the loop, and unregisters when it closes.

    `is_paused` is true while a fault holds it up. It reads nothing before it is `usable_at`.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        loop: asyncio.AbstractEventLoop,
        wake_ups: WakeUps,
        usable_at: float,
        begin: Callable[[RequestHead], Work],
        forget: Callable[[ServerConnection], None],
        blobs: BlobFolder,
        scratch: memoryview,
    ) -> None:
        self._channel, self._loop, self._begin, self._forget = channel, loop, begin, forget
        self._wake_ups, self._blobs, self._scratch = wake_ups, blobs, scratch
        self._buffer = bytearray(MAX_HEAD_BYTES)
        self._filled = 0
        self._work: Work | None = None
        self._keep_alive = True
        self._body_left = 0
        self._decoder: ChunkedDecoder | None = None
        self._steps: Iterator[Step] | None = None
        self._step: Step | memoryview | None = None  # being sent, or its rest
        self._ahead: Step | None = None  # the next one
        self._sent = 0
        self._timer: asyncio.TimerHandle | WakeUp | None = None
        self.is_paused = self._is_reading = self._is_writing = self._is_closed = self._is_at_end = False
        self._leaves_bytes = self._is_lingering = False
        if usable_at:
            self._obey(Until(usable_at))
        else:
            self._watch_reads(True)

    def close(self, *, with_reset: bool = False) -> None:
        """Close the connection and release the resources of an unfinished request."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stop_timer()
        self._watch_reads(False)
        self._watch_writes(False)
        self._channel.close(with_reset=with_reset)
        self._end_work()
        self._forget(self)

    def close_if_lost(self) -> None:
        """Close if the peer has reset the connection and the loop has not reported it."""
        if self._channel.is_lost():
            self.close()

    # --- reading

    def _on_readable(self) -> None:
        try:
            while True:
                if self._is_lingering:
                    self._read_away()
                elif self._steps is not None:
                    self._read_ahead()
                elif self._work is not None:
                    self._read_body()
                else:
                    self._read_head()
                self._serve()
                if not (self._is_reading and self._channel.has_pending()):
                    break
        except OSError:
            self.close()
        except BaseException:
            self.close(with_reset=True)
            raise

    def _read_head(self) -> None:
        count = self._channel.receive(memoryview(self._buffer)[self._filled :])
        if count == 0:
            self.close()
        elif count:
            self._filled += count

    def _read_ahead(self) -> None:
        """Read while an answer is being sent: more requests, or the end of the stream."""
        if self._filled == len(self._buffer):
            self._watch_reads(False)
            return
        count = self._channel.receive(memoryview(self._buffer)[self._filled :])
        if count:
            self._filled += count
        elif count == 0:
            self._is_at_end = True
            self._watch_reads(False)
            if self.is_paused:
                self.close()

    def _read_away(self) -> None:
        """Read and drop what arrives, until the client closes."""
        if self._channel.receive(self._scratch) == 0:
            self.close()

    def _read_body(self) -> None:
        budget = _TURN_BYTES
        while budget > 0 and self._steps is None and self._is_reading and self._work is not None:
            most = RECEIVE_BYTES if self._decoder is not None else min(self._body_left, RECEIVE_BYTES)
            count = self._channel.receive(self._scratch[:most])
            if not count:
                if count == 0:
                    self.close()
                return
            budget -= count
            self._take_body(self._scratch[:count])

    def _serve(self) -> None:
        """Answer the requests whose heads are in the buffer, until one is not done at once."""
        while self._filled and self._work is None and not self._is_closed:
            try:
                parsed = parse_request_head(self._buffer, self._filled)
            except OssProtocolError:
                self._refuse_what_is_no_http()
                return
            if parsed is None:
                if self._buffer[0] == _TLS_HANDSHAKE:  # the peer waits for our answer, and no head would ever end
                    self._refuse_what_is_no_http()
                return
            head, start = parsed
            rest = self._buffer[start : self._filled]
            self._filled = 0
            self._start(head, rest)

    def _refuse_what_is_no_http(self) -> None:
        self._keep_alive, self._leaves_bytes = False, True
        self._filled = 0
        self._steps = iter((_NOT_HTTP,))
        self._pump()

    def _start(self, head: RequestHead, rest: bytearray) -> None:
        is_whole = not head.chunked and len(rest) >= (head.content_length or 0)
        self._leaves_bytes = not is_whole and head.method in _WITHOUT_BODY
        if self._leaves_bytes:
            head, rest = head._replace(keep_alive=False, content_length=0, chunked=False), bytearray()
        self._work = self._begin(head)
        self._keep_alive, self._sent = head.keep_alive, 0
        self._decoder = ChunkedDecoder() if head.chunked else None
        self._body_left = head.content_length or 0
        if head.expect_continue and not rest and self._has_body_left():
            self._channel.send(_CONTINUE)
        if rest or self._has_body_left():
            self._take_body(memoryview(rest))
        else:
            self._answer_if_whole()

    def _has_body_left(self) -> bool:
        return not self._decoder.is_done if self._decoder is not None else self._body_left > 0

    def _take_body(self, data: memoryview) -> None:
        """Pass the next bytes to the work; bytes after the body wait in the buffer."""
        work, decoder = self._work, self._decoder
        assert work is not None
        pieces: list[memoryview] = []
        if decoder is None and not self._body_left:
            rest = data
        elif decoder is None:
            pieces, rest = [data[: self._body_left]], data[self._body_left :]
            self._body_left -= len(pieces[0])
        else:
            try:
                pieces = decoder.feed(data)
            except OssProtocolError as error:
                work.refuse(Refused("BadRequest", str(error)))
                self._keep_alive, self._leaves_bytes, decoder.is_done = False, True, True
            rest = memoryview(decoder.rest)
        for piece in pieces:
            self._mind(work.receive(piece))
        if not self._has_body_left() and not self._is_closed:
            self._buffer[: len(rest)] = rest
            self._filled = len(rest)
            self._answer_if_whole()

    def _answer_if_whole(self) -> None:
        """Begin the answer if the body is complete, unless a fault holds it up."""
        if self._work is None or self._steps is not None or self.is_paused or self._has_body_left():
            return
        steps = self._work.answer()
        self._steps = iter(steps)
        if type(steps) is tuple and len(steps) == 1 and type(steps[0]) is bytes:  # most answers are one block
            self._sent = self._channel.send(steps[0]) or 0
            if self._sent == len(steps[0]):
                self._finish_answer()
                return
            self._steps, self._step = iter(()), memoryview(steps[0])[self._sent :]
        self._pump()

    def _mind(self, wanted: Pause | Hangup | Early | Until | None) -> None:
        """Do what a fault or the network does while a body arrives."""
        if self._is_closed or wanted is None:
            return
        if isinstance(wanted, Early):
            self._keep_alive, self._body_left, self._decoder = False, 0, None
        elif isinstance(wanted, Until):
            if self._has_body_left() and not self.is_paused:
                self._watch_reads(False)
                self._obey(wanted)
        else:
            self._obey(wanted)
            if self.is_paused:
                self._watch_reads(False)
                self._look_after_peer()

    def _look_after_peer(self) -> None:
        """Check regularly whether the peer has closed, since a paused connection reads nothing that would show it."""
        if self._is_closed or not self.is_paused:
            return
        if self._channel.is_abandoned():
            self.close()
        else:
            self._loop.call_later(_LOOK_SECONDS, self._look_after_peer)

    # --- sending

    def _on_writable(self) -> None:
        self._watch_writes(False)
        self._go_on()

    def _go_on(self) -> None:
        try:
            if self._steps is not None:
                self._pump()
            else:
                self._answer_if_whole()
            self._serve()
        except OSError:
            self.close()
        except BaseException:
            self.close(with_reset=True)
            raise

    def _pump(self) -> None:
        """Send as many steps as the socket accepts, the rest when it is writable again."""
        budget = _TURN_BYTES
        step = self._step if self._step is not None else self._next_step()
        while step is not None:
            if isinstance(step, _INSTEAD_OF_BYTES):
                self._step = None
                self._obey(step)
                return
            if self._ahead is None and not isinstance(step, BlobSpan):
                self._ahead = self._next_step()
            count = self._send(step)
            self._sent += count
            budget -= count
            step = self._rest_of(step, count)
            if step is not None or budget <= 0:
                self._step = step
                self._watch_writes(True)
                return
            step = self._next_step()
        self._finish_answer()

    def _next_step(self) -> Step | None:
        step, self._ahead = self._ahead, None
        if step is None and self._steps is not None:
            step = next(self._steps, None)
        return step

    def _send(self, step: bytes | memoryview | BlobSpan) -> int:
        """Send as much of a step as the socket accepts; a head goes in one call with the beginning of its file."""
        if isinstance(step, BlobSpan):
            return self._channel.send(self._blobs.view(step)) or 0
        if isinstance(self._ahead, BlobSpan):
            return self._channel.send_both(step, self._blobs.view(self._ahead)) or 0
        return self._channel.send(step) or 0

    def _rest_of(self, step: bytes | memoryview | BlobSpan, sent: int) -> memoryview | BlobSpan | None:
        """Return the rest of a step, or of the next one, after `sent` bytes of both were sent."""
        if not isinstance(step, BlobSpan) and sent > len(step):
            assert isinstance(self._ahead, BlobSpan)
            step, sent, self._ahead = self._ahead, sent - len(step), None
        if isinstance(step, BlobSpan):
            start = step.start + sent
            return BlobSpan(step.blob, start, step.stop) if start < step.stop else None
        return memoryview(step)[sent:] if sent < len(step) else None

    def _finish_answer(self) -> None:
        self._steps = self._step = None
        self._end_work()
        if self._leaves_bytes and not self._is_at_end and not self._is_closed:
            self._linger()
        elif not self._keep_alive or self._is_at_end:
            self.close()
        else:
            self._watch_reads(True)

    def _linger(self) -> None:
        """End our side and wait for the client. To close while it still sends would reset the answer."""
        self._is_lingering, self._filled = True, 0
        self._channel.end()
        self._timer = self._loop.call_later(_LINGER_SECONDS, self.close)
        self._watch_reads(True)

    def _end_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.ended(self._sent)

    # --- waiting

    def _obey(self, wanted: Pause | Hangup | Until) -> None:
        """Close, or pause for some time, or pause until the peer closes."""
        if isinstance(wanted, Hangup):
            self.close(with_reset=wanted.with_reset)
            return
        self._stop_timer()
        if isinstance(wanted, Until):
            self._timer = self._wake_ups.at(wanted.time, self._resume)
            return
        self.is_paused = True
        if wanted.seconds != FOREVER:
            self._timer = self._loop.call_later(wanted.seconds, self._resume)

    def _resume(self) -> None:
        self._stop_timer()
        if self._steps is None:
            self._watch_reads(True)
        self._go_on()

    def _stop_timer(self) -> None:
        self.is_paused = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_reads(self, wanted: bool) -> None:
        if wanted != self._is_reading:
            self._is_reading = wanted
            if wanted:
                self._loop.add_reader(self._channel.fileno(), self._on_readable)
            else:
                self._loop.remove_reader(self._channel.fileno())

    def _watch_writes(self, wanted: bool) -> None:
        if wanted != self._is_writing:
            self._is_writing = wanted
            if wanted:
                self._loop.add_writer(self._channel.fileno(), self._on_writable)
            else:
                self._loop.remove_writer(self._channel.fileno())
