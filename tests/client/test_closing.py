"""A transport that is closed lets everything go, also what was being opened."""

from __future__ import annotations

import asyncio

import pytest
from client.scripted_server import ScriptedServer, hang

from osstorchconnector.client.engine import LoopThread
from osstorchconnector.client.transport.base import Timeouts, WireRequest
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.protocol.endpoint import Origin


@pytest.mark.parametrize("turns", range(12))
def test_a_request_that_is_given_up_at_any_moment_leaves_no_connection_behind(turns):
    # A loop may close the connection of a cancelled `create_connection` without telling the protocol.
    with ScriptedServer(*[[hang]] * 8) as server:

        async def give_up():
            transport = DirectTransport(Timeouts(connect_seconds=5, read_seconds=30), None)
            request = WireRequest(Origin("http", "127.0.0.1", server.port), "GET", "/k", [], ())
            deadline = asyncio.get_running_loop().time() + 30
            exchanges = [asyncio.ensure_future(transport.exchange(request, None, deadline)) for _ in range(8)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for exchange in exchanges:
                exchange.cancel()
            await asyncio.wait(exchanges)
            await asyncio.wait_for(transport.aclose(), 10)

        thread = LoopThread("test-loop")
        try:
            thread.run(give_up())
        finally:
            thread.stop()
