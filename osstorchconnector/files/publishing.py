"""What all files have that are open for writing: their object appears when they are closed, or not at all."""

from __future__ import annotations

import enum
import logging
import os
import weakref
from types import TracebackType
from typing import Any, NoReturn

from ..client.client import OssClient
from ..config import TransferConfig
from ..errors import OssError, OssUsageError
from ..redaction import printable
from ..uri import OssUri
from .named_file import NamedFile

_logger = logging.getLogger(__name__)


class WriterState(enum.Enum):
    """Where a writer stands.

    OPEN ---- an error while bytes are taken ----> FAILED    nothing more is taken, and nothing can be stored
    OPEN ---- `close`, `discard` ----------------> CLOSED    `close` has stored the object, or raised
    FAILED -- `close` (raises), `discard` -------> CLOSED
    """

    OPEN = "open"
    FAILED = "failed"
    CLOSED = "closed"


class PublishingFile(NamedFile):
    """A file whose object appears, or is replaced, when it is closed, and only if nothing went wrong before.

    A subclass takes bytes (`_take`), stores the object (`_publish`) and undoes what was begun (`_give_up`).
    """

    def __init__(self, client: OssClient, uri: OssUri, *, transfer: TransferConfig) -> None:
        super().__init__(uri)
        self._client, self._transfer = client, transfer
        self._state = WriterState.OPEN
        # The first error as a text: a stored exception would keep its frames alive, and they keep this writer alive.
        self._failure = ""
        self._unclosed: weakref.finalize[..., PublishingFile] | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self._uri)!r}, {self._stands()}>"

    @property
    def closed(self) -> bool:
        """True after `close` or `discard`."""
        return self._state is WriterState.CLOSED

    def writable(self) -> bool:
        """Return True; `ValueError` if closed."""
        self._check_open()
        return True

    def flush(self) -> None:
        """Do nothing: `close` stores the object, all at once. Raises `ValueError` if closed."""
        self._check_open()

    def write(self, data: Any, /) -> int:
        """Write all bytes of `data`, any contiguous buffer, and return their number.

        `data` may be changed as soon as this returns. Raises `TypeError` for something that is not a buffer,
        `BufferError` for a buffer that is not contiguous, `ValueError` if closed, and `OssError` if this or an earlier
        write failed: then `close` raises, too, and stores nothing.
        """
        self._check_usable()
        view = memoryview(data)
        if not view.c_contiguous:
            raise BufferError("write() needs a contiguous buffer")
        size = view.nbytes
        if self._unclosed is None:
            self._watch()
        try:
            if size:
                self._take(view.cast("B"), is_constant=isinstance(data, bytes))
        except BaseException as error:  # an interrupt too: part of `data` may have been taken
            self._fail(error)
            raise
        return size

    def close(self) -> None:
        """Store the object and close the writer. Closing it again does nothing.

        Raises `OssError`, and stores nothing, if the object can't be stored or an earlier write failed.
        """
        if self.closed:
            return
        try:
            self._check_usable()
            self._publish()
        except BaseException as error:
            self._fail(error)
            self._give_up()
            raise
        finally:
            self._end()

    def discard(self) -> None:
        """Close the writer and store nothing. An object that exists already stays as it was."""
        if not self.closed:
            self._end()
            self._give_up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"a writer can't be pickled, no more than an open file ({self._uri})")

    # what a subclass does

    def _take(self, view: memoryview, *, is_constant: bool) -> None:
        """Take bytes, at least one. Nobody changes them if `is_constant`; otherwise they are read now."""
        raise NotImplementedError

    def _publish(self) -> None:
        """Store the object."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Undo what was begun: nothing will be stored."""

    def _stands(self) -> str:
        """Return what a person wants to know of where the writer stands."""
        if self._state is WriterState.OPEN:
            return "open: nothing is stored before it is closed"
        return self._state.value if not self._failure else f"{self._state.value}: {printable(self._failure)}"

    def _end(self) -> None:
        """Close: let the memory go, and the warning that the writer was never closed."""
        self._state = WriterState.CLOSED
        self._unwatch()

    # the state

    def _watch(self) -> None:
        """Log a warning if this writer becomes garbage, or the interpreter ends, before it is closed."""
        self._unclosed = weakref.finalize(self, _warn_unclosed, self._uri.shown, self._pid)

    def _unwatch(self) -> None:
        if self._unclosed is not None:
            self._unclosed.detach()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or str(error) or type(error).__name__
        self._state = WriterState.FAILED

    def _check_usable(self) -> None:
        self._check_open()
        if self._pid != os.getpid():
            raise self._of_another_process()
        if self._state is WriterState.FAILED:
            raise OssError(f"an earlier write to {self._uri.shown} failed, nothing is stored: {self._failure}")

    def _of_another_process(self) -> OssUsageError:
        return OssUsageError(f"the writer of {self._uri.shown} belongs to another process: write where it was made")


def _warn_unclosed(uri: str, pid: int) -> None:
    if pid == os.getpid():  # a forked child has a copy of the writer, which nobody has to close
        _logger.warning("the writer of %s was never closed, so nothing was stored: write in a `with` block", uri)
