"""Whether a writer's save is in flight, and on which thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import OssUsageError

# How long a thread may take to end when there is nothing left for it to do but to say so.
ENDING_SECONDS = 0.5


class InFlight:
    """A writer's one save at a time: whoever else comes while it runs is refused, in the name of `who`.

    A save is over when its writing fails, when it was published, and where nothing more will be asked of the writer.
    What is not seen from here is another rank's failure: then it is over when its thread has ended or begins anew.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._is_writing, self._is_over = False, True

    def begin(self, who: object) -> None:
        """A save begins on this thread."""
        self.check_over(who)
        self._thread, self._is_over = threading.current_thread(), False

    def end(self) -> None:
        """The save is over."""
        self._is_over = True

    @contextmanager
    def writing(self, who: object) -> Iterator[None]:
        """This thread writes the data; if that fails, the save is over."""
        self.begin(who)
        self._is_writing = True
        try:
            yield
        except BaseException:
            self._is_over = True
            raise
        finally:
            self._is_writing = False

    def check_over(self, who: object) -> None:
        """Raise `OssUsageError` if the save may still go on."""
        if not self._is_over and self.may_go_on():
            raise OssUsageError(
                f"{who!r} is still saving: wait for that save, or use a writer (and a process group) of its own"
            )

    def may_go_on(self) -> bool:
        """Say whether the save's thread runs, and is another than this: it may be over here and go on elsewhere."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        if not self._is_writing:
            thread.join(ENDING_SECONDS)
        return thread.is_alive()
