"""A relay before a server that forgets connections, as NATs and load balancers do: it breaks them, or says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal

from osstorchconnector.client.engine import LoopThread

Death = Literal["silent", "reset"]


class Relay:
    """Passes on what comes for `port`. All connections that are open when `forget` is called are dead from then on."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._thread = LoopThread("relay")
        self._open: set[_Passing] = set()
        self._server: asyncio.Server | None = None
        self.endpoint = ""
        self.died = 0  # connections on which something was sent after they were forgotten

    def __enter__(self) -> Relay:
        self._thread.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._end())
        self._thread.stop()

    def forget(self, death: Death) -> int:
        """Return how many connections are forgotten."""
        return self._thread.run(self._forget(death))

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        for passing in list(self._open):
            passing.close()

    async def _forget(self, death: Death) -> int:
        for passing in self._open:
            passing.death = death
        return len(self._open)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        passing = _Passing(writer, there[1])
        self._open.add(passing)
        back = asyncio.ensure_future(self._pump(there[0], writer, passing))
        try:
            await self._pump(reader, there[1], passing)
        finally:
            self._open.discard(passing)
            passing.close()
            back.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: _Passing) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop's name for a connection that is closed
            while data := await reader.read(1 << 16):
                if passing.death is None:
                    writer.write(data)
                    await writer.drain()
                    continue
                self.died += not passing.was_missed
                passing.was_missed = True
                if passing.death == "reset":
                    passing.reset()
                    return
            if passing.death is None:
                writer.write_eof()


class _Passing:
    """One connection through the relay."""

    def __init__(self, here: asyncio.StreamWriter, there: asyncio.StreamWriter) -> None:
        self._here, self._there = here, there
        self.death: Death | None = None
        self.was_missed = False

    def reset(self) -> None:
        self._here.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._here.transport.abort()
        self._there.transport.abort()
